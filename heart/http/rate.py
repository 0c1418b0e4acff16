"""A limit on how many outcomes each sender records in a minute."""

import time
from collections.abc import Callable

MINUTE = 60.0


class RateExceeded(Exception):
    """A sender has sent too much within a minute; `retry_after` is in seconds."""

    def __init__(self, sender: str, per_minute: float, retry_after: float) -> None:
        super().__init__(f"the token {sender} may send {per_minute:g} outcomes in a minute")
        self.retry_after = retry_after


class RateLimit:
    """A token bucket for each sender: a full one allows `per_minute` at once, and it refills in a minute.

    Senders are the names of tokens in the settings, so their number is bounded.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what was left, and when

    def take(self, sender: str) -> float:
        """Take one; returns 0, or the seconds to wait if none is left."""
        now = self._clock()
        left, since = self._buckets.get(sender, (self._capacity, now))
        left = min(self._capacity, left + (now - since) * self._capacity / MINUTE)
        allowed = left >= 1
        self._buckets[sender] = (left - allowed, now)
        return 0.0 if allowed else (1 - left) * MINUTE / self._capacity

    def require(self, sender: str) -> None:
        """Take one. Raises RateExceeded if none is left."""
        if seconds := self.take(sender):
            raise RateExceeded(sender, self._capacity, seconds)
