"""What a token may do, and whose name an outcome carries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts

SECRETS = {name: f"{name}-secret-of-some-length" for name in ("ward", "lab", "head", "scraper")}
SCOPES = {"ward": "predict,feedback", "lab": "feedback", "head": "admin", "scraper": "metrics"}
TOKENS = "; ".join(f"{name} {scopes} {SECRETS[name]}" for name, scopes in SCOPES.items())
DEFAULT = "default-secret-of-some-length"
# A request to each route, and the scope that it requires.
REQUESTS: list[tuple[str, str, Any, str]] = [
    ("POST", "/predict", EXAMPLE, "predict"),
    ("POST", "/predict/batch", {"patients": [EXAMPLE]}, "predict"),
    ("GET", "/model", None, "predict"),
    ("GET", "/drift", None, "predict"),
    ("POST", "/feedback", {}, "feedback"),
    ("GET", "/predictions/x", None, "predict"),
    ("DELETE", "/predictions/x", None, "admin"),
    ("POST", "/admin/reload", None, "admin"),
    ("POST", "/admin/outcomes/withdraw", {}, "admin"),
    ("GET", "/metrics", None, "metrics"),
]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(*parts(tmp_path, tokens=TOKENS, api_token=DEFAULT), with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.security
def test_each_route_requires_its_scope(client: TestClient, security_figure: SecurityFigure) -> None:
    rejected, attempts = 0, 0
    for method, path, body, scope in REQUESTS:
        for name, scopes in SCOPES.items():
            response = client.request(method, path, json=body, headers=bearer(SECRETS[name]))
            if scope in scopes.split(","):
                assert response.status_code not in (401, 403), (path, name)
                continue
            attempts += 1
            rejected += response.status_code == 403
            assert scope in response.json()["detail"]
        for headers in ({}, bearer("wrong"), bearer(""), {"Authorization": SECRETS["head"]}):
            attempts += 1
            rejected += client.request(method, path, json=body, headers=headers).status_code == 401
        default = client.request(method, path, json=body, headers=bearer(DEFAULT))
        assert default.status_code not in (401, 403)

    assert rejected == attempts
    security_figure(
        "requests without a token, and with a token that lacks the scope",
        f"{rejected} of {attempts} rejected",
        "all rejected (401 and 403)",
    )


def test_the_scheme_of_a_token_is_in_any_case(client: TestClient) -> None:
    headers = {"Authorization": f"bEARER {DEFAULT}"}

    assert client.get("/model", headers=headers).status_code == 200
    assert client.get("/model", headers={"Authorization": f"Basic {DEFAULT}"}).status_code == 401


def test_every_route_with_a_token_is_in_the_list(client: TestClient) -> None:
    listed = {(method, path.replace("/x", "/{prediction_id}")) for method, path, _, _ in REQUESTS}
    routes = {
        (method.upper(), path.removeprefix("/v1"))
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    }
    assert routes | {("GET", "/metrics")} == listed


def test_metrics_are_open_unless_a_named_token_has_their_scope(tmp_path: Path) -> None:
    for tokens in (None, f"ward predict {SECRETS['ward']}"):
        options = parts(tmp_path, tokens=tokens, api_token=DEFAULT)
        with TestClient(create_app(*options, with_page=False)) as client:
            assert client.get("/metrics").status_code == 200


def outcome(client: TestClient, key: str, name: str, **changes: Any) -> int:
    body = {"prediction_id": key, "outcome": "presence", "source": "registry", **changes}
    return client.post("/feedback", json=body, headers=bearer(SECRETS[name])).status_code


@pytest.mark.security
def test_an_outcome_carries_the_name_of_its_token_and_can_be_withdrawn(client: TestClient) -> None:
    ward, head = bearer(SECRETS["ward"]), bearer(SECRETS["head"])
    keys = [
        client.post("/predict", json=EXAMPLE, headers=ward).json()["prediction_id"]
        for _ in range(3)
    ]
    assert [
        outcome(client, key, name) for key, name in zip(keys, ("ward", "lab", "lab"), strict=True)
    ] == [200] * 3
    assert outcome(client, keys[0], "lab", outcome="absence") == 409
    assert outcome(client, keys[0], "lab", outcome="absence", replace=True) == 403
    assert outcome(client, keys[0], "ward", outcome="absence") == 409
    log = client.app.state.service.log  # type: ignore[attr-defined]
    assert log.history()["sender"] == ["ward", "lab", "lab"]

    answer = client.post("/admin/outcomes/withdraw", json={"sender": "lab"}, headers=head)

    assert answer.json() == {"sender": "lab", "withdrawn": 2}
    assert log.labelled(names=("id", "sender")) == {"id": [keys[0]], "sender": ["ward"]}
    assert log.history()["sender"][3:] == ["head", "head"]


@pytest.mark.security
def test_a_token_that_sends_too_many_outcomes_has_to_wait(
    tmp_path: Path, security_figure: SecurityFigure
) -> None:
    options = parts(tmp_path, tokens=TOKENS, outcomes_per_minute=5)
    with TestClient(create_app(*options, with_page=False)) as client:
        statuses = [outcome(client, "0" * 32, "lab") for _ in range(20)]
        body = {"prediction_id": "0" * 32, "outcome": "presence", "source": "registry"}
        limited = client.post("/feedback", json=body, headers=bearer(SECRETS["lab"]))
        assert outcome(client, "0" * 32, "ward") == 404

    assert statuses == [404] * 5 + [429] * 15
    assert 1 <= int(limited.headers["Retry-After"]) <= 12
    security_figure(
        "20 outcomes at once from a token that may send 5 in a minute", "5 taken", "5 taken"
    )


def test_a_time_of_a_withdrawal_is_text_with_a_zone(client: TestClient) -> None:
    head = bearer(SECRETS["head"])
    outside = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01")  # in UTC no year of a date

    for time in (0, 1e9, "2026-11-27T08:00:00", *outside):
        for name in ("since", "until"):
            body = {"sender": "lab", name: time}
            answer = client.post("/admin/outcomes/withdraw", json=body, headers=head)
            assert answer.status_code == 422


def test_the_first_and_last_time_of_a_withdrawal_may_be_any_of_utc(client: TestClient) -> None:
    body = {"sender": "lab", "since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}

    answer = client.post("/admin/outcomes/withdraw", json=body, headers=bearer(SECRETS["head"]))

    assert answer.status_code == 200
