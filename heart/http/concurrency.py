"""Limits on the requests that a program handles at the same time, and on the bodies that it holds for them.

Beyond a certain concurrency a server gets slower for everybody instead of answering more, so requests
beyond a limit are rejected at once (load shedding). A slot counts work, not waiting: a request gives its
slot back while its body arrives and takes it again afterwards, so slow clients cannot use up all slots::

    limit = 2    A: [slot| waits for its body      |slot]
                 B: [slot: is scored ]
                 C:     [slot: is scored ]                 admitted, because A only waits
                 D:         503                            B and C hold both slots

What a waiting request holds is memory, which has limits of its own: bytes of bodies that are not complete
(`hold`), and long bodies being processed (`long_body`). All counts belong to one event loop, so no lock is
needed. Source: "Handling Overload" in Google's Site Reliability Engineering,
https://sre.google/sre-book/handling-overload/.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from heart.http.deadlines import ClientDeadline

CLIENT_SECONDS = 10.0  # for a request's body to arrive, and for its response to be read
# A body up to this length is never rejected for lack of memory: connections limit the number of such.
SHORT_BODY_BYTES = 16 * 1024
# Long bodies in memory: those that are arriving together have at most the bytes of so many of the longest,
# and at most so many are processed at the same time.
LONG_BODIES = 8


class Overloaded(Exception):
    """Too many requests are in progress, or too many long bodies are in memory."""


class ConcurrencyLimiter:
    """A context manager that counts the requests in progress; it never waits and never raises by itself."""

    def __init__(self, limit: int, max_body_bytes: int) -> None:
        self.limit = limit
        self.active = 0
        self.draining = False  # the program ends soon: it is not ready for new requests
        self.deadline = ClientDeadline(CLIENT_SECONDS)
        self.buffered_bytes = 0  # of bodies that are not complete
        self._max_buffered_bytes = LONG_BODIES * max_body_bytes
        self._long_bodies = 0  # being processed

    @property
    def full(self) -> bool:
        """Whether another request must be rejected."""
        return self.active >= self.limit

    def hold(self, count: int, length: int) -> None:
        """Count `count` more bytes of a body that has `length` bytes so far. Raises Overloaded."""
        self.buffered_bytes += count
        if length > SHORT_BODY_BYTES and self.buffered_bytes > self._max_buffered_bytes:
            raise Overloaded

    def release(self, count: int) -> None:
        """Stop counting bytes of a body: it is complete, or discarded."""
        self.buffered_bytes -= count

    @contextmanager
    def long_body(self) -> Iterator[None]:
        """Count a long body as long as it is processed. Raises Overloaded."""
        if self._long_bodies >= LONG_BODIES:
            raise Overloaded
        self._long_bodies += 1
        try:
            yield
        finally:
            self._long_bodies -= 1

    def __enter__(self) -> None:
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1
