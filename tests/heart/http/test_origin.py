"""A page of another origin can use nothing, whatever it sends; programs and own pages can."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from heart.http.hosts import AllowedHosts
from heart.http.origin import SameOriginMiddleware
from heart.http.security_headers import SECURITY_HEADERS, SecurityHeadersMiddleware
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.serve.small_service import parts

HOST = "127.0.0.1:8000"
JSON = {"content-type": "application/json"}
OWN = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
FOREIGN = [
    {"origin": "http://127.0.0.1:9000"},  # another port: the same site, another origin
    {"origin": "http://localhost:8000"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "chrome-extension://abcdef"},
    {"origin": f"http://{HOST}", "sec-fetch-site": "same-site"},
    {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},  # behind a proxy's own Host
    {"origin": "http://127.0.0.1:9000", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
]
LINK = {
    "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document",
}  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A client of a service without a token, as it is started without any setting."""
    app = create_app(*parts(tmp_path, allowed_hosts=[]), with_page=False)
    with TestClient(app, base_url=f"http://{HOST}") as client:
        yield client


def logged(client: TestClient) -> int:
    return int(client.app.state.service.log.count())  # type: ignore[attr-defined]


def small_app(**hosts: Any) -> FastAPI:
    """An application whose answers have all that its owner must not see leave."""
    app = FastAPI()
    app.add_middleware(
        SameOriginMiddleware, hosts=AllowedHosts(**hosts), setting="HEART_ALLOWED_HOSTS"
    )
    app.add_middleware(SecurityHeadersMiddleware)

    @app.post("/echo")
    @app.get("/logout")
    @app.get("/gradio_api/queue/data")
    @app.get("/")
    async def answer() -> Response:
        response = Response("{}", media_type="application/json")
        response.set_cookie("token", "t", samesite="none", secure=True, domain="example.org")
        response.set_cookie("bare", "b", max_age=5)
        response.headers["access-control-allow-origin"] = "*"
        response.headers["access-control-allow-credentials"] = "true"
        response.headers["x-frame-options"] = "ALLOWALL"
        return response

    return app


def small(base_url: str = f"http://{HOST}", names: tuple[str, ...] = ()) -> TestClient:
    return TestClient(small_app(names=names), base_url=base_url, follow_redirects=False)


