"""Bounds of what clients may hold of an HTTP server: heads, queues, unread responses, connections.

uvicorn bounds none of them. They are kept in the protocol, before any application sees a request.
"""

import json
import resource
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

PIECE = 16 * 1024  # bytes that are parsed between two looks at what has gathered
GRACE_SECONDS = 0.2  # in which a new connection is not closed: its request may be on its way
UNSENT_BYTES = 32 * 1024  # of a response in the kernel; the rest waits here, where it is counted
MAX_FILES = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close drops what the kernel could not deliver


@dataclass(frozen=True)
class HttpLimits:
    """A client beyond one of them loses its connection, after a 431 where that can be said.

    A head is a request line with its headers. Its size is checked once a piece, so that up to two
    pieces more may pass.
    """

    head_bytes: int = 32 * 1024  # also of what comes between two pieces of a body, and of trailers
    head_fields: int = 100  # headers, or headers and trailers
    head_seconds: float = 10.0  # for a whole head, from the connection or from its first byte
    pipelined_requests: int = 16  # that wait while one on the same connection is answered
    pipelined_bytes: int = 64 * 1024
    unread_seconds: float = 15.0  # in which a client takes nothing of what was sent
    unread_bytes: int = 64 * 1024 * 1024  # of all responses that wait for their clients
    connections: int = 1024
    linger_seconds: float = 1.0  # for a refusal to be read; a close would discard it


class Connections(ServerState):
    """The connections of one server, and what they hold together."""

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__()
        self.limits = limits
        self.unread: dict[LimitedProtocol, None] = {}  # write buffers beyond the high-water mark

    def bound_unread(self) -> None:
        """Drop those whose responses have waited longest, until the rest is within the limit."""
        sizes = {c: c.transport.get_write_buffer_size() for c in self.unread}
        excess = sum(sizes.values()) - self.limits.unread_bytes
        for connection, size in sizes.items():
            if excess <= 0:
                break
            excess -= size
            del self.unread[connection]
            # Not at once: this may be in the midst of its transport's `write`.
            connection.loop.call_soon(connection.drop)

    def sweep(self, now: float) -> None:
        """Close connections on which no request comes, and those beyond the limit."""
        opened = [c for c in self.connections if isinstance(c, LimitedProtocol)]
        for connection in opened:
            connection.close_if_silent(now)
        if len(opened) > self.limits.connections:
            self._close_surplus([c for c in opened if now - c.opened_at > GRACE_SECONDS])

    def _close_surplus(self, opened: list["LimitedProtocol"]) -> None:
        """Close those first that never sent a request, then idle ones, then those that draw one out.

        A request in work is dropped only if these alone are too many, the newest first.
        """
        most = self.limits.connections
        opened.sort(key=lambda c: c.opened_at)
        waiting = [c for c in opened if c.waits_for_client]
        waiting.sort(key=lambda c: (c.running is not None, c.is_busy))
        working = [c for c in opened if not c.waits_for_client]
        for connection in waiting[: max(0, len(opened) - most)] + working[most:]:
            connection.drop()


