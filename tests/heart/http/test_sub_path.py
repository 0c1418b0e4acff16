"""A service below a path of its proxy, HEAD, and bodies that are not read."""

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from heart.http.sub_path import is_sub_path
from serve.app import create_app
from serve.server import DrainingServer
from tests.fixtures.security import SecurityFigure
from tests.heart.http.limited import limited, read_all, run
from tests.serve.small_service import parts

JSON = "application/json"
PATIENT = {"age": 57, "sex": "male"}
FORWARDED = {"x-forwarded-prefix": "/apps/heart"}
Start = Callable[..., TestClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a service, with settings, without its page."""
    with ExitStack() as stack:

        def started(**settings: Any) -> TestClient:
            log = tempfile.mkdtemp(dir=tmp_path)  # each has a log of its own
            app = create_app(*parts(Path(log), **settings), with_page=False)
            return stack.enter_context(TestClient(app))

        yield started


@pytest.mark.parametrize("prefix", ["/heart", ""], ids=["passed on", "removed"])
def test_the_api_answers_below_its_sub_path(prefix: str, start: Start) -> None:
    client = start(root_path="/heart/")

    assert client.post(f"{prefix}/predict", json=PATIENT).status_code == 200
    assert client.get(f"{prefix}/health/ready").status_code == 200
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/heart"}]
    page = client.get(f"{prefix}/docs").text
    assert '"/heart/static-offline-docs/swagger-ui-bundle.js"' in page
    assert "'/heart/openapi.json'" in page
    assert client.get(f"{prefix}/static-offline-docs/swagger-ui.css").status_code == 200


def test_redirects_stay_below_the_sub_path(start: Start) -> None:
    client = start(root_path="/heart")

    bare = client.get("/heart", follow_redirects=False)
    slash = client.get("/heart/model/", follow_redirects=False)

    assert (bare.status_code, bare.headers["location"]) == (308, "/heart/")
    assert slash.headers["location"] == "/heart/model"


@pytest.mark.security
def test_redirects_name_no_host(start: Start, security_figure: SecurityFigure) -> None:
    proxied = {
        "host": "10.0.0.5:8000",
        "x-forwarded-host": "localhost",
        "x-forwarded-proto": "https",
    }
    plain, below = start(), start(root_path="/heart")

    redirects = [
        one.request(method, path, headers=proxied, follow_redirects=False)
        for one in (plain, below)
        for method, path in (("GET", "/docs/"), ("POST", "/v1/predict/"), ("GET", "//"))
    ]

    found = {r.headers["location"] for r in redirects if r.is_redirect}
    assert found == {"/docs", "/v1/predict", "/heart/docs", "/heart/v1/predict"}
    security_figure("redirect with another Host", "path only", "no host in Location")


def test_metrics_have_one_path_where_there_is_a_sub_path(start: Start) -> None:
    client = start(root_path="/heart")

    answers = [client.get(path, follow_redirects=False) for path in ("/metrics/", "/metrics//")]

    assert [answer.status_code for answer in answers] == [404, 404]


def test_types_of_problems_are_links_below_the_sub_path(start: Start) -> None:
    configured, trusting = start(root_path="/heart"), start(trust_forwarded_prefix=True)

    for client, headers, prefix in (
        (configured, {}, "/heart"),
        (trusting, FORWARDED, "/apps/heart"),
        (trusting, {}, ""),
    ):
        for method, path, kind in (
            ("GET", "/model/nothing", "not-found"),
            ("PUT", "/model", "method-not-allowed"),
            ("POST", "/v1/predict", "invalid-request"),
        ):
            sent: Any = {} if method != "POST" else {"json": {}}
            problem = client.request(method, path, headers=headers, **sent).json()
            assert problem["type"] == f"{prefix}/problems#{kind}"
            link, _, section = problem["type"].partition("#")
            target = client.get(link.removeprefix(prefix) if headers else link, headers=headers)
            assert f'id="{section}"' in target.text


def test_the_response_to_an_invalid_head_has_the_sub_path_too(start: Start) -> None:
    app: Any = start(root_path="/heart").app
    sub_path = DrainingServer(uvicorn.Config(app)).server_state.sub_path

    async def scenario() -> None:
        async with limited(linger_seconds=0.05) as running:
            running.server.server_state.sub_path = sub_path
            reader, _ = await running.client(b"no request\r\n\r\n")
            _, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
        assert json.loads(body)["type"] == "/heart/problems#bad-request"

    run(scenario())


def test_the_documentation_has_no_link_outside_of_the_sub_path(start: Start) -> None:
    client = start(root_path="/heart")

    for path in ("/heart/docs", "/heart/problems"):
        links = re.findall(r"""["'](/[^/"'][^"']*)["']""", client.get(path).text)
        assert not [link for link in links if not link.startswith("/heart/")], path


@pytest.mark.security
def test_metrics_are_not_served_below_the_sub_path(
    start: Start, security_figure: SecurityFigure
) -> None:
    client = start(root_path="/heart", trust_forwarded_prefix=True)

    below = [client.get("/heart/metrics"), client.get("/metrics", headers=FORWARDED)]
    below += [client.get("/heart/metrics/"), client.head("/heart/metrics")]

    assert [answer.status_code for answer in below] == [404] * 4
    assert client.get("/metrics").status_code == 200  # Prometheus calls each replica itself
    security_figure("metrics through a proxy's sub-path", "404", "404")


def test_a_trusted_proxy_gives_the_sub_path(start: Start) -> None:
    client = start(trust_forwarded_prefix=True)

    assert client.get("/openapi.json", headers=FORWARDED).json()["servers"] == [
        {"url": "/apps/heart"}
    ]
    assert "servers" not in client.get("/openapi.json").json()  # the header was of one request


