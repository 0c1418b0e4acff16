"""The whole stack, driven: what an operator relies on."""

import re

import httpx
import pytest

from tests.heart.predictions.logs import until
from tests.stack.conftest import REPLICAS
from tests.stack.drive import PATIENT, client, health, kept
from tests.stack.engine import Stack, docker, inspected, run

pytestmark = pytest.mark.stack


# The pipeline's way into the registry


def test_the_pipeline_registers_what_the_operator_committed(stack: Stack) -> None:
    commit = run("git", "-C", str(stack.repository), "rev-parse", "HEAD").strip()
    admin = ("admin", stack.values["MLFLOW_ADMIN_PASSWORD"])

    answer = httpx.get(
        f"{stack.url('MLFLOW_PORT')}/api/2.0/mlflow/registered-models/alias",
        params={"name": "heart-disease", "alias": "champion"}, auth=admin, timeout=30,
    ).json()  # fmt: skip

    tags = {tag["key"]: tag["value"] for tag in answer["model_version"]["tags"]}
    assert tags["git_commit"].startswith(commit)
    with client(stack) as http:
        assert http.get("/model").json()["sha256"] == tags["model_sha256"]


def test_data_and_artifacts_are_in_the_buckets(stack: Stack) -> None:
    code = (
        "import boto3; s3 = boto3.client('s3');"
        "print(*(s3.list_objects_v2(Bucket=b)['KeyCount'] for b in ('dvc', 'mlflow')))"
    )
    data, artifacts = stack.inside("mlflow", "python", "-c", code).split()

    assert int(data) >= 10
    assert int(artifacts) >= 10


# Nothing is anonymous


def test_app_requires_its_token(stack: Stack) -> None:
    for method, path in (("POST", "/predict"), ("POST", "/feedback"), ("GET", "/model")):
        answer = httpx.request(method, stack.url("APP_PORT") + path, json=PATIENT)
        assert answer.status_code == 401

    assert httpx.get(stack.url("APP_PORT") + "/metrics").status_code == 404
    assert httpx.get(stack.url("PAGE_PORT") + "/config").status_code == 401
    elsewhere = httpx.get(stack.url("APP_PORT") + "/health/live", headers={"Host": "example.org"})
    assert elsewhere.status_code == 421


def test_mlflow_requires_a_password_and_readers_cannot_write(stack: Stack) -> None:
    url = stack.url("MLFLOW_PORT") + "/api/2.0/mlflow/registered-models/"
    model = {"name": "heart-disease"}
    reader = ("serve", stack.values["MLFLOW_SERVE_PASSWORD"])

    assert httpx.get(url + "get", params=model).status_code == 401
    assert httpx.get(url + "get", params=model, auth=("serve", "wrong")).status_code == 401
    assert httpx.get(url + "get", params=model, auth=reader).status_code == 200
    moved = {**model, "alias": "champion", "version": "1"}
    assert httpx.post(url + "alias", json=moved, auth=reader).status_code == 403
    elsewhere = {"Host": "example.org"}
    refused = httpx.get(url + "get", params=model, auth=reader, headers=elsewhere)
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("user", "database", "password"),
    [
        ("heart", "heart", ""),
        ("heart", "heart", "wrong"),
        ("postgres", "postgres", ""),
        ("heart", "mlflow", "LOG_DB_PASSWORD"),
        ("mlflow", "heart", "MLFLOW_DB_PASSWORD"),
    ],
)
def test_postgres_requires_a_password_and_each_user_has_one_database(
    stack: Stack, user: str, database: str, password: str
) -> None:
    given = stack.values.get(password, password)
    code = (
        "import psycopg\n"
        f"try: psycopg.connect('host=postgres', user={user!r}, dbname={database!r}, password={given!r})\n"
        "except psycopg.OperationalError as error: print(error)"
    )
    message = stack.inside("app", "python", "-c", code)

    assert re.search("no password supplied|authentication failed|permission denied", message)


