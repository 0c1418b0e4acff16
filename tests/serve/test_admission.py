"""No client holds a place for ever: neither by a slow body nor by an answer that it does not take."""

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
from heart.http.deadlines import ClientDeadline
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.heart.predictions.logs import until
from tests.serve.http import request
from tests.serve.small_service import parts

TOKEN = "a-token-of-some-length"
HEADERS = [(b"host", b"testserver"), (b"content-type", b"application/json")]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """An application with one place and little patience."""
    monkeypatch.setattr(concurrency, "CLIENT_SECONDS", 0.1)
    return create_app(*parts(tmp_path, max_concurrent=1), with_page=False)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def post(client: TestClient, receive: Any, send: Any) -> None:
    """A request whose ends the test holds itself."""
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": HEADERS,
        "http_version": "1.1", "scheme": "http", "server": ("testserver", 80), "root_path": "",
    }  # fmt: skip
    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)


async def for_ever(_: Any = None) -> Any:
    await asyncio.sleep(60)


def test_a_body_that_does_not_come_is_ended_and_its_place_is_free(client: TestClient) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    post(client, for_ever, send)

    assert sent[0]["status"] == 408
    assert b"0.1 s" in sent[1]["body"]
    assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_an_answer_that_is_not_taken_is_given_up_and_its_place_is_free(client: TestClient) -> None:
    async def receive() -> Any:
        body = b'{"age": 57, "sex": "male"}'
        return {"type": "http.request", "body": body, "more_body": False}

    post(client, receive, for_ever)

    assert client.post("/predict", json=EXAMPLE).status_code == 200


@pytest.mark.parametrize(
    ("token", "path", "body"),
    [
        (None, "/predict", EXAMPLE),
        (TOKEN, "/predict", EXAMPLE),
        (None, "/predict", {}),
        (None, "/", {}),
    ],
    ids=["200", "401", "422", "404"],
)
def test_who_reads_nothing_holds_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, path: str, body: Any
) -> None:
    monkeypatch.setattr(concurrency, "CLIENT_SECONDS", 1)
    app = create_app(*parts(tmp_path, api_token=token, max_concurrent=2), with_page=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    headers = {"Authorization": f"Bearer {token}"}

    async def story() -> None:
        with listening() as listener, ExitStack() as clients:
            running = asyncio.create_task(server.serve([listener]))
            address = listener.getsockname()
            url = "http://{}:{}/predict".format(*address)
            try:
                for _ in range(2):
                    clients.enter_context(deaf(address, request(path, body) * 500))
                await asyncio.to_thread(until, lambda: stays_full(app.state.limiter))
                await asyncio.to_thread(
                    until, lambda: httpx.post(url, json=EXAMPLE, headers=headers).is_success
                )
            finally:
                clients.close()
                server.should_exit = True
                await running

    asyncio.run(story())


def stays_full(limiter: ConcurrencyLimiter) -> bool:
    for _ in range(50):
        if not limiter.full:
            return False
        time.sleep(0.002)
    return True


def listening() -> socket.socket:
    """Where little of an answer waits in the system, so that soon it waits in the service."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def deaf(address: Any, data: bytes) -> socket.socket:
    """A client that sends all this, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.sendall(data)
    return client


def test_a_full_service_refuses_what_works_and_answers_who_looks(
    app: FastAPI, client: TestClient
) -> None:
    with app.state.limiter:
        refused = client.post("/predict", json=EXAMPLE)
        live = client.get("/health/live")

    assert (refused.status_code, live.status_code) == (503, 200)
    assert refused.json() == {"detail": "too many requests in progress"}
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["x-content-type-options"] == "nosniff"
    text = client.get("/metrics").text
    assert "heart_requests_rejected_total 1.0" in text
    # Among the failed answers too: or no alert would see an overload.
    assert 'heart_requests_total{method="POST",route="rejected",status="503"} 1.0' in text


def test_who_waits_for_its_client_takes_no_place_but_must_find_one_then(
    app: FastAPI, client: TestClient
) -> None:
    limiter, sent = app.state.limiter, list[Any]()

    async def receive() -> Any:
        assert limiter.active == 0
        limiter.active += 1  # another is faster
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    post(client, receive, send)
    limiter.active -= 1

    assert sent[0]["status"] == 503
    assert limiter.active == limiter.buffered_bytes == 0
    assert "heart_requests_rejected_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/metrics", "/model", "/health/live", "/docs"])
def test_a_path_with_a_control_character_is_no_route(client: TestClient, path: str) -> None:
    answers = [client.get(path + end) for end in ("", "%0a", "%0d", "%00", "%0a%0a", "%c2%85")]

    assert [answer.status_code for answer in answers] == [200, *[404] * 5]
    assert all("x-content-type-options" in answer.headers for answer in answers)


def test_a_fault_is_told_without_what_it_was_about(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(patients: Any, explain: bool = False) -> Any:
        raise RuntimeError(f"{patients} {explain}")

    app.state.service.predict = fail

    failed = client.post("/predict", json=EXAMPLE)

    assert failed.status_code == 500
    assert failed.json() == {"detail": "internal server error"}
    assert failed.headers["x-content-type-options"] == "nosniff"
    assert "RuntimeError" in caplog.text
    assert "in fail" in caplog.text
    assert "asymptomatic" not in caplog.text
    assert 'route="/predict",status="500"} 1.0' in client.get("/metrics").text


async def watched(deadline: ClientDeadline, *tasks: Any) -> list[Any]:
    watching = asyncio.create_task(deadline.enforce())
    try:
        return list(await asyncio.gather(*tasks, return_exceptions=True))
    finally:
        watching.cancel()


def test_patience_ends_what_is_slow_and_nothing_else() -> None:
    deadline = ClientDeadline(0.1)

    async def slow() -> None:
        with deadline:
            await asyncio.sleep(60)

    async def quick() -> str:
        with deadline:
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        return "done"

    found = asyncio.run(watched(deadline, slow(), quick(), slow()))

    assert [type(result) for result in found] == [TimeoutError, str, TimeoutError]


def test_patience_keeps_out_of_a_cancellation_that_is_not_its_own() -> None:
    deadline = ClientDeadline(60)

    async def cancelled() -> None:
        with deadline:
            await asyncio.sleep(60)

    async def main() -> list[Any]:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        return await watched(deadline, task)

    assert [type(result) for result in asyncio.run(main())] == [asyncio.CancelledError]
