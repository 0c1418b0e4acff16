"""Limits of all connections: unread responses, and how many stay open."""

import asyncio

import pytest

from heart.http import limits
from tests.fixtures.security import SecurityFigure
from tests.heart.http.limited import GET, LARGE, WHOLE, get, limited, read_all, run, until
from tests.serve.http import answer, request

SMALL_BUFFER = 4096


# Unread responses


@pytest.mark.parametrize("path", ["/large", "/file"])
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "closed"])
def test_a_client_that_reads_nothing_is_disconnected(path: str, headers: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with limited(unread_seconds=0.2) as running:
            await running.client(get(path, *headers), buffer=SMALL_BUFFER)
            await until(lambda: running.unread_bytes)
            await until(lambda: not running.connections)
            await until(lambda: running.app.finished)
            assert not running.server.server_state.unread

    run(scenario())


@pytest.mark.security
@pytest.mark.parametrize("path", ["/large", "/file"])
def test_a_client_that_reads_a_few_bytes_at_a_time_is_disconnected(
    path: str, security_figure: SecurityFigure
) -> None:
    async def scenario() -> None:
        async with limited(unread_seconds=0.3) as running:
            reader, _ = await running.client(get(path), buffer=SMALL_BUFFER)
            await until(lambda: running.unread_bytes)

            async def read_slowly() -> None:
                while await reader.read(10):  # noqa: ASYNC110  # a slow client
                    await asyncio.sleep(0.01)

            reading = asyncio.create_task(read_slowly())
            await until(lambda: not running.connections)
            await until(lambda: running.app.finished)
            reading.cancel()
            assert not running.unread_bytes

    run(scenario())
    security_figure(
        "a response that its client reads a few bytes at a time",
        "disconnected at the deadline",
        "16 KiB within 15 s, or disconnected",
    )


def test_a_slow_reader_gets_the_whole_response() -> None:
    async def scenario() -> None:
        async with limited(unread_seconds=1) as running:
            reader, _ = await running.client(get("/large"), buffer=SMALL_BUFFER)
            await reader.readuntil(b"\r\n\r\n")
            size = 0
            for _ in range(7):
                await asyncio.sleep(0.2)
                size += len(await reader.readexactly(20_000))
            size += len(await reader.readexactly(LARGE - size))
            assert size == LARGE
            assert not running.server.server_state.unread

    run(scenario())


def test_all_unread_responses_together_are_limited() -> None:
    async def scenario() -> None:
        async with limited(unread_bytes=3 * LARGE) as running:
            for _ in range(6):
                await running.client(get("/large"), buffer=SMALL_BUFFER)
            await until(lambda: len(running.app.finished) == 6)
            await until(lambda: running.unread_bytes <= 3 * LARGE)
            newest = running.connections[-1]
            assert newest.transport.get_write_buffer_size() > 0
            assert (await running.client(WHOLE))[0]

    run(scenario())


# Number of connections


def test_silent_connections_are_closed_before_those_with_requests() -> None:
    async def scenario() -> None:
        async with limited(connections=10) as running:
            idle, writer = await running.client(WHOLE)
            await answer(idle)
            held, _ = await running.client(get("/held"))
            silent = [await running.client(data) for _ in range(25) for data in (b"", GET)]
            reader, _ = await running.client(WHOLE)
            assert (await answer(reader)).status == 200
            await until(lambda: len(running.connections) == 10)
            assert await read_all(silent[0][0]) == b""
            writer.write(WHOLE)
            assert (await answer(idle)).status == 200
            running.app.released.set()
            assert (await answer(held)).body == b"held"

    run(scenario())


def test_the_newest_of_too_many_requests_are_dropped() -> None:
    async def scenario() -> None:
        async with limited(connections=3) as running:
            readers = []
            for count in range(1, 6):
                readers.append((await running.client(get("/held")))[0])
                await until(lambda count=count: len(running.app.started) == count)  # type: ignore[misc]
            await until(lambda: len(running.connections) == 3)
            running.app.released.set()
            assert [(await answer(reader)).status for reader in readers[:3]] == [200] * 3
            assert [await read_all(reader) for reader in readers[3:]] == [b"", b""]

    run(scenario())


def test_idle_connections_are_closed_before_incomplete_requests() -> None:
    body = request("/", "x" * 50)[:-10]

    async def scenario() -> None:
        async with limited(connections=2) as running:
            slow, _ = await running.client(body)
            idle, _ = await running.client(WHOLE)
            assert (await answer(idle)).status == 200
            held, _ = await running.client(get("/held"))
            assert await read_all(idle) == b""
            assert len(running.connections) == 2

            await running.client(body)
            assert await read_all(slow) == b""
            running.app.released.set()
            assert (await answer(held)).body == b"held"

    run(scenario())


def test_a_new_connection_has_time_to_send_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRACE_SECONDS", 5)  # or the server's own sweeps could end it

    async def scenario() -> None:
        async with limited(connections=1) as running:
            for _ in range(3):
                await running.client()
            await until(lambda: len(running.connections) == 3)
            opened = [connection.opened_at for connection in running.connections]
            sweep = running.server.server_state.sweep
            sweep(opened[0] + 4.5)
            assert not any(c.transport.is_closing() for c in running.connections)
            sweep(opened[-1] + 5.5)
            assert [c.transport.is_closing() for c in running.connections] == [True, True, False]

    run(scenario())
