"""Limits of one connection: its request heads, their time, and requests that are pipelined."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.heart.http.limited import GET, WHOLE, Pair, get, limited, read_all, run, until
from tests.serve.http import answer, request

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EARLY = CHUNKED.replace(b" / ", b" /early ")
SMALL = {"head_bytes": 20_000, "linger_seconds": 0.05}


async def flooded(client: Pair, pieces: Iterator[bytes], limit: int = 5_000_000) -> bytes:
    """The response to a client that keeps sending until the server closes."""
    reader, writer = client
    response = asyncio.create_task(read_all(reader))
    with suppress(ConnectionError):
        for _ in range(0, limit, 10_000):
            writer.write(next(pieces))
            await writer.drain()
    return await response


# Size


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (GET, b"X-Filler: " + b"y" * 88 + b"\r\n"),
        (GET, b"a:\r\n"),
        (GET + b"X-Filler: ", b"y"),
        (GET, b"y"),
        (b"GET /", b"y"),
        (b"", b"\r\n"),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"a: b\r\n"),
        (CHUNKED + b"1\r\na\r\n0\r\na: ", b"y"),
        (CHUNKED + b"1;", b"y"),
        (CHUNKED + b"1\r\na\r\n1;", b"y"),
        (EARLY + b"1\r\na\r\n0\r\na: ", b"y"),
        (EARLY + b"1\r\na\r\n0\r\n", b"a: b\r\n"),
        (EARLY + b"1\r\na\r\n1;", b"y"),
    ],
    ids=[
        "lines", "tiny lines", "a value", "a name", "a path", "empty lines", "trailers",
        "a trailer", "an extension", "a later extension", "a late trailer", "late trailers",
        "a late extension",
    ],
)  # fmt: skip
def test_head_trailers_and_chunk_extensions_are_limited(start: bytes, piece: bytes) -> None:
    async def scenario() -> None:
        async with limited(**SMALL) as running:
            client = await running.client(start)
            response = await flooded(client, itertools.repeat(piece * (10_000 // len(piece))))

            assert b"HTTP/1.1 431 " in response
            assert running.app.finished == running.app.started
            assert not running.connections

    run(scenario())


def test_the_head_of_a_later_request_is_limited() -> None:
    async def scenario() -> None:
        async with limited(**SMALL) as running:
            reader, writer = await running.client(WHOLE)
            assert (await answer(reader)).status == 200
            writer.write(GET)
            response = await flooded((reader, writer), itertools.repeat(b"a: b\r\n" * 1000))
            assert response.startswith(b"HTTP/1.1 431 ")

    run(scenario())


def test_too_many_headers_do_not_reach_the_application() -> None:
    async def scenario() -> None:
        async with limited(**SMALL, head_fields=20) as running:
            headers = [f"a{n}: b" for n in range(19)]
            reader, writer = await running.client(get("/", *headers))
            assert (await answer(reader)).status == 200
            writer.write(get("/", *headers, "one-more: b"))
            assert (await answer(reader)).status == 431
            assert await read_all(reader) == b""
            assert len(running.app.started) == 1

    run(scenario())


def test_headers_are_counted_before_the_head_is_complete() -> None:
    async def scenario() -> None:
        async with limited(head_fields=20, linger_seconds=60) as running:
            reader, _ = await running.client(GET + b"a:\r\n" * 1000)
            assert (await answer(reader)).status == 431
            assert len(running.connections[0].headers) == 20

    run(scenario())


def test_a_client_that_sends_everything_first_can_read_the_refusal() -> None:
    async def scenario() -> None:
        async with limited(head_bytes=20_000, linger_seconds=60) as running:
            reader, writer = await running.client(GET)
            for _ in range(100):
                writer.write(b"a: b\r\n" * 10_000)
                await writer.drain()
            assert (await answer(reader)).status == 431

    run(scenario())


def test_the_application_is_disconnected_when_a_body_is_rejected() -> None:
    async def scenario() -> None:
        async with limited(head_bytes=20_000, linger_seconds=60) as running:
            reader, _ = await running.client(CHUNKED + b"1;" + b"y" * 100_000)
            await until(lambda: running.app.disconnected)
            assert running.connections
            assert (await answer(reader)).status == 431

    run(scenario())


def test_a_head_within_the_limit_is_accepted_in_chunks_of_any_size() -> None:
    head = get("/", "x: " + "y" * (SMALL["head_bytes"] - 40))  # type: ignore[operator]

    async def scenario() -> None:
        async with limited(**SMALL) as running:
            for size in (1000, len(head)):
                reader, writer = await running.client()
                for start in range(0, len(head), size):
                    writer.write(head[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                assert (await answer(reader)).status == 200

    run(scenario())


def test_a_long_body_in_small_chunks_is_accepted() -> None:
    count = 20_000

    async def scenario() -> None:
        async with limited(**SMALL) as running:
            reader, _ = await running.client(CHUNKED + b"1;x\r\na\r\n" * count + b"0\r\n\r\n")
            assert (await answer(reader)).json() == count

    run(scenario())


def test_earlier_requests_are_answered_before_the_connection_closes() -> None:
    async def scenario() -> None:
        async with limited(**SMALL) as running:
            reader, writer = await running.client(get("/held") + GET)
            await until(lambda: running.app.started)
            writer.write(b"a: b\r\n" * 10_000)
            await until(lambda: running.connections[0].rejected)
            running.app.released.set()
            assert (await answer(reader)).body == b"held"
            assert await read_all(reader) == b""

    run(scenario())


# Time


@pytest.mark.parametrize(
    "before", [b"", get("/early"), get("/held")], ids=["first", "second", "pipelined"]
)
@pytest.mark.parametrize("dripping", [False, True])
def test_an_incomplete_head_is_disconnected_in_time(before: bytes, dripping: bool) -> None:
    async def scenario() -> None:
        async with limited(head_seconds=0.2) as running:
            reader, writer = await running.client(before + GET)
            await until(lambda: len(running.connections) == 1)
            running.app.released.set()
            content = asyncio.create_task(read_all(reader))
            with suppress(ConnectionError):
                while not content.done():
                    writer.write(b"a" * dripping)
                    await asyncio.sleep(0.02)
            assert (await content).count(b"200 OK") == bool(before)

    run(scenario())


def test_a_quiet_stream_and_an_idle_connection_stay_open() -> None:
    async def scenario() -> None:
        async with limited(head_seconds=0.1, unread_seconds=0.1) as running:
            stream, _ = await running.client(get("/stream"))
            idle, writer = await running.client(WHOLE)
            await answer(idle)
            assert await stream.readuntil(b"event\r\n")
            await asyncio.sleep(0.5)
            running.app.released.set()
            assert await stream.readuntil(b"event\r\n")
            writer.write(WHOLE)
            assert (await answer(idle)).status == 200

    run(scenario())


def test_a_body_at_a_slow_and_steady_pace_is_accepted() -> None:
    async def scenario() -> None:
        async with limited(head_seconds=0.1, unread_seconds=0.1) as running:
            body = request("/", "x" * 38)
            reader, writer = await running.client(body[:-40])
            for position in range(-40, 0):
                writer.write(body[position : position + 1 or None])
                await asyncio.sleep(0.01)
            assert (await answer(reader)).json() == 40

    run(scenario())


# Pipelining


def test_pipelined_requests_are_answered_in_order() -> None:
    bodies = [request("/", "x" * length) for length in range(10)]

    async def scenario() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/held") + b"".join(bodies[:5]))
            await until(lambda: running.app.started)
            writer.write(b"".join(bodies[5:]))
            running.app.released.set()
            assert (await answer(reader)).body == b"held"
            assert [(await answer(reader)).json() for _ in bodies] == [n + 2 for n in range(10)]
            writer.write(WHOLE)
            assert (await answer(reader)).status == 200

    run(scenario())


def test_only_the_first_of_many_pipelined_requests_are_answered() -> None:
    async def scenario() -> None:
        async with limited(pipelined_requests=4) as running:
            reader, writer = await running.client(get("/held"))
            await until(lambda: running.app.started)
            queue = running.connections[0].pipeline
            writer.write(WHOLE * 50_000)
            await until(lambda: running.connections[0].rejected)
            assert len(queue) == 4
            running.app.released.set()
            assert (await read_all(reader)).count(b"200 OK") == 5
            assert len(running.app.started) == 5

    run(scenario())


def test_bodies_of_queued_requests_are_limited() -> None:
    async def scenario() -> None:
        async with limited(pipelined_bytes=40_000) as running:
            reader, writer = await running.client(get("/held"))
            await until(lambda: running.app.started)
            writer.write(request("/", "x" * 200_000))
            assert await read_all(reader) == b""
            assert not running.connections

    run(scenario())


def test_limit_of_queued_bytes_applies_to_each_queue() -> None:
    async def scenario() -> None:
        async with limited(pipelined_bytes=50_000) as running:
            reader, writer = await running.client()
            for _ in range(4):
                writer.write(request("/", "x" * 10_000) * 3)
                assert [(await answer(reader)).json() for _ in range(3)] == [10_002] * 3

    run(scenario())


def test_reading_stays_paused_while_requests_are_queued() -> None:
    """Otherwise each response would admit another buffer full of requests."""

    async def scenario() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/early") + get("/held") + get("/held"))
            await answer(reader)
            writer.write(WHOLE * 10)
            (connection,) = running.connections
            await asyncio.sleep(0.05)
            assert len(connection.pipeline) == 1
            assert not connection.transport.is_reading()

    run(scenario())


def test_a_stream_with_a_request_queued_behind_it_ends_when_the_client_disconnects() -> None:
    async def scenario() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/stream") + WHOLE)
            await reader.readuntil(b"event\r\n")
            running.app.released.set()
            writer.transport.abort()
            await until(lambda: running.app.disconnected)
            assert running.app.started == ["/stream"]

    run(scenario())


def test_a_reset_connection_leaves_no_timer() -> None:
    async def scenario() -> None:
        async with limited() as running:
            reader, writer = await running.client(WHOLE)
            await answer(reader)
            (connection,) = running.connections
            connection.connection_lost(ConnectionResetError())
            assert connection.timeout_keep_alive_task is None
            writer.close()

    run(scenario())
