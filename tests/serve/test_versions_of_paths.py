"""Each route of the API under /v1 and without it: the same answers, limits and metrics."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heart.http.concurrency import SHORT_BODY_BYTES
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts
from tests.serve.test_tokens import REQUESTS, SCOPES, SECRETS, TOKENS, bearer

V1 = "/v1"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def documented(client: TestClient) -> dict[tuple[str, str], Any]:
    paths = client.get("/openapi.json").json()["paths"]
    return {(m.upper(), path): o for path, ops in paths.items() for m, o in ops.items()}


def test_only_paths_with_a_version_are_documented_beside_the_probes(client: TestClient) -> None:
    paths = {path for _, path in documented(client)}

    assert {path for path in paths if not path.startswith(V1)} == {"/health/live", "/health/ready"}
    assert f"{V1}/predict" in paths


def test_every_operation_has_what_a_generated_client_needs(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operations = documented(client).values()

    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert operation["description"]
        for status, response in operation["responses"].items():
            schemas = [content["schema"] for content in response.get("content", {}).values()]
            assert schemas or status == "204", (operation["operationId"], status)
            assert all("$ref" in schema for schema in schemas), (operation["operationId"], status)
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["info"]["contact"]["name"]


def test_both_paths_give_the_same_answer_and_count_as_one_route(client: TestClient) -> None:
    answers = [client.post(f"{prefix}/predict", json=EXAMPLE).json() for prefix in ("", V1)]

    assert answers[0].pop("prediction_id") != answers[1].pop("prediction_id")
    assert answers[0] == answers[1]
    text = client.get("/metrics").text
    assert 'heart_requests_total{method="POST",route="/predict",status="200"} 2.0' in text
    assert V1 not in text


@pytest.mark.security
@pytest.mark.parametrize("prefix", ["", V1])
def test_limits_hold_on_both_paths(
    tmp_path: Path, prefix: str, security_figure: SecurityFigure
) -> None:
    options = parts(
        tmp_path, tokens=TOKENS, outcomes_per_minute=2, max_concurrent=1, max_body_bytes=20_000
    )
    app = create_app(*options, with_page=False)
    outcome = {"prediction_id": "0" * 32, "outcome": "presence", "source": "registry"}
    ward, lab = bearer(SECRETS["ward"]), bearer(SECRETS["lab"])
    with TestClient(app) as client:

        def status(path: str, headers: dict[str, str], **options: Any) -> int:
            return client.post(f"{prefix}{path}", headers=headers, **options).status_code

        json = {**ward, "content-type": "application/json"}
        rejected = {
            "anonymous": status("/predict", {}, json=EXAMPLE),
            "scope": status("/predict", lab, json=EXAMPLE),
            "type": status("/predict", ward, content=b"x"),
            "long": status("/predict", json, content=b" " * (SHORT_BODY_BYTES + 1)),
            "long batch": status("/predict/batch", json, content=b" " * 20_001),
            "value": status("/predict", ward, json={}),
            "query": status("/predict?explian=true", ward, json=EXAMPLE),
            "rate": [status("/feedback", lab, json=outcome) for _ in range(3)][-1],
        }
        with app.state.limiter:
            rejected["overload"] = status("/predict", ward, json=EXAMPLE)

    assert rejected == {
        "anonymous": 401, "scope": 403, "type": 415, "long": 413, "long batch": 413, "value": 422,
        "query": 422, "rate": 429, "overload": 503,
    }  # fmt: skip
    security_figure(
        "each limit of the API, under its short path and under /v1", "9 of 9 hold", "all hold"
    )


@pytest.mark.security
def test_scopes_hold_under_the_version_too(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path, tokens=TOKENS), with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        for method, path, body, scope in REQUESTS:
            if path == "/metrics":
                continue
            for name, scopes in SCOPES.items():
                answer = client.request(
                    method, f"{V1}{path}", json=body, headers=bearer(SECRETS[name])
                )
                assert (answer.status_code == 403) == (scope not in scopes.split(",")), path


@pytest.mark.parametrize(
    ("method", "path", "body", "known"),
    [
        ("POST", "/predict", EXAMPLE, ["explain", "details"]),
        ("POST", "/v1/predict/batch", {"patients": [EXAMPLE]}, ["explain", "details", "coding"]),
        ("POST", "/feedback", {}, []),
        ("GET", "/v1/model", None, []),
        ("DELETE", f"/predictions/{'0' * 32}", None, []),
        ("POST", "/admin/reload", None, []),
        ("GET", "/health/live", None, []),
        ("HEAD", "/health/ready", None, []),
        ("GET", "/metrics", None, []),
        ("GET", "/problems", None, []),
    ],
)
def test_an_unknown_query_parameter_is_rejected_with_the_known_ones(
    client: TestClient, method: str, path: str, body: Any, known: list[str]
) -> None:
    # `age` is also the name of a measurement.
    answer = client.request(method, f"{path}?age=5", json=body)

    assert answer.status_code == 422
    if method != "HEAD":
        (error,) = answer.json()["errors"]
        assert (error["location"], error["path"], error["choices"]) == ("query", "age", known)
        assert "minimum" not in error
    assert client.app.state.service.log.count() == 0  # type: ignore[attr-defined]
