"""uvicorn's HTTP protocol with the limits of `heart/http/limits.py` on one connection."""

import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from heart.http.limits import READ_BYTES, Connections
from heart.http.problems import KINDS, PROBLEM_JSON, encode, problem
from heart.http.request_id import NAME as REQUEST_ID
from heart.http.request_id import new_id

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Scope

CHUNK_BYTES = 16 * 1024  # parsed between two checks of the limits
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what the kernel has not delivered


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
        self.rejected = False  # whether the rest of what the client sends is ignored
        self._body_received = False  # in the chunk that is being parsed
        self._framing_bytes = 0  # since the start of a message or the last part of its body
        self._queued_bytes = 0  # since the first request that waits for another one
        self._overdue_since: tuple[RequestResponseCycle | None, float] | None = None
        self._unread: tuple[int, float] | None = None  # bytes, and the time since which they wait
        self._pause: asyncio.TimerHandle | None = None  # of reading, after a rejection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _PipelineFlowControl(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.unread.pop(self, None)
        # uvicorn notifies only the request that was parsed last, and keeps its timer after an error.
        self.pipeline.clear()
        self._disconnect_running()
        self._unset_keepalive_if_required()
        if self._pause is not None:
            self._pause.cancel()
        super().connection_lost(exc)

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self.rejected:
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
            self._reject("head-too-large", self._too_large())
        if self.pipeline:
            self._limit_queue(len(data))

    def _limit_queue(self, size: int) -> None:
        self._queued_bytes += size
        if self._queued_bytes > self.limits.pipelined_bytes:
            self._reject("head-too-large", self._too_large())

    def on_headers_complete(self) -> None:
        queue = self.pipeline
        full = queue and len(queue) >= self.limits.pipelined_requests
        if full or len(self.headers) > self._head_fields:
            self._reject("head-too-large", self._too_large())
            raise ValueError  # stops the parser
        HttpToolsProtocol.on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        self._body_received = True
        HttpToolsProtocol.on_body(self, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        if not self.pipeline:
            self._queued_bytes = 0
        gate = self.server_state.gate
        if self.rejected and self._pause is not None:
            cycle.response_complete = True  # it was sent behind a rejected request
        elif gate is None or gate.admits(cast("Scope", cycle.scope)):
            HttpToolsProtocol._start_asgi_task(self, cycle, app)  # noqa: SLF001  # of the base class
        else:
            self._shed(cycle, gate.response(cast("Scope", cycle.scope)))

    def _shed(self, cycle: RequestResponseCycle, response: bytes) -> None:
        """Reject a request without a task; what follows of its body is ignored."""
        cycle.response_started = cycle.response_complete = True
        headers = self.server_state.default_headers
        if not cycle.keep_alive:
            headers = [*(h for h in headers if h[0] != b"connection"), (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[503], *lines, response]))
        if not cycle.keep_alive:
            self.transport.close()
        elif self._pause is not None:
            # The client had sent it before it could read the first rejection: pipelining.
            self.rejected = True
            self.loop.call_later(self.limits.linger_seconds, self.transport.close)
        else:
            seconds = self.limits.rejection_seconds
            self._pause = self.loop.call_later(seconds, self.end_pause)
            self.on_response_complete()
            self.flow.pause_reading()

    def end_pause(self) -> None:
        """Read from the client again, after a rejection for overload."""
        self._pause = None
        self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Reject an invalid request; uvicorn would write into the response to an earlier one."""
        self._reject("bad-request", msg)

    def _too_large(self) -> str:
        return (
            f"the request's head or trailers are too large: expected at most {self._head_bytes} bytes "
            f"and {self._head_fields} fields"
        )

    def _reject(self, kind: str, detail: str) -> None:
        """Ignore all further input. Complete earlier requests are answered before the connection closes."""
        if self.rejected:
            return
        self.rejected = True
        del self.headers[self._head_fields :]
        if self.is_busy and (self._in_head or not self.cycle.more_body):
            self.cycle.keep_alive = False
        elif self.is_busy and (self.running is not self.cycle or self.cycle.response_started):
            self.drop()
        else:
            self._disconnect_running()
            self._unset_keepalive_if_required()
            self.transport.write(self._error_response(kind, detail))
            self.loop.call_later(self.limits.linger_seconds, self.transport.close)

    def _error_response(self, kind: str, detail: str) -> bytes:
        request_id = new_id()
        body = encode(problem(kind, detail, request_id, self.server_state.sub_path))
        headers = [
            *(h for h in self.server_state.default_headers if h[0] != b"connection"),
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (REQUEST_ID, request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = (b"%b: %b\r\n" % header for header in headers)
        return b"".join([STATUS_LINE[KINDS[kind].status], *lines, b"\r\n", body])

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

    def drop_if_unread(self, now: float) -> None:
        """Drop the connection if its client reads nothing of a response, or a few bytes at a time."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unread = None
        elif self._unread is None or not -READ_BYTES < size - self._unread[0] <= 0:
            self._unread = size, now
        elif now - self._unread[1] > self.limits.unread_seconds:
            self.drop()

    def drop(self) -> None:
        """Close the connection and discard what its client has not read, in the kernel too."""
        if self not in self.connections:
            return  # closed already: the descriptor may belong to another connection
        if self.transport.get_write_buffer_size():
            with suppress(OSError):
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()
