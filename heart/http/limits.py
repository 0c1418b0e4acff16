"""Limits on what clients can make an HTTP server hold: heads, pipelined requests, unread responses, connections.

uvicorn limits none of these. They are enforced in its protocol class, before an application sees a request:

- A head (request line and headers) is limited while it is parsed, in chunks of CHUNK_BYTES. A client that
  sends headers for ever gets a 431 after 32 KiB instead of filling the memory.
- Requests that wait behind another one of the same connection (pipelining) are limited in number and bytes.
- A response that its client does not read stays in the write buffer of its connection. `Connections.unread`
  has these connections in the order in which they stopped reading. If all buffers together exceed the
  limit, the longest waiting connections are dropped until the rest fits:

      unread_bytes = 64 MiB    A: 40 MiB since 12:00    B: 20 MiB since 12:01    C: + 10 MiB at 12:02
                               sum 70 MiB: A is dropped, 30 MiB remain

- Connections beyond 1024, and those whose next head is overdue, are closed by `sweep`, ten times a second:
  first the ones without a request, then idle ones, then those that wait for their client.

All of it runs in the event loop. A connection is dropped in a later turn (`call_soon`), because a limit may be
reached inside `transport.write` of the same connection. Such attacks are known as Slowloris and slow read
(https://en.wikipedia.org/wiki/Slowloris_(cyber_attack)).
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

CHUNK_BYTES = 16 * 1024  # parsed between two checks of the limits
GRACE_SECONDS = 0.2  # age below which a connection is not closed as surplus
# Of a response in the kernel; the rest stays in the process, where it is counted.
UNSENT_BYTES = 32 * 1024
MAX_FILES = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what the kernel has not delivered


@dataclass(frozen=True)
class HttpLimits:
    """A client that exceeds a limit is disconnected, with a 431 if a response is still possible.

    The size of a head is checked after each chunk, so it can exceed the limit by up to two chunks.
    """

    head_bytes: int = 32 * 1024  # also of trailers, and of the framing between two parts of a body
    head_fields: int = 100  # headers, or headers and trailers
    head_seconds: float = 10.0  # for a complete head, from the connection or from its first byte
    pipelined_requests: int = 16  # waiting while an earlier one of the same connection is answered
    pipelined_bytes: int = 64 * 1024
    unread_seconds: float = 15.0  # in which a client reads nothing of a response
    unread_bytes: int = 64 * 1024 * 1024  # of all responses that wait for their clients
    connections: int = 1024
    # Between an error response and closing: an immediate close could discard the response.
    linger_seconds: float = 1.0


class Connections(ServerState):
    """The open connections of a server, and the limits that they share."""

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__()
        self.limits = limits
        # Those whose write buffer is above its high-water mark, in the order in which that happened.
        self.unread: dict[LimitedProtocol, None] = {}

    def limit_unread(self) -> None:
        """Drop the connections that have waited longest for their clients until the rest fits the limit."""
        sizes = {c: c.transport.get_write_buffer_size() for c in self.unread}
        excess = sum(sizes.values()) - self.limits.unread_bytes
        for connection, size in sizes.items():
            if excess <= 0:
                break
            excess -= size
            del self.unread[connection]
            # Later, because this may run within `write` of the same transport.
            connection.loop.call_soon(connection.drop)

    def sweep(self, now: float) -> None:
        """Close connections whose request head is overdue, and connections beyond the limit."""
        connections = [c for c in self.connections if isinstance(c, LimitedProtocol)]
        for connection in connections:
            connection.close_if_overdue(now)
        if len(connections) > self.limits.connections:
            self._close_surplus([c for c in connections if now - c.opened_at > GRACE_SECONDS])

    def _close_surplus(self, connections: list["LimitedProtocol"]) -> None:
        """Close connections without a request first, then idle ones, then those that wait for the client.

        A request that is being answered is dropped only if these alone exceed the limit, the newest first.
        """
        limit = self.limits.connections
        connections.sort(key=lambda c: c.opened_at)
        waiting = [c for c in connections if c.waits_for_client]
        waiting.sort(key=lambda c: (c.running is not None, c.is_busy))
        working = [c for c in connections if not c.waits_for_client]
        surplus = max(0, len(connections) - limit)
        for connection in waiting[:surplus] + working[limit:]:
            connection.drop()


class _PipelineFlowControl(FlowControl):
    """Keeps reading paused while requests are queued; uvicorn resumes it after each response."""

    def __init__(self, transport: Any, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if self.read_paused and not self._pipeline:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    The methods that run for each request call the base class by name: `super()` would double what they add
    to it, about a microsecond.
    """

    server_state: Connections

    def __init__(
        self, config: uvicorn.Config, server_state: Connections, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(config, server_state, *args, **kwargs)
        self.limits = server_state.limits
        self._head_bytes, self._head_fields = self.limits.head_bytes, self.limits.head_fields
        self.headers = []
        self.running: RequestResponseCycle | None = None  # `cycle` is the last one that was parsed
        self.opened_at = time.monotonic()
        self._rejected = False
        self._body_received = False  # in the chunk that is being parsed
        self._framing_bytes = 0  # since the start of a message or the last part of its body
        self._queued_bytes = 0  # since the first request that waits for another one
        self._overdue_since: tuple[RequestResponseCycle | None, float] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _PipelineFlowControl(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.unread.pop(self, None)
        # uvicorn notifies only the request that was parsed last, and keeps its timer after an error.
        self.pipeline.clear()
        self._disconnect_running()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._rejected:
            return
        if len(data) > CHUNK_BYTES:
            for start in range(0, len(data), CHUNK_BYTES):
                self.data_received(data[start : start + CHUNK_BYTES])
            return
        scope, self._body_received = self.scope, False
        HttpToolsProtocol.data_received(self, data)
        if self._body_received or self.scope is not scope:  # a new scope: a message has started
            self._framing_bytes = 0
        else:
            self._framing_bytes += len(data)
        if self._framing_bytes > self._head_bytes or len(self.headers) > self._head_fields:
            self._reject(431, self._too_large())
        if self.pipeline:
            self._limit_queue(len(data))

    def _limit_queue(self, size: int) -> None:
        self._queued_bytes += size
        if self._queued_bytes > self.limits.pipelined_bytes:
            self._reject(431, self._too_large())

    def on_headers_complete(self) -> None:
        queue = self.pipeline
        full = queue and len(queue) >= self.limits.pipelined_requests
        if full or len(self.headers) > self._head_fields:
            self._reject(431, self._too_large())
            raise ValueError  # stops the parser
        HttpToolsProtocol.on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        self._body_received = True
        HttpToolsProtocol.on_body(self, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        if not self.pipeline:
            self._queued_bytes = 0
        HttpToolsProtocol._start_asgi_task(self, cycle, app)  # noqa: SLF001  # of the base class

    def send_400_response(self, msg: str) -> None:
        """Reject an invalid request; uvicorn would write into the response to an earlier one."""
        self._reject(400, msg)

    def _too_large(self) -> str:
        return (
            f"the request's head or trailers are too large: expected at most {self._head_bytes} bytes "
            f"and {self._head_fields} fields"
        )

    def _reject(self, status: int, detail: str) -> None:
        """Ignore all further input. Complete earlier requests are answered before the connection closes."""
        if self._rejected:
            return
        self._rejected = True
        del self.headers[self._head_fields :]
        if self.is_busy and (self._in_head or not self.cycle.more_body):
            self.cycle.keep_alive = False
        elif self.is_busy and (self.running is not self.cycle or self.cycle.response_started):
            self.drop()
        else:
            self._disconnect_running()
            self._unset_keepalive_if_required()
            self.transport.write(self._error_response(status, detail))
            self.loop.call_later(self.limits.linger_seconds, self.transport.close)

    def _error_response(self, status: int, detail: str) -> bytes:
        body = json.dumps({"detail": detail}).encode()
        headers = [
            *(h for h in self.server_state.default_headers if h[0] != b"connection"),
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

    # Sending

    def pause_writing(self) -> None:
        super().pause_writing()
        self.server_state.unread[self] = None
        self.server_state.limit_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server_state.unread.pop(self, None)

    # For the sweep

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.running is not None and not self.running.response_complete

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to send or to read before anything else happens."""
        running = self.running
        if running is None or running.response_complete or running.more_body:
            return True
        return self.transport.get_write_buffer_size() > 0

    @property
    def _in_head(self) -> bool:
        scope: Any = self.scope  # of the message that was started last; a complete head has a cycle
        return scope is not None and (self.cycle is None or self.cycle.scope is not scope)

    def close_if_overdue(self, now: float) -> None:
        """Close the connection if a complete request head has been due for too long."""
        running = self.running
        if running is not None:
            idle = self.timeout_keep_alive_task is not None and not self._in_head
            if idle or not running.response_complete:
                self._overdue_since = None
                return
        if self._overdue_since is None or self._overdue_since[0] is not running:
            self._overdue_since = running, now
        elif now - self._overdue_since[1] > self.limits.head_seconds:
            self.transport.close()

    def drop(self) -> None:
        """Close the connection and discard what its client has not read, in the kernel too."""
        if self not in self.connections:
            return  # closed already: the descriptor may belong to another connection
        if self.transport.get_write_buffer_size():
            with suppress(OSError):
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class LimitedServer(uvicorn.Server):
    """uvicorn's server with `LimitedProtocol`, and without web sockets, which no application here has."""

    server_state: Connections

    def __init__(self, config: uvicorn.Config, limits: HttpLimits | None = None) -> None:
        config.http, config.ws = LimitedProtocol, "none"
        super().__init__(config)
        self.limits = limits or HttpLimits()
        self.server_state = Connections(self.limits)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal; an interrupt from the keyboard is no error."""
        with suppress(KeyboardInterrupt):
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Accepted connections inherit the socket options set here."""
        await super().startup(sockets)
        for listener in (s for server in self.servers for s in server.sockets):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere only `unread_bytes` applies
                milliseconds = round(self.limits.unread_seconds * 1000)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    async def on_tick(self, counter: int) -> bool:
        """Check the connections ten times a second."""
        self.server_state.sweep(time.monotonic())
        return await super().on_tick(counter)


def raise_file_limit() -> None:
    """Raise the limit of open files to the system's maximum: slow clients soon use up the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