class _Flow(FlowControl):
    """Reads nothing more of a connection while requests of it are queued."""

    def __init__(self, transport: Any, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if self.read_paused and not self._pipeline:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within limits.

    It adds 1 microsecond to a request; `super()` in the methods that run for each would double that.
    """

    server_state: Connections

    def __init__(
        self, config: uvicorn.Config, server_state: Connections, *arguments: Any, **named: Any
    ) -> None:
        super().__init__(config, server_state, *arguments, **named)
        self.limits = server_state.limits
        self._head_bytes, self._head_fields = self.limits.head_bytes, self.limits.head_fields
        self.headers = []
        self.running: RequestResponseCycle | None = None  # `cycle` is the last one that was parsed
        self.opened_at = time.monotonic()
        self._refused = False
        self._progress = False
        self._framing = 0  # bytes since the begin of a message or the last of its body
        self._queued = 0  # bytes since the first request that waits for another
        self._awaited: tuple[RequestResponseCycle | None, float] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.unread.pop(self, None)
        # uvicorn tells only the last request that was parsed, and after an error keeps the timer.
        self.pipeline.clear()
        self._disconnect_running()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    # What comes

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if len(data) > PIECE:
            for start in range(0, len(data), PIECE):
                self.data_received(data[start : start + PIECE])
            return
        begun, self._progress = self.scope, False
        HttpToolsProtocol.data_received(self, data)
        if self._progress or self.scope is not begun:
            self._framing = 0
        else:
            self._framing += len(data)
        if self._framing > self._head_bytes or len(self.headers) > self._head_fields:
            self._refuse(431, self._too_large())
        if self.pipeline:
            self._bound_queue(len(data))

    def _bound_queue(self, more: int) -> None:
        self._queued += more
        if self._queued > self.limits.pipelined_bytes:
            self._refuse(431, self._too_large())

    def on_headers_complete(self) -> None:
        queue = self.pipeline
        full = queue and len(queue) >= self.limits.pipelined_requests
        if full or len(self.headers) > self._head_fields:
            self._refuse(431, self._too_large())
            raise ValueError  # ends the parsing; what uvicorn does then is nothing any more
        HttpToolsProtocol.on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        self._progress = True
        HttpToolsProtocol.on_body(self, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        if not self.pipeline:
            self._queued = 0
        HttpToolsProtocol._start_asgi_task(self, cycle, app)  # noqa: SLF001  # the base class's own

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _too_large(self) -> str:
        limits = self.limits
        return (
            f"the request's head, or what frames its body, is larger than {limits.head_bytes} bytes "
            f"or {limits.head_fields} fields"
        )

    def _refuse(self, status: int, detail: str) -> None:
        """Take nothing more. Requests that came whole before are answered, then the connection ends."""
        if self._refused:
            return
        self._refused = True
        del self.headers[self._head_fields :]
        if self.is_busy and (self._in_head or not self.cycle.more_body):
            self.cycle.keep_alive = False
        elif self.is_busy and (self.running is not self.cycle or self.cycle.response_started):
            self.drop()
        else:
            self._disconnect_running()
            self._unset_keepalive_if_required()
            self.transport.write(self._refusal(status, detail))
            self.transport.close()

    def _refusal(self, status: int, detail: str) -> bytes:
        body = json.dumps({"detail": detail}).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = (b"%b: %b\r\n" % header for header in headers)
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])

    def _disconnect_running(self) -> None:
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()

    # What goes

    def pause_writing(self) -> None:
        super().pause_writing()
        self.server_state.unread[self] = None
        self.server_state.bound_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server_state.unread.pop(self, None)

    # What the sweep asks

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.running is not None and not self.running.response_complete

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn, to send or to read."""
        running = self.running
        if running is None or running.response_complete or running.more_body:
            return True
        return self.transport.get_write_buffer_size() > 0

    @property
    def _in_head(self) -> bool:
        begun: Any = self.scope
        return begun is not None and (self.cycle is None or self.cycle.scope is not begun)

    def close_if_silent(self, now: float) -> None:
        """Close where the head of a request has been due for too long, whatever came of it."""
        running = self.running
        if running is not None:
            idle = self.timeout_keep_alive_task is not None and not self._in_head
            if idle or not running.response_complete:
                self._awaited = None
                return
        if self._awaited is None or self._awaited[0] is not running:
            self._awaited = running, now
        elif now - self._awaited[1] > self.limits.head_seconds:
            self.transport.close()

    def drop(self) -> None:
        """Close the connection, and forget what its client has not read, in the kernel too."""
        if self not in self.connections:
            return  # closed already: its socket may be another's
        if self.transport.get_write_buffer_size():
            with suppress(OSError):
                own = self.transport.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class LimitedServer(uvicorn.Server):
    """uvicorn's server with `LimitedProtocol`, and without web sockets, which nothing here has."""

    server_state: Connections

    def __init__(self, config: uvicorn.Config, limits: HttpLimits | None = None) -> None:
        config.http, config.ws = LimitedProtocol, "none"
        super().__init__(config)
        self.limits = limits or HttpLimits()
        self.server_state = Connections(self.limits)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal ends it; Ctrl-C is no error."""
        with suppress(KeyboardInterrupt):
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; sockets of connections have the options of the one that listens."""
        await super().startup(sockets)
        for listener in (s for server in self.servers for s in server.sockets):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: ends those who read nothing
                milliseconds = round(self.limits.unread_seconds * 1000)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second, and a look at the connections."""
        self.server_state.sweep(time.monotonic())
        return await super().on_tick(counter)


def raise_file_limit() -> None:
    """As many open files as may be: with the usual 1024 some slow clients would shut out all others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
