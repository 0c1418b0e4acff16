"""A server with small limits in the event loop of a test, and an application that the test controls."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop

from heart.http.limits import HttpLimits
from heart.http.protocol import LimitedProtocol
from heart.http.server import LimitedServer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
WHOLE = GET + b"\r\n"
LARGE = 2_000_000
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def get(path: str, *headers: str) -> bytes:
    """A request without a body."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()


class App:
    """Responds with the length of the request's body, and on some paths as the method of that name."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[str] = []
        self.released = asyncio.Event()
        self.disconnected = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.started.append(path)
        await getattr(self, path.strip("/"), self.length)(receive, send)
        self.finished.append(path)

    async def length(self, receive: Any, send: Any) -> None:
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                return
            length, more = length + len(message["body"]), message["more_body"]
        await self.answer(send, str(length).encode())

    async def early(self, _: Any, send: Any) -> None:
        """Responds without reading the body."""
        await self.answer(send, b"early")

    async def held(self, _: Any, send: Any) -> None:
        """Responds once it is released."""
        await self.released.wait()
        await self.answer(send, b"held")

    async def large(self, _: Any, send: Any) -> None:
        await self.answer(send, b"x" * LARGE)

    async def file(self, _: Any, send: Any) -> None:
        """The same in parts, as a file is sent."""
        await self.answer(send, *[b"x" * (LARGE // 50)] * 50)

    async def stream(self, receive: Any, send: Any) -> None:
        """One event, then more once it is released, until the client disconnects."""
        message = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not message.done() or (await message)["type"] != "http.disconnect":
            if message.done():
                message = asyncio.ensure_future(receive())
            await send({"type": "http.response.body", "body": b"event", "more_body": True})
            await self.released.wait()
            await asyncio.sleep(0.01)
        self.disconnected = True

    async def answer(self, send: Any, *pieces: bytes) -> None:
        length = (b"content-length", b"%d" % sum(map(len, pieces)))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1]})


class Running:
    """A running server, its application, and the clients that a test connects."""

    def __init__(self, server: LimitedServer, app: App) -> None:
        self.server, self.app = server, app
        self.address = server.servers[0].sockets[0].getsockname()
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self, data: bytes = b"", buffer: int | None = None) -> Pair:
        """A connection that has sent `data`; a small receive buffer is soon full."""
        client = socket.socket()
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.address)
        reader, writer = await asyncio.open_connection(sock=client, limit=buffer or 2**16)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    @property
    def connections(self) -> list[LimitedProtocol]:
        """The server's side of open connections, the oldest first."""
        connections = [
            c for c in self.server.server_state.connections if isinstance(c, LimitedProtocol)
        ]
        return sorted(connections, key=lambda c: c.opened_at)

    @property
    def unread_bytes(self) -> int:
        """The bytes in write buffers."""
        return sum(c.transport.get_write_buffer_size() for c in self.connections)


@asynccontextmanager
async def limited(**limits: Any) -> AsyncIterator[Running]:
    """A server on a free port, with these limits."""
    app = App()
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="critical")
    server = LimitedServer(config, HttpLimits(**limits))
    listener = socket.create_server(("127.0.0.1", 0))
    # Connections inherit it. Without it the kernel's send buffer grows until it holds a whole response.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
    task = asyncio.create_task(server.serve([listener]))
    await until(lambda: server.started)
    running = Running(server, app)
    try:
        yield running
    finally:
        app.released.set()
        for writer in running.writers:
            writer.transport.abort()
        server.should_exit = True
        await asyncio.wait_for(task, 10)


def run(test: Coroutine[Any, Any, None], seconds: float = 15) -> None:
    """Run a test in the event loop that the programs use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, seconds))


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the server sets no event
            await asyncio.sleep(0.005)


async def read_all(reader: asyncio.StreamReader, seconds: float = 5) -> bytes:
    """The bytes of a connection until the server closes it."""
    content = bytearray()
    async with asyncio.timeout(seconds):
        try:
            while piece := await reader.read(2**16):
                content += piece
        except ConnectionError:
            pass
    return bytes(content)
