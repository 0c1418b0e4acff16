"""Errors as problem details (RFC 9457): one form for all, whichever part of the service rejects a request."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heart.http.problems import KINDS, PAGE
from heart.http.sub_path import SubPath
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.middleware.admission import encoded_rejection
from tests.serve.small_service import parts

TOKEN = "a-token-of-some-length"
JSON = {"content-type": "application/json"}
ID = {"X-Request-ID": "ward-7.42"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[TestClient]:
    """A service with tokens, one slot and short bodies."""
    options = parts(
        tmp_path,
        tokens=f"lab feedback {TOKEN}",
        max_body_bytes=1000,
        trust_forwarded_prefix=True,
    )
    with TestClient(create_app(*options, with_page=False)) as client:
        yield client


def check(answer: Any, kind: str) -> dict[str, Any]:
    content: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", kind
    assert content["type"] == f"{PAGE}#{kind}"
    assert content["status"] == answer.status_code == KINDS[kind].status
    assert content["title"] == KINDS[kind].title
    assert content["detail"]
    assert content["instance"] == answer.headers["x-request-id"] == ID["X-Request-ID"]
    return content


@pytest.mark.parametrize(
    ("kind", "method", "path", "options"),
    [
        ("unknown-prediction", "DELETE", f"/predictions/{'0' * 32}", {}),
        ("not-found", "GET", "/nowhere", {}),
        ("not-found", "GET", "/model%0a", {}),
        ("method-not-allowed", "PUT", "/model", {}),
        ("unsupported-media-type", "POST", "/predict", {"content": b"x"}),
        ("invalid-request", "POST", "/predict", {"json": {}}),
        ("no-drift-check", "GET", "/drift", {}),
        ("host-not-allowed", "GET", "/model", {"headers": {"host": "evil.example"}}),
        ("bad-request", "GET", "/model", {"headers": {"host": "a b"}}),
        ("other-origin", "GET", "/model", {"headers": {"origin": "http://evil.example"}}),
    ],
)
def test_each_error_is_a_problem_with_the_request_id(
    client: TestClient, kind: str, method: str, path: str, options: dict[str, Any]
) -> None:
    headers = {**ID, **options.pop("headers", {})}

    check(client.request(method, path, headers=headers, **options), kind)


@pytest.mark.parametrize(
    ("kind", "path", "headers", "body"),
    [
        ("authentication-required", "/predict", {}, b"{}"),
        ("insufficient-scope", "/predict", {"Authorization": f"Bearer {TOKEN}"}, b"{}"),
        ("body-too-long", "/feedback", {"Authorization": f"Bearer {TOKEN}"}, b" " * 1001),
        ("bad-request", "/feedback", {"X-Forwarded-Prefix": "x"}, b"{}"),
    ],
)
def test_rejections_before_a_route_are_problems_too(
    protected: TestClient, kind: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    check(protected.post(path, content=body, headers={**ID, **JSON, **headers}), kind)


def test_the_rejection_for_overload_is_the_same_in_the_gate_and_behind_it(
    client: TestClient,
) -> None:
    limiter = client.app.state.limiter  # type: ignore[attr-defined]
    limiter.limit = 0
    inner = check(client.post("/predict", json=EXAMPLE, headers=ID), "overloaded")

    head, _, body = encoded_rejection(SubPath())(
        {"headers": [(b"x-request-id", ID["X-Request-ID"].encode())]}
    ).partition(b"\r\n\r\n")

    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
    assert json.loads(body) == inner
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"x-request-id"].decode() == ID["X-Request-ID"]
    assert headers[b"content-type"] == b"application/problem+json"


@pytest.mark.parametrize(
    ("sub_path", "forwarded", "prefix"),
    [
        (SubPath("/heart"), [], "/heart"),
        (SubPath("/heart"), [b"/other"], "/heart"),
        (SubPath("/heart", trust_forwarded=True), [b"/apps/heart"], "/apps/heart"),
        (SubPath("/heart", trust_forwarded=True), [b"/a", b"/b"], "/heart"),
        (SubPath("", trust_forwarded=True), [], ""),
    ],
)
def test_the_rejection_of_the_gate_has_the_sub_path_in_its_type(
    sub_path: SubPath, forwarded: list[bytes], prefix: str
) -> None:
    headers = [(b"x-forwarded-prefix", value) for value in forwarded]
    head, _, body = encoded_rejection(sub_path)({"headers": headers}).partition(b"\r\n\r\n")

    assert json.loads(body)["type"] == f"{prefix}{PAGE}#overloaded"
    assert b"content-length: %d" % len(body) in head


def test_an_unexpected_error_and_a_missing_model_are_problems(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    service.champion.current = None
    check(client.post("/predict", json=EXAMPLE, headers=ID), "no-model")
    monkeypatch.setattr(service, "predict", None)
    check(client.post("/predict", json=EXAMPLE, headers=ID), "internal-error")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("POST", "/health/live", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("DELETE", "/docs", "GET, HEAD"),
    ],
)
def test_the_allowed_methods_are_named(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path, headers=ID)

    check(answer, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_the_accepted_media_types_are_named(client: TestClient) -> None:
    answer = client.post("/predict/batch", content=b"x", headers={**ID, "content-type": "a/b"})

    content = check(answer, "unsupported-media-type")
    assert content["accepted"] == ["application/json", "text/csv"]
    assert answer.headers["accept"] == "application/json, text/csv"


def test_an_invalid_value_has_a_path_bounds_and_types(client: TestClient) -> None:
    body = {"patients": [EXAMPLE, {**EXAMPLE, "age": 300, "a/b~c": 1}]}
    content = check(client.post("/predict/batch", json=body, headers=ID), "invalid-request")

    age, unknown = content["errors"]
    assert (age["location"], age["path"], age["row"]) == ("body", "/patients/1/age", 1)
    assert (age["value"], age["value_type"], age["expected_type"]) == (300, "integer", "integer")
    assert (age["minimum"], age["maximum"], age["unit"]) == (18, 110, "years")
    assert unknown["path"] == "/patients/1/a~1b~0c"


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/predict", '{"age": 57,\n "sex": male}', (2, 9)),
        ("/predict", '\ufeff{"sex": "ü", x}', (1, 14)),
        ("/predict", "", (1, 1)),
        ("/predict/batch", '\n\n{"patients": [{"age": 57, "sex": ü}]}', (3, 34)),
        ("/predict/batch", '{"patients": [{"age": 57, "sex": "male"}\n{}]}', (2, 1)),
    ],
)
def test_broken_json_has_a_line_and_a_column(
    client: TestClient, path: str, body: str, place: tuple[int, int]
) -> None:
    answer = client.post(path, content=body.encode(), headers={**ID, **JSON})

    (error,) = check(answer, "invalid-request")["errors"]
    assert error["type"] == "json_invalid"
    assert (error["line"], error["column"]) == place
    assert "line {} column {}".format(*place) in error["message"]


@pytest.mark.parametrize("before", [1, 300, 3000])
def test_the_position_in_a_long_batch_is_that_in_the_body(client: TestClient, before: int) -> None:
    lines = ['{"age": 57, "sex": "male"},'] * before
    body = "\n".join(['{"patients": [', *lines, '{"age": 57, "sex": oops},', *lines, "]}"])

    answer = client.post("/predict/batch", content=body, headers={**ID, **JSON})

    (error,) = check(answer, "invalid-request")["errors"]
    assert (error["line"], error["column"]) == (before + 2, 20)


def test_the_page_has_a_section_for_each_type(client: TestClient) -> None:
    page = client.get(PAGE)

    assert page.headers["content-type"].startswith("text/html")
    assert all(f'id="{name}"' in page.text for name in KINDS)


def test_every_documented_error_is_a_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and "health" not in operation["operationId"]:
                    assert set(response["content"]) == {"application/problem+json"}


def test_a_slow_body_is_a_problem(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = client.app.state.limiter  # type: ignore[attr-defined]
    monkeypatch.setattr(limiter.deadline, "seconds", 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http", "server": ("testserver", 80), "root_path": "",
    }  # fmt: skip
    assert client.portal is not None
    client.portal.call(asyncio.wait_for, client.app(scope, never, send), 10)

    content = json.loads(sent[1]["body"])
    assert content["type"] == f"{PAGE}#body-timeout"
    assert content["instance"] == dict(sent[0]["headers"])[b"x-request-id"].decode()
