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

- Connections beyond 1024, those whose next head is overdue, and those that read too little of a response are
  closed by `sweep`, ten times a second: of surplus ones first those without a request, then idle ones, then
  those that wait for their client.
- A request beyond the concurrency limit is rejected as soon as its head is complete (`heart/http/gate.py`),
  without a task. Then nothing is read from its connection for a moment: a client that retries at once
  would otherwise take the time in which others are answered.

All of it runs in the event loop. A connection is dropped in a later turn (`call_soon`), because a limit may be
reached inside `transport.write` of the same connection. Such attacks are known as Slowloris and slow read
(https://en.wikipedia.org/wiki/Slowloris_(cyber_attack)).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from uvicorn.server import ServerState

if TYPE_CHECKING:
    from heart.http.gate import Gate

GRACE_SECONDS = 0.2  # age below which a connection is not closed as surplus
READ_BYTES = 16 * 1024  # a client that reads a response more slowly is disconnected


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
    # In which a client must read READ_BYTES of a response, or the rest of it.
    unread_seconds: float = 15.0
    unread_bytes: int = 64 * 1024 * 1024  # of all responses that wait for their clients
    connections: int = 1024
    rejection_seconds: float = (
        0.25  # after a rejection for overload, until the next request is read
    )
    # Between an error response and closing: an immediate close could discard the response.
    linger_seconds: float = 1.0


class Connection(Protocol):
    """What is decided about a connection here; `heart.http.protocol` has the class."""

    transport: Any
    loop: Any
    running: Any
    opened_at: float

    @property
    def is_busy(self) -> bool: ...
    @property
    def waits_for_client(self) -> bool: ...
    def close_if_overdue(self, now: float) -> None: ...
    def drop_if_unread(self, now: float) -> None: ...
    def drop(self) -> None: ...


class Connections(ServerState):
    """The open connections of a server, and the limits that they share."""

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__()
        self.limits = limits
        self.gate: Gate | None = None  # without one, only the application rejects requests
        self.sub_path = ""  # of the links in responses to heads that are not complete
        # Those whose write buffer is above its high-water mark, in the order in which that happened.
        self.unread: dict[Connection, None] = {}

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
        """Close connections whose head is overdue, unread ones, and connections beyond the limit."""
        connections = cast("list[Connection]", list(self.connections))
        for connection in connections:
            connection.close_if_overdue(now)
            connection.drop_if_unread(now)
        if len(connections) > self.limits.connections:
            self._close_surplus([c for c in connections if now - c.opened_at > GRACE_SECONDS])

    def _close_surplus(self, connections: list[Connection]) -> None:
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
