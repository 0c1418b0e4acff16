"""The stack's own nginx.conf in a real nginx: what it lets through to the service, and what not."""

import socket
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from tests.conftest import Require
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts
from tests.stack.nginx import installed, running

# As a client may write it in its request line.
METRICS = (
    "/metrics", "/metrics?x", "/metrics/", "//metrics", "/metrics//", "/metrics%0a", "/metrics%0A%0a",
    "/metrics%0d%0a", "/metrics%20", "/metrics%09", "/metrics;x", "/metrics;", "/metrics/x", "/metrics%2f",
    "/%2fmetrics", "/%6detrics", "/%6D%65trics", "/metric%73%0a", "/Metrics", "/METRICS%0a", "/./metrics",
    "/x/../metrics", "/x/..%2fmetrics", "/%2e/metrics", "/x/%2e%2e/metrics%0a", "/metrics#x", "/metrics.",
    "/metrics%23", "/metrics%3fx", "http://heart/metrics", "http://heart/metrics%0a", "http://heart//metrics",
)  # fmt: skip
OTHERS = (
    "/",
    "/predict",
    "/health/ready",
    "/docs?metrics",
    "/model/metrics",
    "/gradio_api/metrics",
)


class Backend(BaseHTTPRequestHandler):
    """It answers every path with a word of its own."""

    heads: ClassVar[list[Message]] = []  # of all requests

    def do_GET(self) -> None:
        self.heads.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"backend")

    do_POST = do_HEAD = do_GET  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def nginx(
    require: Require, backend: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of an nginx."""
    program = require(installed(), "nginx")
    with running(program, tmp_path_factory.mktemp("nginx"), backend) as port:
        yield port


def answer_of(port: int, target: str, method: str = "GET", headers: str = "") -> tuple[int, bytes]:
    """The answer to a request line, as it stands: a client library would tidy up the path."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: heart\r\nContent-Length: 0\r\nConnection: close\r\n"
        connection.sendall(f"{head}{headers}\r\n".encode())
        with connection.makefile("rb") as reader:
            answer = reader.read()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("target", METRICS)
def test_nginx_blocks_every_spelling_of_the_metrics_path(nginx: int, target: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        status, body = answer_of(nginx, target, method)

        assert status in (400, 404)
        assert body != b"backend"


@pytest.mark.parametrize("target", OTHERS)
def test_other_paths_reach_the_service(nginx: int, target: str) -> None:
    assert answer_of(nginx, target) == (200, b"backend")


@pytest.mark.security
def test_no_client_gives_the_sub_path(nginx: int, security_figure: SecurityFigure) -> None:
    for headers in (
        "X-Forwarded-Prefix: /x\r\n",
        "x-forwarded-prefix: /\r\nX-Forwarded-Prefix: /x\r\n",
    ):
        assert answer_of(nginx, "/", headers=headers) == (200, b"backend")

        assert "X-Forwarded-Host" in Backend.heads[-1]
        assert "X-Forwarded-Prefix" not in Backend.heads[-1]
    security_figure("X-Forwarded-Prefix of a client of the stack", "removed", "removed")


def test_the_service_gives_its_metrics_at_their_own_path_only(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    with TestClient(app) as client:
        result = {target for target in METRICS if b"heart_requests" in served(client, target)}

    assert {unquote(target.partition("?")[0]) for target in result} == {
        "/metrics",
        "http://heart/metrics",
    }


def served(client: TestClient, target: str) -> bytes:
    """What the service answers to a path, decoded as uvicorn does it and no further."""
    path, _, query = target.removeprefix("http://heart").partition("?")
    scope = {
        "type": "http", "method": "GET", "path": unquote(path), "query_string": query.encode(),
        "headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http", "server": ("heart", 80),
        "root_path": "",
    }  # fmt: skip
    body = b""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"")

    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    return body
