"""Requests beyond the concurrency limit are rejected by the protocol, without a task."""

import asyncio
from typing import Any

import pytest

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.gate import Gate
from tests.fixtures.security import SecurityFigure
from tests.heart.http.limited import Pair, Running, limited, read_all, run, until
from tests.serve.http import Answer, answer, request

POST = request("/length", "x" * 100)
RESPONSE = b"retry-after: 1\r\ncontent-length: 4\r\n\r\nfull"


def gate_of(running: Running, shed: list[str], limit: int = 1) -> ConcurrencyLimiter:
    """Give the server a gate; the limiter that it asks."""
    limiter = ConcurrencyLimiter(limit, 10**6)
    running.server.server_state.gate = Gate(
        limiter, lambda scope: scope["method"] == "POST", shed.append, lambda _: RESPONSE
    )
    return limiter


async def answer_to(client: Pair, data: bytes = POST) -> Answer:
    reader, writer = client
    writer.write(data)
    return await answer(reader)


@pytest.mark.security
def test_a_full_server_rejects_without_running_the_application(
    security_figure: SecurityFigure,
) -> None:
    async def scenario() -> None:
        shed: list[str] = []
        async with limited(rejection_seconds=0.01) as running:
            limiter, client = gate_of(running, shed), await running.client()
            with limiter:
                refused = [await answer_to(client) for _ in range(3)]
                safe = await answer_to(client, b"GET /length HTTP/1.1\r\nHost: a\r\n\r\n")
            started = list(running.app.started)
            admitted = await answer_to(client)

        assert [(r.status, r.headers["retry-after"], r.body) for r in refused] == [
            (503, "1", b"full")
        ] * 3
        assert (safe.status, admitted.status, admitted.body) == (200, 200, b"102")
        assert shed == ["POST"] * 3
        assert started == ["/length"]  # the one with the safe method
        security_figure(
            "requests beyond the concurrency limit",
            f"{len(refused)} of {len(refused)} rejected before the application runs",
            "all",
        )

    run(scenario())


@pytest.mark.security
def test_a_client_that_retries_at_once_is_not_read_for_a_moment(
    security_figure: SecurityFigure,
) -> None:
    async def scenario() -> None:
        shed: list[str] = []
        async with limited(rejection_seconds=60) as running:
            limiter, client, other = gate_of(running, shed), await running.client(), POST
            with limiter:
                assert (await answer_to(client)).status == 503
                client[1].write(POST)
                # The way to the server and back on another connection: everything sent before was there.
                for _ in range(3):
                    reply = await answer_to(
                        await running.client(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                    )
                    assert reply.status == 200
                assert (await answer_to(await running.client(), other)).status == 503
            assert len(shed) == 2
            running.connections[0].end_pause()  # instead of 60 s
            assert (await answer(client[0])).status == 200
        security_figure(
            "a retry at once after a rejection for overload",
            "not read until the pause is over",
            "one request for each pause",
        )

    run(scenario())


def test_requests_that_were_sent_behind_a_rejected_one_are_not_answered() -> None:
    async def scenario() -> None:
        shed: list[str] = []
        async with limited(rejection_seconds=60, linger_seconds=0.05) as running:
            limiter = gate_of(running, shed)
            with limiter:
                reader, _ = await running.client(POST * 50)
                content = await read_all(reader)

            assert content.count(b"HTTP/1.1 503 ") == len(shed) == 2
            assert not running.app.started
            await until(lambda: not running.connections)

    run(scenario())


def test_a_rejected_connection_that_asked_for_it_is_closed() -> None:
    async def scenario() -> None:
        async with limited() as running:
            limiter = gate_of(running, [])
            with limiter:
                closing = POST.replace(b"Host: 127.0.0.1", b"Host: a\r\nConnection: close")
                reader, _ = await running.client(closing)
                content = await read_all(reader)

            assert content.startswith(b"HTTP/1.1 503 ")
            assert content.lower().count(b"connection: close") == 1

    run(scenario())


def test_an_answer_in_progress_is_sent_before_the_rejection_behind_it() -> None:
    async def scenario() -> None:
        shed: list[str] = []
        async with limited() as running:
            limiter = gate_of(running, shed)
            held = b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n"
            with limiter:
                reader, _ = await running.client(held + POST)
                await until(lambda: running.app.started)
                running.app.released.set()
                replies: list[Any] = [await answer(reader) for _ in range(2)]

            assert [(reply.status, reply.body) for reply in replies] == [
                (200, b"held"),
                (503, b"full"),
            ]

    run(scenario())


def test_requests_of_one_turn_are_counted_before_they_start() -> None:
    limiter = ConcurrencyLimiter(2, 10**6)

    async def turns() -> list[bool]:
        gate = Gate(limiter, lambda scope: scope["method"] == "POST", lambda _: None, lambda _: b"")
        same = [gate.admits({"method": method}) for method in ("POST", "POST", "POST", "GET")]
        await asyncio.sleep(0)
        return [*same, gate.admits({"method": "POST"})]

    assert asyncio.run(turns()) == [True, True, False, True, True]
