"""No client without a token holds memory or connections without bound, and usual ones notice nothing."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest

from heart.http.limits import GRACE_SECONDS
from tests.heart.http.limited import LARGE, Pair, ended, limited, run, until
from tests.serve.http import answer, request

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
WHOLE = GET + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EARLY = CHUNKED.replace(b" / ", b" /early ")
SMALL = {"head_bytes": 20_000, "linger_seconds": 0.05}
DEAF = 4096  # bytes of a receive buffer


def get(path: str, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()


async def flooded(client: Pair, pieces: Iterator[bytes], limit: int = 5_000_000) -> bytes:
    """What the server says to one who goes on sending, until it closes."""
    reader, writer = client
    answered = asyncio.create_task(ended(reader))
    with suppress(ConnectionError):
        for _ in range(0, limit, 10_000):
            writer.write(next(pieces))
            await writer.drain()
    return await answered


# Heads


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
def test_what_frames_a_request_is_bounded(start: bytes, piece: bytes) -> None:
    async def story() -> None:
        async with limited(**SMALL) as running:
            client = await running.client(start)
            said = await flooded(client, itertools.repeat(piece * (10_000 // len(piece))))

            assert b"HTTP/1.1 431 " in said
            assert running.app.ended == running.app.begun
            assert not running.connections

    run(story())


def test_the_head_of_a_later_request_is_bounded() -> None:
    async def story() -> None:
        async with limited(**SMALL) as running:
            reader, writer = await running.client(WHOLE)
            assert (await answer(reader)).status == 200
            writer.write(GET)
            said = await flooded((reader, writer), itertools.repeat(b"a: b\r\n" * 1000))
            assert said.startswith(b"HTTP/1.1 431 ")

    run(story())


def test_more_fields_than_allowed_are_refused_before_the_application_sees_them() -> None:
    async def story() -> None:
        async with limited(**SMALL, head_fields=20) as running:
            most, reader = [f"a{n}: b" for n in range(19)], None
            reader, writer = await running.client(get("/", *most))
            assert (await answer(reader)).status == 200
            writer.write(get("/", *most, "one: more"))
            assert (await answer(reader)).status == 431
            assert await ended(reader) == b""
            assert len(running.app.begun) == 1

    run(story())


def test_fields_are_counted_before_a_head_is_whole() -> None:
    async def story() -> None:
        async with limited(head_fields=20) as running:
            reader, _ = await running.client(GET + b"a:\r\n" * 1000)
            assert (await answer(reader)).status == 431
            assert len(running.connections[0].headers) == 20

    run(story())


def test_a_refusal_can_be_read_by_one_who_sends_all_first() -> None:
    async def story() -> None:
        async with limited(head_bytes=20_000) as running:
            reader, writer = await running.client(GET)
            for _ in range(100):
                writer.write(b"a: b\r\n" * 10_000)
                await writer.drain()
            assert (await answer(reader)).status == 431

    run(story())


def test_an_application_is_told_of_the_refusal_of_a_body() -> None:
    async def story() -> None:
        async with limited(head_bytes=20_000, linger_seconds=60) as running:
            reader, _ = await running.client(CHUNKED + b"1;" + b"y" * 100_000)
            await until(lambda: running.app.disconnected)
            assert running.connections
            assert (await answer(reader)).status == 431

    run(story())


def test_a_head_of_the_size_that_is_allowed_passes_in_any_pieces() -> None:
    head = get("/", "x: " + "y" * (SMALL["head_bytes"] - 40))  # type: ignore[operator]

    async def story() -> None:
        async with limited(**SMALL) as running:
            for size in (1000, len(head)):
                reader, writer = await running.client()
                for start in range(0, len(head), size):
                    writer.write(head[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                assert (await answer(reader)).status == 200

    run(story())


def test_a_long_body_in_small_chunks_is_no_head() -> None:
    count = 20_000

    async def story() -> None:
        async with limited(**SMALL) as running:
            reader, _ = await running.client(CHUNKED + b"1;x\r\na\r\n" * count + b"0\r\n\r\n")
            assert (await answer(reader)).json() == count

    run(story())


def test_a_refusal_does_not_come_before_the_answer_to_an_earlier_request() -> None:
    async def story() -> None:
        async with limited(**SMALL) as running:
            reader, writer = await running.client(get("/held") + GET)
            await until(lambda: running.app.begun)
            writer.write(b"a: b\r\n" * 10_000)
            await until(lambda: running.connections[0]._refused)
            running.app.released.set()
            assert (await answer(reader)).body == b"held"
            assert await ended(reader) == b""

    run(story())


# Time


@pytest.mark.parametrize(
    "before", [b"", get("/early"), get("/held")], ids=["first", "second", "pipelined"]
)
@pytest.mark.parametrize("dripping", [False, True])
def test_a_head_that_does_not_come_in_time_is_not_waited_for(before: bytes, dripping: bool) -> None:
    async def story() -> None:
        async with limited(head_seconds=0.2) as running:
            reader, writer = await running.client(before + GET)
            await until(lambda: len(running.connections) == 1)
            running.app.released.set()
            closed = asyncio.create_task(ended(reader))
            with suppress(ConnectionError):
                while not closed.done():
                    writer.write(b"a" * dripping)
                    await asyncio.sleep(0.02)
            assert (await closed).count(b"200 OK") == bool(before)

    run(story())


def test_a_quiet_stream_and_an_idle_connection_are_kept() -> None:
    async def story() -> None:
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

    run(story())


def test_a_body_at_a_steady_pace_is_waited_for() -> None:
    async def story() -> None:
        async with limited(head_seconds=0.1, unread_seconds=0.1) as running:
            body = request("/", "x" * 38)
            reader, writer = await running.client(body[:-40])
            for position in range(-40, 0):
                writer.write(body[position : position + 1 or None])
                await asyncio.sleep(0.01)
            assert (await answer(reader)).json() == 40

    run(story())


# Requests that are queued


def test_some_pipelined_requests_are_answered_in_order() -> None:
    bodies = [request("/", "x" * length) for length in range(10)]

    async def story() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/held") + b"".join(bodies[:5]))
            await until(lambda: running.app.begun)
            writer.write(b"".join(bodies[5:]))
            running.app.released.set()
            assert (await answer(reader)).body == b"held"
            assert [(await answer(reader)).json() for _ in bodies] == [n + 2 for n in range(10)]
            writer.write(WHOLE)
            assert (await answer(reader)).status == 200

    run(story())


def test_of_very_many_pipelined_requests_the_first_are_answered() -> None:
    async def story() -> None:
        async with limited(pipelined_requests=4) as running:
            reader, writer = await running.client(get("/held"))
            await until(lambda: running.app.begun)
            queue = running.connections[0].pipeline
            writer.write(WHOLE * 50_000)
            await until(lambda: running.connections[0]._refused)
            assert len(queue) == 4
            running.app.released.set()
            assert (await ended(reader)).count(b"200 OK") == 5
            assert len(running.app.begun) == 5

    run(story())


def test_bodies_of_queued_requests_are_bounded() -> None:
    async def story() -> None:
        async with limited(pipelined_bytes=40_000) as running:
            reader, writer = await running.client(get("/held"))
            await until(lambda: running.app.begun)
            writer.write(request("/", "x" * 200_000))
            assert await ended(reader) == b""
            assert not running.connections

    run(story())


def test_the_bound_of_a_queue_is_not_one_of_a_connection() -> None:
    async def story() -> None:
        async with limited(pipelined_bytes=50_000) as running:
            reader, writer = await running.client()
            for _ in range(4):
                writer.write(request("/", "x" * 10_000) * 3)
                assert [(await answer(reader)).json() for _ in range(3)] == [10_002] * 3

    run(story())


def test_no_more_is_read_while_requests_are_queued() -> None:
    """Else each answer would let in another buffer of requests."""

    async def story() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/early") + get("/held") + get("/held"))
            await answer(reader)
            writer.write(WHOLE * 10)
            (connection,) = running.connections
            await asyncio.sleep(0.05)
            assert len(connection.pipeline) == 1
            assert not connection.transport.is_reading()

    run(story())


def test_who_is_answered_learns_that_its_client_went_though_another_request_is_queued() -> None:
    async def story() -> None:
        async with limited() as running:
            reader, writer = await running.client(get("/stream") + WHOLE)
            await reader.readuntil(b"event\r\n")
            running.app.released.set()
            writer.transport.abort()
            await until(lambda: running.app.disconnected)
            assert running.app.begun == ["/stream"]

    run(story())


def test_nothing_is_kept_of_a_connection_that_was_reset() -> None:
    async def story() -> None:
        async with limited() as running:
            reader, writer = await running.client(WHOLE)
            await answer(reader)
            (connection,) = running.connections
            connection.connection_lost(ConnectionResetError())
            assert connection.timeout_keep_alive_task is None
            writer.close()

    run(story())


# Responses that nobody reads


@pytest.mark.parametrize("path", ["/large", "/file"])
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "closed"])
def test_who_reads_nothing_is_disconnected(path: str, headers: tuple[str, ...]) -> None:
    async def story() -> None:
        async with limited(unread_seconds=0.2) as running:
            await running.client(get(path, *headers), buffer=DEAF)
            await until(lambda: running.held_bytes)
            await until(lambda: not running.connections)
            await until(lambda: running.app.ended)
            assert not running.server.server_state.unread

    run(story())


@pytest.mark.parametrize("path", ["/large", "/file"])
def test_who_reads_slowly_gets_all(path: str) -> None:
    async def story() -> None:
        async with limited(unread_seconds=0.3) as running:
            reader, _ = await running.client(get(path), buffer=DEAF)
            head = await reader.readuntil(b"\r\n\r\n")
            read = len(await reader.readexactly(1000))
            for _ in range(8):
                await asyncio.sleep(0.1)
                read += len(await reader.readexactly(20_000))
            while read < LARGE:
                read += len(await reader.read(2**16))
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert not running.server.server_state.unread

    run(story())


def test_unread_responses_are_bounded_together() -> None:
    async def story() -> None:
        async with limited(unread_bytes=3 * LARGE) as running:
            for _ in range(6):
                await running.client(get("/large"), buffer=DEAF)
            await until(lambda: len(running.app.ended) == 6)
            await until(lambda: running.held_bytes <= 3 * LARGE)
            newest = running.connections[-1]
            assert newest.transport.get_write_buffer_size() > 0
            assert (await running.client(WHOLE))[0]

    run(story())


# Connections


def test_silent_connections_make_room_for_one_with_a_request() -> None:
    async def story() -> None:
        async with limited(connections=10) as running:
            idle, writer = await running.client(WHOLE)
            await answer(idle)
            held, _ = await running.client(get("/held"))
            silent = [await running.client(data) for _ in range(25) for data in (b"", GET)]
            reader, _ = await running.client(WHOLE)
            assert (await answer(reader)).status == 200
            await until(lambda: len(running.connections) == 10)
            assert await ended(silent[0][0]) == b""
            writer.write(WHOLE)
            assert (await answer(idle)).status == 200
            running.app.released.set()
            assert (await answer(held)).body == b"held"

    run(story())


def test_of_too_many_requests_at_once_the_newest_are_dropped() -> None:
    async def story() -> None:
        async with limited(connections=3) as running:
            readers = []
            for count in range(1, 6):
                readers.append((await running.client(get("/held")))[0])
                await until(lambda count=count: len(running.app.begun) == count)  # type: ignore[misc]
            await until(lambda: len(running.connections) == 3)
            running.app.released.set()
            assert [(await answer(reader)).status for reader in readers[:3]] == [200] * 3
            assert [await ended(reader) for reader in readers[3:]] == [b"", b""]

    run(story())


def test_idle_connections_go_first_then_those_who_draw_a_request_out() -> None:
    body = request("/", "x" * 50)[:-10]

    async def story() -> None:
        async with limited(connections=2) as running:
            slow, _ = await running.client(body)
            idle, _ = await running.client(WHOLE)
            assert (await answer(idle)).status == 200
            held, _ = await running.client(get("/held"))
            assert await ended(idle) == b""
            assert len(running.connections) == 2

            await running.client(body)
            assert await ended(slow) == b""
            running.app.released.set()
            assert (await answer(held)).body == b"held"

    run(story())


def test_a_new_connection_is_given_the_time_to_send_its_request() -> None:
    async def story() -> None:
        async with limited(connections=1) as running:
            for _ in range(3):
                await running.client()
            await until(lambda: len(running.connections) == 3)
            table = running.server.server_state
            newest = running.connections[-1].opened_at
            table.sweep(newest + 0.9 * GRACE_SECONDS)
            assert not running.connections[-1].transport.is_closing()
            table.sweep(newest + 1.1 * GRACE_SECONDS)
            assert [c.transport.is_closing() for c in running.connections] == [True, True, False]

    run(story())
