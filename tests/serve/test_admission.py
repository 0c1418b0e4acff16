"""Overload and slow clients: slots are released, requests beyond the limit are rejected and counted."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from heart.http import concurrency
from heart.http.concurrency import ConcurrencyLimiter
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.heart.predictions.logs import until
from tests.serve.http import request
from tests.serve.small_service import parts

HEADERS = [(b"host", b"testserver"), (b"content-type", b"application/json")]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """An application with one concurrency slot and a short client deadline."""
    monkeypatch.setattr(concurrency, "CLIENT_SECONDS", 0.1)
    return create_app(*parts(tmp_path, max_concurrent=1), with_page=False)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def post(
    client: TestClient, receive: Any, send: Any, method: str = "POST", path: str = "/predict"
) -> None:
    """Send a request with `receive` and `send` of the test."""
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": HEADERS,
        "http_version": "1.1", "scheme": "http", "server": ("testserver", 80), "root_path": "",
    }  # fmt: skip
    assert client.portal is not None
    client.portal.call(asyncio.wait_for, client.app(scope, receive, send), 10)


async def never(_: Any = None) -> Any:
    await asyncio.sleep(60)


def test_incomplete_body_is_rejected_and_its_slot_released(client: TestClient) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    post(client, never, send)

    assert sent[0]["status"] == 408
    assert b"0.1 s" in sent[1]["body"]
    assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_unread_response_is_dropped_and_its_slot_released(client: TestClient) -> None:
    async def receive() -> Any:
        body = b'{"age": 57, "sex": "male"}'
        return {"type": "http.request", "body": body, "more_body": False}

    post(client, receive, never)

    assert client.post("/predict", json=EXAMPLE).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/model", "/docs", "/openapi.json"])
def test_unread_response_to_a_safe_method_ends_too(client: TestClient, path: str) -> None:
    post(client, never, never, "GET", path)  # a request that does not end fails here


@pytest.mark.parametrize(
    ("path", "body"),
    [("/predict", EXAMPLE), ("/predict", {}), ("/", {})],
    ids=["200", "422", "404"],
)
def test_slow_readers_release_their_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    monkeypatch.setattr(concurrency, "CLIENT_SECONDS", 1)
    app = create_app(*parts(tmp_path, max_concurrent=2), with_page=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))

    async def run() -> None:
        with listening() as listener, ExitStack() as clients:
            running = asyncio.create_task(server.serve([listener]))
            address = listener.getsockname()
            url = "http://{}:{}/predict".format(*address)
            try:
                for _ in range(2):
                    clients.enter_context(slow_reader(address, request(path, body) * 500))
                await asyncio.to_thread(until, lambda: stays_full(app.state.limiter))
                await asyncio.to_thread(until, lambda: httpx.post(url, json=EXAMPLE).is_success)
            finally:
                clients.close()
                server.should_exit = True
                await running

    asyncio.run(run())


def stays_full(limiter: ConcurrencyLimiter) -> bool:
    for _ in range(50):
        if not limiter.full:
            return False
        time.sleep(0.002)
    return True


def listening() -> socket.socket:
    """A socket with a small send buffer, so that unread responses soon wait in the service."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def slow_reader(address: Any, data: bytes) -> socket.socket:
    """A client that sends data and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.sendall(data)
    return client


def test_full_service_sheds_load_and_answers_safe_methods(app: FastAPI, client: TestClient) -> None:
    with app.state.limiter:
        shed = client.post("/predict", json=EXAMPLE)
        live = client.get("/health/live")

    assert (shed.status_code, live.status_code) == (503, 200)
    assert shed.json()["type"] == "/problems#overloaded"
    assert shed.headers["Retry-After"] == "1"
    assert shed.headers["x-content-type-options"] == "nosniff"
    text = client.get("/metrics").text
    assert "heart_requests_rejected_total 1.0" in text
    # Also as a server error: the alert on those covers overload.
    assert 'heart_requests_total{method="POST",route="rejected",status="503"} 1.0' in text


def test_request_holds_no_slot_while_its_body_arrives_and_needs_one_afterwards(
    app: FastAPI, client: TestClient
) -> None:
    limiter, sent = app.state.limiter, list[Any]()

    async def receive() -> Any:
        assert limiter.active == 0
        limiter.active += 1  # another request takes the slot
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    post(client, receive, send)
    limiter.active -= 1

    assert sent[0]["status"] == 503
    assert limiter.active == limiter.buffered_bytes == 0
    assert "heart_requests_rejected_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/metrics", "/model", "/health/live", "/docs"])
def test_path_with_control_character_matches_no_route(client: TestClient, path: str) -> None:
    responses = [client.get(path + end) for end in ("", "%0a", "%0d", "%00", "%0a%0a", "%c2%85")]

    assert [response.status_code for response in responses] == [200, *[404] * 5]
    assert all("x-content-type-options" in response.headers for response in responses)


def test_unexpected_error_is_logged_without_its_message(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(patients: Any, parts: Any = None) -> Any:
        raise RuntimeError(f"{patients} {parts}")

    app.state.service.predict = fail

    failed = client.post("/predict", json=EXAMPLE)

    assert failed.status_code == 500
    assert failed.json()["type"] == "/problems#internal-error"
    assert failed.headers["x-content-type-options"] == "nosniff"
    assert "RuntimeError" in caplog.text
    assert "in fail" in caplog.text
    assert "asymptomatic" not in caplog.text
    assert 'route="/predict",status="500"} 1.0' in client.get("/metrics").text
