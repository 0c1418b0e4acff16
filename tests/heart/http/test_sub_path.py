"""A service below a path of its proxy, HEAD, and bodies that are not read."""

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heart.http.sub_path import is_sub_path
from serve.app import create_app
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts

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
    assert slash.headers["location"] == "http://testserver/heart/model"


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
@pytest.mark.parametrize("value", ["//evil.example", "/a/../b", "/<script>", "/a//b", "x", "/%2e"])
def test_the_prefix_of_a_proxy_is_a_path_and_nothing_else(
    value: str, start: Start, security_figure: SecurityFigure
) -> None:
    trusting, other = start(trust_forwarded_prefix=True), start()

    refused = trusting.get("/docs", headers={"x-forwarded-prefix": value})
    ignored = other.get("/docs", headers={"x-forwarded-prefix": value})

    assert refused.status_code == 400
    assert ignored.status_code == 200
    assert value not in ignored.text or value == "x"
    security_figure(
        "X-Forwarded-Prefix with another host, dots or markup",
        "400 if trusted, ignored if not",
        "no link or redirect from it",
    )


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
