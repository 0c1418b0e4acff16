"""Whether the system clock can be trusted to delete old predictions.

A clock that is ahead by years makes every prediction old. So the time of the last purge is kept in the log, also
without a retention:

- While the process runs, the system clock may have gained at most an hour, in all, on the clock that nobody can set.
- After a stop that clock knows nothing. The system clock may be at most a week ahead of the last purge (of the
  oldest prediction, if there was none); after a longer stop, a person confirms the date.

Example: the last purge was on May 1. A service that starts on May 5 purges. One that starts on May 20, or in
2036, deletes nothing until `confirmed` is May 20.

A clock that was behind for a while has dated its rows too early: `changes.purge` looks at their order.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day

from sqlalchemy import Connection, insert, select, update

from heart.predictions.tables import LogError, predictions, state

logger = logging.getLogger(__name__)

SEEN = "clock_seen"  # a row of `log_state`: seconds since 1970 at the last purge
RUNNING = timedelta(hours=1)
STOPPED = timedelta(days=7)


class ClockNotTrusted(LogError):
    """The system clock may be ahead; the message has the times and the way out."""


def running_seconds() -> float:
    """Seconds that nobody can set; on Linux with the time that the machine slept."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class RetentionClock:
    """The system clock, compared with the last purge."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        confirmed: date | None = None,
        running: Callable[[], float] = running_seconds,
    ) -> None:
        self._clock = clock
        self._confirmed = confirmed
        self._running = running
        self._lead: float | None = (
            None  # the least by which the system clock was ahead of the other one
        )

    def now(self, connection: Connection) -> datetime:
        """The time, which is then kept as that of the last purge. Raises ClockNotTrusted."""
        now, running = self._clock(), self._running()
        lead = now.timestamp() - running
        if self._lead is not None:
            expected = datetime.fromtimestamp(running + self._lead, UTC)
            _require(now, expected, RUNNING, "if the clock is right, restart the service")
        elif seen := self._seen(connection):
            _require(
                now,
                seen,
                STOPPED,
                f"if the clock is right, set HEART_LOG_CLOCK_CONFIRMED={now:%Y-%m-%d}",
            )
        _keep(connection, now)
        self._lead = lead if self._lead is None else min(lead, self._lead)
        return now

    def _seen(self, connection: Connection) -> datetime | None:
        """The latest time that is known to have passed."""
        seen: datetime | None
        seconds = connection.scalar(select(state.c.value).where(state.c.name == SEEN))
        if seconds is None:  # the newest prediction has the time of the clock that is in doubt
            oldest = select(predictions.c.created_at).order_by(predictions.c.seq).limit(1)
            seen = connection.scalar(oldest)
        else:
            seen = datetime.fromtimestamp(seconds, UTC)
        if seen is None or self._confirmed is None:
            return seen
        return max(seen, datetime.combine(self._confirmed, time_of_day.max, UTC))


class Retention:
    """The age at which predictions are deleted, and whether the clock allows it."""

    def __init__(self, days: float | None, clock: RetentionClock) -> None:
        self._age = None if days is None else timedelta(days=days)
        self._clock = clock
        self.refusal: str | None = None  # why the last purge deleted nothing

    def ages(
        self, change: Callable[[Callable[[Connection], datetime]], datetime], now: datetime | None
    ) -> tuple[datetime, datetime] | None:
        """The time before which predictions are old, and the present one; None if none may be deleted.

        A given `now` is trusted. `change` runs a transaction.
        """
        try:
            now = now or change(self._clock.now)
        except ClockNotTrusted as error:
            if self._age is None:
                return None
            if not self.refusal:
                logger.warning("The prediction log: %s", error)
            self.refusal = str(error)
            return None
        self.refusal = None
        return None if self._age is None else (now - self._age, now)


def _require(now: datetime, expected: datetime, tolerance: timedelta, way_out: str) -> None:
    if now > expected + tolerance:
        raise ClockNotTrusted(
            f"nothing is purged: the system clock says {now:%Y-%m-%d %H:%M}, expected at most "
            f"{expected + tolerance:%Y-%m-%d %H:%M} UTC; {way_out}"
        )


def _keep(connection: Connection, now: datetime) -> None:
    value = int(now.timestamp())
    changed = connection.execute(update(state).where(state.c.name == SEEN).values(value=value))
    if not changed.rowcount:
        connection.execute(insert(state).values(name=SEEN, value=value))