# Pages of other origins


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_writes_from_another_origin_are_rejected(
    client: TestClient, headers: dict[str, str]
) -> None:
    key = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
    outcome = {"prediction_id": key, "outcome": "presence", "source": "registry"}

    answers = [
        client.post("/predict", json=EXAMPLE, headers=headers),
        client.post("/predict/batch", json={"patients": [EXAMPLE]}, headers=headers),
        client.post("/feedback", json=outcome, headers=headers),
        client.post("/admin/reload", headers=headers),
        client.delete(f"/predictions/{key}", headers=headers),
        client.get("/model", headers=headers),
        client.options("/predict", headers={**headers, "access-control-request-method": "POST"}),
    ]

    assert {answer.status_code for answer in answers} == {403}
    assert all(len(answer.json()["detail"].splitlines()) == 1 for answer in answers)
    assert not [n for a in answers for n in a.headers if n.startswith("access-control-")]
    assert logged(client) == 1
    assert client.app.state.service.log.get(key)["outcome"] is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OWN,
        {"origin": f"http://{HOST}"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
def test_programs_and_same_origin_pages_are_answered(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/predict", json=EXAMPLE, headers=headers).status_code == 200
    assert client.get("/docs", headers=headers).status_code == 200
    assert client.get("/openapi.json", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "changes", "expected"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/logout", {}, 403),
        ("GET", "/logout/", {}, 403),
        ("GET", "/gradio_api/queue/data", {}, 403),
        ("POST", "/echo", {}, 403),
        ("GET", "/", {"sec-fetch-dest": "iframe"}, 403),
        ("GET", "/", {"sec-fetch-mode": "no-cors"}, 403),
        ("GET", "/", {"origin": "null"}, 200),
        ("GET", "/", {"origin": "http://evil.example"}, 403),
    ],
)
def test_a_link_on_another_site_opens_pages_only(
    method: str, path: str, changes: dict[str, str], expected: int
) -> None:
    assert small().request(method, path, headers={**LINK, **changes}).status_code == expected


@pytest.mark.parametrize(
    ("base_url", "headers", "expected"),
    [
        ("http://localhost", {"origin": "http://localhost"}, 200),
        ("http://localhost", {"origin": "http://localhost:80"}, 200),
        ("http://localhost", {"origin": "http://LOCALHOST."}, 200),
        ("http://localhost", {"origin": "https://localhost"}, 200),  # a proxy that says not so
        ("http://localhost:8000", {"origin": "http://localhost"}, 403),
        ("http://localhost", {"origin": "https://localhost", "host": "localhost:80"}, 403),
        ("https://localhost", {"origin": "https://localhost"}, 200),
        ("https://localhost", {"origin": "http://localhost"}, 403),
        ("http://[::1]:8000", {"origin": "http://[0:0::1]:8000"}, 200),
        ("http://[::1]:8000", {"origin": "http://[::2]:8000"}, 403),
        ("http://app", {"origin": "http://app", "x-forwarded-host": "heart.example"}, 403),
        ("http://app", {"origin": "https://heart.example", "x-forwarded-host": "heart.example"}, 200),
        ("http://app", {"origin": "https://heart.example", "sec-fetch-site": "same-origin"}, 200),
        ("http://app", {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, 403),
    ],
)  # fmt: skip
def test_an_origin_is_that_of_the_host_port_and_proxy(
    base_url: str, headers: dict[str, str], expected: int
) -> None:
    answer = small(base_url, ("app", "heart.example")).post("/echo", headers=headers)

    assert answer.status_code == expected, answer.text


# Hosts


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example"])
def test_another_host_is_rejected_with_the_setting(client: TestClient, host: str) -> None:
    answers = [
        client.post("/predict", json=EXAMPLE, headers={"host": host}),
        client.get("/metrics", headers={"host": host}),
        client.get("/docs", headers={"host": host}),
        client.get("/health/live", headers={"x-forwarded-host": host}),
        client.get("/health/live", headers={"x-forwarded-host": f"localhost, {host}"}),
        client.get("/health/live", headers={"x-forwarded-host": f"{host}, localhost"}),
    ]

    assert {answer.status_code for answer in answers} == {421}
    assert all("HEART_ALLOWED_HOSTS" in answer.json()["detail"] for answer in answers)
    assert all(host in answer.json()["detail"] for answer in answers)
    assert logged(client) == 0


@pytest.mark.parametrize(
    "hosts", [[], [b""], [b"127.0.0.1", b"evil.example"], [b"localhost", b"localhost"], [b"a b"]]
)
def test_a_host_must_be_given_once(client: TestClient, hosts: list[bytes]) -> None:
    status, detail = answer_to(client, [(b"host", host) for host in hosts])

    assert status == 400
    assert "Host" in detail


def answer_to(client: TestClient, headers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
    """Status and detail of an answer to a request with exactly these headers."""
    scope = {
        "type": "http", "method": "GET", "path": "/health/live", "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "",
        "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]).get("detail", "")


def test_other_headers_may_be_given_twice(client: TestClient) -> None:
    twice = [(b"accept", b"*/*"), (b"accept", b"text/html"), (b"host", b"localhost")]

    assert answer_to(client, twice)[0] == 200
    foreign = [*twice, (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")]
    assert answer_to(client, foreign)[0] == 403
    assert answer_to(client, [*twice, *[(b"x-forwarded-host", b"localhost")] * 2])[0] == 200
    other = [(b"x-forwarded-host", b"localhost"), (b"x-forwarded-host", b"evil.example")]
    assert answer_to(client, [*twice, *other])[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LocalHost.:8000", "10.1.2.3:8000", "[fd00::1]"])
def test_a_name_for_this_machine_and_every_address_is_answered(
    client: TestClient, host: str
) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert client.get(path, headers={"host": host}).status_code == 200


def test_the_name_to_listen_on_is_allowed(tmp_path: Path) -> None:
    given = {"host": "heart.internal", "api_token": "a-token-of-some-length"}
    app = create_app(*parts(tmp_path, allowed_hosts=["*.example.org"], **given), with_page=False)
    with TestClient(app) as client:
        names = ("heart.internal:8000", "a.example.org", "example.org", "testserver")
        answers = [client.get("/health/live", headers={"host": name}) for name in names]

    assert [answer.status_code for answer in answers] == [200, 200, 421, 421]


def test_rejected_requests_are_counted(client: TestClient) -> None:
    client.get("/", headers={"host": "evil.example"})
    client.post("/predict", json=EXAMPLE, headers=FOREIGN[0])
    client.request("CANARY", "/predict", headers=FOREIGN[0])

    text = client.get("/metrics").text

    assert 'heart_requests_total{method="GET",route="rejected",status="421"} 1.0' in text
    assert 'heart_requests_total{method="POST",route="rejected",status="403"} 1.0' in text
    assert 'heart_requests_total{method="other",route="rejected",status="403"} 1.0' in text
    assert "heart_requests_rejected_total 0.0" in text  # those are for load
    assert "CANARY" not in text


# What answers say to browsers


def test_every_answer_has_the_security_headers_and_no_cors(client: TestClient) -> None:
    admission = client.app.state.limiter  # type: ignore[attr-defined]
    admission.active = admission.limit
    overload = client.post("/predict", json=EXAMPLE, headers=OWN)
    admission.active = 0
    answers = [
        client.get("/docs", headers=OWN),
        client.get("/static-offline-docs/swagger-ui.css", headers=OWN),
        client.get("/openapi.json", headers=OWN),
        client.get("/nowhere", headers=OWN),
        client.post("/predict", json={}, headers=OWN),
        client.put("/predict", headers=OWN),
        client.get("/metrics", headers={"host": "evil.example"}),
        client.post("/predict", headers=FOREIGN[0]),
        overload,
    ]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 200, 404, 422, 405, 421, 403, 503]
    for answer in answers:
        assert own_headers(answer.headers)


def own_headers(headers: Any) -> bool:
    """Whether an answer has every security header once, and nothing for other origins."""
    assert not [name for name in headers if name.startswith("access-control-")]
    for name, value in SECURITY_HEADERS:
        assert headers.get_list(name.decode()) == [value.decode()]
    return "cache-control" in headers


def test_cors_headers_of_an_application_are_removed() -> None:
    answer = small().get("/", headers=OWN)

    assert own_headers(answer.headers)
    assert answer.headers.get_list("set-cookie") == [
        "token=t; Path=/; HttpOnly; SameSite=Lax",
        "bare=b; Max-Age=5; Path=/; HttpOnly; SameSite=Lax",
    ]


@pytest.mark.parametrize(
    ("base_url", "headers"),
    [
        ("https://localhost", {}),
        ("http://localhost", {"origin": "https://localhost"}),  # TLS ended at a proxy
    ],
)
def test_cookies_of_https_are_not_sent_over_http(base_url: str, headers: dict[str, str]) -> None:
    cookies = small(base_url).get("/", headers=headers).headers.get_list("set-cookie")

    assert [cookie.endswith("; HttpOnly; SameSite=Lax; Secure") for cookie in cookies] == [True] * 2