def test_buckets_require_a_key(stack: Stack) -> None:
    code = (
        "import urllib.request as http, urllib.error as e\n"
        "try: print(http.urlopen('http://s3:8333/dvc').status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    assert stack.inside("mlflow", "python", "-c", code).strip() == "403"


def test_prometheus_and_mlflow_are_reached_from_this_machine_only(stack: Stack) -> None:
    for service in ("prometheus", "mlflow"):
        ports = inspected(stack.containers(service)[0])["HostConfig"]["PortBindings"]
        assert {binding["HostIp"] for bound in ports.values() for binding in bound} == {"127.0.0.1"}


def test_retrainer_requires_its_token(stack: Stack) -> None:
    code = (
        "import urllib.request as http, urllib.error as e\n"
        "for path in ('hooks/grafana', 'status'):\n"
        "    data = b'{}' if path != 'status' else None\n"
        "    try: print(http.urlopen(f'http://retrainer:8001/{path}', data).status)\n"
        "    except e.HTTPError as error: print(error.code)"
    )
    until(lambda: health(stack, "retrainer") == "healthy", 120)

    assert stack.inside("app", "python", "-c", code).split() == ["401", "401"]


ALERT = """
import hashlib, hmac, json, os, sys, time, urllib.request as http
token, secret = sys.argv[1:]
body = json.dumps({"groupKey": "drift", "alerts": [
    {"status": "firing", "startsAt": "2026-01-01T00:00:00Z", "values": {"A": 3.1},
     "labels": {"alertname": "Feature drift", "route": "drift", "feature": "age"}}]}).encode()
now = str(int(time.time()))
signature = hmac.new(secret.encode(), now.encode() + b":" + body, hashlib.sha256).hexdigest()
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json",
           "X-Grafana-Alerting-Timestamp": now,
           "X-Grafana-Alerting-Signature": signature}
def ask(path, data=None):
    request = http.Request(f"http://retrainer:8001/{path}", data, headers)
    with http.urlopen(request, timeout=10) as answer:
        return json.load(answer)
print(ask("hooks/grafana", body)["status"])
while (status := ask("status"))["running"]:
    time.sleep(1)
print(status["runs"][0]["result"], status["runs"][0]["verdict"], sep="\\n")
"""


def test_an_alert_starts_a_retraining_which_waits_for_outcomes(stack: Stack) -> None:
    given = (stack.values["HEART_RETRAIN_TOKEN"], stack.values["HEART_RETRAIN_SECRET"])
    until(lambda: health(stack, "retrainer") == "healthy", 120)

    answer, result, verdict = stack.inside("app", "python", "-c", ALERT, *given).splitlines()

    assert (answer, result) == ("started", "waiting")
    assert verdict.startswith("No retraining: ")


# What people and programs get


def test_predictions_and_feedback_go_through_nginx_into_the_log(stack: Stack) -> None:
    with client(stack) as http:
        one = http.post("/predict", json=PATIENT).json()
        batch = http.post("/predict/batch", json={"patients": [PATIENT] * 500}).json()
        given = {
            "prediction_id": one["prediction_id"],
            "outcome": "presence",
            "source": "clinician",
        }
        message = http.post("/feedback", json=given)
        assert message.status_code == 200, message.text
        too_long = http.post("/predict", content=b" " * 10_000_000)

    ids = {one["prediction_id"], *(p["prediction_id"] for p in batch["predictions"])}
    assert len(ids) == 501
    assert ids <= kept(stack)
    told_of = stack.sql("SELECT prediction_id, outcome FROM outcomes").splitlines()
    assert f"{one['prediction_id']}|presence" in told_of
    assert too_long.status_code == 413


def test_requests_go_to_every_replica(stack: Stack) -> None:
    with client(stack) as http:
        for _ in range(60):
            assert http.post("/predict", json=PATIENT).status_code == 200

    counts = [answered(c) for c in stack.containers("app")]
    assert len(counts) == REPLICAS
    assert min(counts) > 0


def answered(container: str) -> float:
    """How many predictions a replica has answered."""
    code = "import urllib.request as h; print(h.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
    text = docker("exec", container, "python", "-c", code)
    sample = r'(?m)^heart_requests_total\{method="POST",route="/predict",status="200"\} (\S+)$'
    return sum(map(float, re.findall(sample, text)))


def test_a_browser_stays_logged_in_with_three_replicas(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url("PAGE_PORT"), timeout=60) as browser:
        until(lambda: browser.get("/").status_code == 200, 120)
        user = {"username": "anyone", "password": stack.values["HEART_API_TOKEN"]}
        assert browser.post("/login", data=user).status_code == 200

        for _ in range(20):
            assert browser.get("/config").status_code == 200


def test_prometheus_sees_every_replica(stack: Stack) -> None:
    def serving() -> list[str]:
        answer = httpx.get(
            stack.url("PROMETHEUS_PORT") + "/api/v1/query", params={"query": "heart:serving == 1"}
        ).json()
        return [series["metric"]["instance"] for series in answer["data"]["result"]]

    until(lambda: len(serving()) == REPLICAS, 120)
