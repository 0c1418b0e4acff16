"""Limits on what one client, and all clients together, have in progress or attempt.

A client is an address, of IPv6 its network of 64 bits, which one host owns. Both tables have an entry only
for what they limit, so their own size is limited too. All of it belongs to one event loop.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

NETWORK_BITS = 64


class QuotaExceeded(Exception):
    """A limit is reached: the client's own, or that of all clients; `seconds` until another attempt."""

    def __init__(self, *, own: bool, seconds: int = 1) -> None:
        super().__init__(f"the limit of {'one client' if own else 'all clients'} is reached")
        self.own = own
        self.seconds = seconds


def client_of(scope: Scope) -> str:
    """The client of a request, as the server or its trusted proxy gives it."""
    host: str = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{int(address) >> NETWORK_BITS:x}"
    return host


@dataclass(frozen=True)
class Quota:
    """Requests in progress, and the bytes of their bodies."""

    requests: int
    bytes: int


class Reservations:
    """Requests in progress, whose bytes are reserved before any of them is read."""

    def __init__(self, each: Quota, total: Quota) -> None:
        self._each = each
        self._total = total
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @property
    def clients(self) -> int:
        """Clients with a request in progress."""
        return len(self._requests)

    @contextmanager
    def reserve(self, client: str, length: int) -> Iterator[None]:
        """Count a request with a body of `length` bytes as long as the block runs. Raises QuotaExceeded."""
        if not _fits(self._requests[client], self._bytes[client] + length, self._each):
            raise QuotaExceeded(own=True)
        if not _fits(self._requests.total(), self._bytes.total() + length, self._total):
            raise QuotaExceeded(own=False)
        self._requests[client] += 1
        self._bytes[client] += length
        try:
            yield
        finally:
            self._requests[client] -= 1
            self._bytes[client] -= length
            if not self._requests[client]:
                del self._requests[client], self._bytes[client]


def _fits(requests: int, length: int, quota: Quota) -> bool:
    return requests < quota.requests and length <= quota.bytes


class Attempts:
    """The number of failed attempts in a period, which begins with the first one."""

    def __init__(
        self, each: int, total: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._each = each
        self._total = total
        self._seconds = seconds
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._end = math.inf

    def check(self, client: str) -> None:
        """Raise QuotaExceeded after too many failures, with the seconds until the next period."""
        now = self._clock()
        if now >= self._end:
            self._failures.clear()
        own = self._failures[client] >= self._each
        if own or self._failures.total() >= self._total:
            raise QuotaExceeded(own=own, seconds=math.ceil(self._end - now))

    def fail(self, client: str) -> None:
        """Count a failed attempt."""
        if not self._failures:
            self._end = self._clock() + self._seconds
        self._failures[client] += 1