@pytest.mark.security
@pytest.mark.parametrize(
    "value",
    [
        "//evil.example",
        "/a/../b",
        "/<script>",
        "/a//b",
        "x",
        "/%2e",
        "/",
        "//",
        "/a//",
        ",/x",
        "/a,/b",
    ],
)
def test_the_prefix_of_a_proxy_is_a_path_and_nothing_else(
    value: str, start: Start, security_figure: SecurityFigure
) -> None:
    trusting, other = start(trust_forwarded_prefix=True), start()

    refused = trusting.get("/docs", headers={"x-forwarded-prefix": value})
    ignored = other.get("/docs", headers={"x-forwarded-prefix": value})

    assert refused.status_code == 400
    assert ignored.status_code == 200
    assert value not in ignored.text or value in ("x", "/", "//")
    security_figure(
        "X-Forwarded-Prefix with another host, dots or markup",
        "400 if trusted, ignored if not",
        "no link or redirect from it",
    )


@pytest.mark.security
@pytest.mark.parametrize("root_path", ["", "/heart"])
def test_no_value_of_the_trusted_header_opens_the_metrics(
    root_path: str, start: Start, security_figure: SecurityFigure
) -> None:
    client = start(root_path=root_path, trust_forwarded_prefix=True)

    for values in (["/"], ["//"], [""], [",/x"], ["/", "/apps/heart"], ["/a", "/a"], ["/a", ""]):
        sent = [("X-Forwarded-Prefix", value) for value in values]
        assert client.get("/metrics", headers=sent).status_code == 400, values
    assert client.get("/metrics", headers=FORWARDED).status_code == 404
    security_figure("empty or repeated X-Forwarded-Prefix", "400, no metrics", "no metrics")


@pytest.mark.parametrize(("path", "valid"), [("/a", True), ("/a/b-c.d_~1", True), ("/a/", False),
                                             ("a", False), ("/a" * 150, False), ("/..", False)])  # fmt: skip
def test_a_sub_path_has_plain_segments(path: str, valid: bool) -> None:
    assert is_sub_path(path) is valid


# Methods and bodies


def test_head_is_answered_wherever_get_is(start: Start) -> None:
    client = start()

    routes: Any = client.app.routes  # type: ignore[attr-defined]
    paths = {route.path for route in routes if "GET" in (getattr(route, "methods", None) or ())}
    get, head = (
        {path: getattr(client, method)(path) for path in paths} for method in ("get", "head")
    )

    assert {"/model", "/health/ready", "/metrics", "/docs", "/openapi.json"} <= paths
    assert {p: a.status_code for p, a in head.items()} == {p: a.status_code for p, a in get.items()}
    assert {answer.content for answer in head.values()} == {b""}
    assert head["/docs"].headers["content-length"] == str(len(get["/docs"].content))


@pytest.mark.security
@pytest.mark.parametrize(
    ("path", "kind"), [("/predict", "application/json"), ("/predict/batch", "text/csv")]
)
def test_a_compressed_body_is_not_unpacked(
    path: str, kind: str, start: Start, security_figure: SecurityFigure
) -> None:
    client = start()
    bomb = gzip.compress(bytes(1_000_000))
    headers = {"content-type": kind, "content-encoding": "gzip"}

    answer = client.post(path, content=bomb, headers=headers)

    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert client.post(path, content=b"{}", headers={"content-type": "text/xml"}).status_code == 415
    plain = {"content-encoding": "identity"}
    assert client.post("/predict", json=PATIENT, headers=plain).status_code == 200
    security_figure("compressed body (1 MB in 1 kB)", "415, not unpacked", "not unpacked")


@pytest.mark.security
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (
            [
                ("Content-Type", JSON),
                ("Content-Encoding", "identity"),
                ("Content-Encoding", "gzip"),
            ],
            415,
        ),
        ([("Content-Type", JSON), ("Content-Encoding", "identity, gzip")], 415),
        ([("Content-Type", JSON), ("Content-Type", "text/plain")], 415),
        ([("Content-Type", f"{JSON}; charset=utf-8, text/plain")], 415),
        ([("Content-Type", "application/a+json, text/b+json")], 415),
        ([("Content-Type", f'{JSON}; profile="a,b"')], 200),
        ([("Content-Type", JSON), ("Transfer-Encoding", "gzip, chunked")], 501),
        (
            [
                ("Content-Type", JSON),
                ("Transfer-Encoding", "gzip"),
                ("Transfer-Encoding", "chunked"),
            ],
            501,
        ),
        ([("Content-Type", JSON), ("Transfer-Encoding", "Chunked")], 200),
    ],
)
def test_a_header_that_is_repeated_is_not_read_in_part(
    headers: list[tuple[str, str]], status: int, start: Start, security_figure: SecurityFigure
) -> None:
    client = start()

    answer = client.post("/predict", content=b'{"age": 57, "sex": "male"}', headers=headers)

    assert answer.status_code == status
    security_figure(
        "Content-Type or Content-Encoding twice", "415", "only the first is read: never"
    )


@pytest.mark.security
def test_of_two_tokens_or_keys_none_is_taken(start: Start) -> None:
    token = "a-token-of-some-length"
    client = start(api_token=token)
    own = ("Authorization", f"Bearer {token}")
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    twice = client.post("/predict", json=PATIENT, headers=[own, ("Authorization", "Bearer other")])
    two_keys = client.post("/predict", json=PATIENT, headers=[own, *keys])

    assert (twice.status_code, two_keys.status_code) == (401, 422)
