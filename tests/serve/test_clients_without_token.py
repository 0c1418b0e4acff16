"""A client without the token takes no concurrency slot, and nothing of its body is read."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.page_paths import CALL
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts

TOKEN = "a-token-of-some-length"
ROUTES = [
    ("POST", "/predict"),
    ("POST", "/predict/batch"),
    ("POST", "/feedback"),
    ("POST", "/admin/reload"),
    ("DELETE", "/predictions/" + "0" * 32),
    ("POST", CALL),
    ("PUT", "/unknown"),
]


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(*parts(tmp_path, api_token=TOKEN, max_concurrent=1))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    app.state.page.start = lambda: asyncio.sleep(0)  # the page is not built
    app.state.page.ready = lambda: asyncio.sleep(0, False)
    with TestClient(app) as client:
        yield client


def sent(client: TestClient, method: str, path: str, receive: Any, check: Any) -> list[Any]:
    """The messages of the response to a request; `check` runs at each."""
    messages: list[Any] = []
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    headers += [(b"content-length", b"1000000"), (b"authorization", b"Bearer wrong")]
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": headers,
        "http_version": "1.1", "scheme": "http", "server": ("testserver", 80), "root_path": "",
    }  # fmt: skip

    async def send(message: Any) -> None:
        check()
        messages.append(message)

    assert client.portal is not None
    client.portal.call(asyncio.wait_for, client.app(scope, receive, send), 10)
    return messages


@pytest.mark.security
def test_a_client_without_a_token_takes_neither_a_slot_nor_memory(
    app: FastAPI, client: TestClient, security_figure: SecurityFigure
) -> None:
    limiter, parts_read = app.state.limiter, list[str]()

    async def receive() -> Any:
        parts_read.append("part")
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    def check() -> None:
        assert limiter.active == limiter.buffered_bytes == 0

    responses = [sent(client, method, path, receive, check) for method, path in ROUTES]

    assert {response[0]["status"] for response in responses} == {401}
    assert not parts_read
    security_figure(
        "bodies from clients without the token, on every route that takes one",
        f"{len(parts_read)} parts read, no slot taken",
        "0 parts, 0 slots",
    )


def test_a_client_without_a_token_is_recognized_while_the_service_is_full(
    app: FastAPI, client: TestClient
) -> None:
    with app.state.limiter:
        response = client.post("/predict", json={})
        known = client.post("/predict", json={}, headers={"Authorization": f"Bearer {TOKEN}"})

    assert (response.status_code, known.status_code) == (401, 503)
    assert response.headers["www-authenticate"] == "Bearer"
    text = client.get("/metrics").text
    assert 'heart_requests_total{method="POST",route="rejected",status="401"} 1.0' in text


def test_clients_without_a_token_do_not_use_up_the_slots_of_a_turn(app: FastAPI) -> None:
    def scope(token: str) -> dict[str, Any]:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        return {"method": "POST", "path": "/predict", "headers": headers}

    async def turn() -> list[bool]:
        gate = app.state.gate
        first = [gate.admits(scope("wrong")) for _ in range(9)]
        rest = [gate.admits(scope(TOKEN)) for _ in range(2)]
        await asyncio.sleep(0)
        return [*first, *rest, gate.admits(scope(TOKEN))]

    # One slot: the second request with the token has to wait for the next turn.
    assert asyncio.run(turn()) == [*[True] * 9, True, False, True]
