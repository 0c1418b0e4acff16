"""A value that takes time to compute, shared by all who ask for it.

Scores over all recorded outcomes take longer the more there are. Computed for each scrape, a million
predictions and some dozen scrapers would occupy the service completely. Here at most one thread computes
at any time, only if somebody asks and something has changed, and it rests nine times as long as a slow
computation took. A quick one (the usual case) is waited for, so that its value is current; instead of a
slow one the last value is returned:

    t = 0 s     first scrape: computes for 0.7 s, and gets the value
    t = 5 s     an outcome was recorded since: 40 scrapes get the last value, one thread computes again
    t = 5.7 s   the next computation starts at 12 s at the earliest
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 2.0  # of the one who asks, unless the last computation was slow
# A computation is slow from these on: processor time of its thread, which other programs do not lengthen, or time.
SLOW_CPU_SECONDS, SLOW_SECONDS = 0.1, 1.0
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
        self._slow = False
        self._rests_until = -math.inf
        self._running = False
        self._succeeded = False
        self._completed = 0

    @property
    def running(self) -> bool:
        """Whether the value is being computed."""
        return self._running

    def get(self) -> T | None:
        """The value, or None if none was ever computed in time. Raises what the last computation raised."""
        with self._changed:
            if not self._is_fresh():
                # One that runs already may have read the log before the change.
                enough = self._completed + (2 if self._running else 1)
                self._start()
                seconds = 0 if self._slow else WAIT_SECONDS
                self._changed.wait_for(lambda: self._is_done(enough), seconds)
            result = self._result
        return result() if result else None

    def _is_fresh(self) -> bool:
        age = self._clock() - self._started
        return self._succeeded and self._state() == self._of and age < MAX_AGE_SECONDS

    def _is_done(self, enough: int) -> bool:
        if self._is_fresh() or self._completed >= enough or (self._completed and self._slow):
            return True
        self._start()
        return False

    def _start(self) -> None:
        if self._running or self._clock() < self._rests_until:
            return
        self._running = True
        threading.Thread(target=self._run, name="scores", daemon=True).start()

    def _run(self) -> None:
        state, started, cpu = self._state(), self._clock(), time.thread_time()
        result: Callable[[], T]
        try:
            value = self._compute()
            succeeded = True
        except Exception as error:  # noqa: BLE001  # `get` raises it
            result, succeeded = _raising(error), False
        else:
            result = lambda: value  # noqa: E731
        with self._changed:
            self._result, self._of, self._started = result, state, started
            self._succeeded = succeeded
            self._completed += 1
            ended = self._clock()
            cpu = time.thread_time() - cpu
            self._slow = cpu > SLOW_CPU_SECONDS or ended - started > SLOW_SECONDS
            self._rests_until = ended + REST * (ended - started) if self._slow else -math.inf
            self._running = False
            self._changed.notify_all()


def _raising(error: Exception) -> Callable[[], Any]:
    kind, values = type(error), error.args

    def fail() -> NoReturn:
        # A new one: an error that is raised in many threads collects all their tracebacks.
        raise kind(*values)

    return fail
