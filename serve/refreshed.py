"""A value that takes time to compute, shared by all who ask for it.

Scores over all recorded outcomes take longer the more there are. Computed for each scrape, a million
predictions and some dozen scrapers would occupy the service completely. Here at most one thread computes
at any time, only if somebody asks and something has changed, and it rests nine times as long as a slow
computation took. A quick one (the usual case) is waited for, so that its value is current; instead of a
slow one the last value is returned:

    t = 0 s     first scrape: computes for 0.7 s, and gets the value after WAIT_SECONDS or not at all
    t = 5 s     an outcome was recorded since: 40 scrapes get the last value, one thread computes again
    t = 5.7 s   the next computation starts at 12 s at the earliest
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 0.5  # of the one who asks, unless the last computation was slow
SLOW_SECONDS = 0.1
REST = 9  # times the duration of a slow computation
# Other processes change the log too, and nothing says so.
MAX_AGE_SECONDS = 15.0


class Refreshed(Generic[T]):
    """A value computed in a thread of its own; `get` may be called by any other thread."""

    def __init__(
        self,
        compute: Callable[[], T],
        state: Callable[[], Hashable],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`compute` is called again only if `state` has changed since, or MAX_AGE_SECONDS are over."""
        self._compute = compute
        self._state = state
        self._clock = clock
        self._changed = threading.Condition()
        self._result: Callable[[], T] | None = None
        self._of: Hashable = None  # the state for which it was computed
        self._started = -MAX_AGE_SECONDS
        self._duration = 0.0
        self._ended = 0.0
        self._running = False

    def get(self) -> T | None:
        """The value, or None if none was ever computed in time. Raises what the last computation raised."""
        with self._changed:
            if not self._is_fresh():
                self._start()
                seconds = WAIT_SECONDS if self._duration <= SLOW_SECONDS else 0
                self._changed.wait_for(self._is_fresh, seconds)
            result = self._result
        return result() if result else None

    def _is_fresh(self) -> bool:
        state, age = self._state(), self._clock() - self._started
        if self._result is not None and state == self._of and age < MAX_AGE_SECONDS:
            return True
        if not self._running:
            self._start()  # what was computed meanwhile is not fresh any more
        return False

    def _start(self) -> None:
        rest = REST * self._duration if self._duration > SLOW_SECONDS else 0
        if self._running or self._clock() < self._ended + rest:
            return
        self._running = True
        threading.Thread(target=self._run, name="scores", daemon=True).start()

    def _run(self) -> None:
        state, started = self._state(), self._clock()
        result: Callable[[], T]
        try:
            value = self._compute()
        except Exception as error:  # noqa: BLE001  # `get` raises it
            result = _raising(error)
        else:
            result = lambda: value  # noqa: E731
        with self._changed:
            self._result, self._of, self._started = result, state, started
            self._ended = self._clock()
            self._duration = self._ended - started
            self._running = False
            self._changed.notify_all()


def _raising(error: Exception) -> Callable[[], Any]:
    kind, values = type(error), error.args

    def fail() -> NoReturn:
        # A new one: an error that is raised in many threads collects all their tracebacks.
        raise kind(*values)

    return fail
