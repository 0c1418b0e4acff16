"""A system clock that is ahead makes every prediction old; none is deleted for that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from heart.predictions.log import PredictionLog
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import opened, records

pytestmark = pytest.mark.security

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEARS = 3650 * DAY


class Machine:
    """A system clock that can be set, and a clock that only time moves."""

    def __init__(self) -> None:
        self.now = NOON
        self.running = 1000.0

    def passes(self, duration: timedelta) -> None:
        self.now += duration
        self.running += duration.total_seconds()

    def read(self) -> datetime:
        return self.now


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clocks(machine: Machine) -> dict[str, Any]:
    """The machine's clocks as arguments of a log."""
    return {"clock": machine.read, "running": lambda: machine.running}


@pytest.fixture
def start(url: str, clocks: dict[str, Any]) -> Callable[..., Any]:
    """Start a service with a retention of 30 days on this machine."""

    @contextmanager
    def started(confirmed: date | None = None) -> Iterator[PredictionLog]:
        with opened(url, retention_days=30, clock_confirmed=confirmed, **clocks) as log:
            yield log

    return started


def test_old_rows_are_purged_while_time_passes(start: Any, machine: Machine) -> None:
    with start() as log:
        log.append_sync(records(2))
        for _ in range(29):
            machine.passes(DAY)
            assert log.purge() == 0
        machine.passes(HOUR * 25)

        assert log.purge() == 2
        assert log.notes() == []


def test_a_clock_that_jumps_ahead_while_the_service_runs_deletes_nothing(
    start: Any, machine: Machine, security_figure: SecurityFigure
) -> None:
    with start() as log:
        log.append_sync(records(100))
        log.purge()
        machine.now += YEARS
        log.append_sync(records(1))  # the newest row now has the wrong time

        for _ in range(30):
            machine.passes(HOUR)
            assert log.purge() == 0

        assert log.count() == 101
        (note,) = log.notes()
        assert "2036" in note
        machine.now -= YEARS
        assert log.purge() == 0
        assert log.notes() == []
    security_figure("clock ten years ahead while the service runs", "0 of 100 rows purged", "none")


def test_a_clock_that_is_ahead_after_a_restart_deletes_nothing(
    start: Any, machine: Machine, security_figure: SecurityFigure
) -> None:
    with start() as log:
        log.append_sync(records(100))
        log.purge()
    machine.now += YEARS
    for _ in range(3):
        with start() as log:
            assert log.purge() == 0
            log.append_sync(records(1))
            machine.passes(HOUR)
            assert log.purge() == 0

    with start() as log:
        assert log.count() == 103
    security_figure("clock ten years ahead at a start", "0 of 100 rows purged", "none")


def test_without_an_earlier_purge_the_oldest_row_is_what_is_known(
    start: Any, machine: Machine
) -> None:
    with start() as log:
        log.append_sync(records(3))
        machine.now += YEARS
        log.append_sync(records(1))

    with start() as log:
        assert log.purge() == 0
        assert log.count() == 4


def test_a_log_without_retention_knows_the_time_too(
    url: str, machine: Machine, clocks: dict[str, Any]
) -> None:
    with opened(url, **clocks) as log:
        log.append_sync(records(5))
        assert log.purge() == 0
        machine.now += YEARS
        log.append_sync(records(1))
        assert log.purge() == 0
        assert log.notes() == []

    with opened(url, retention_days=365, **clocks) as log:
        assert log.purge() == 0
        assert log.notes()
        assert log.count() == 6


def test_rows_of_a_clock_that_was_behind_for_a_while_stay_as_long_as_others(
    start: Any, machine: Machine, security_figure: SecurityFigure
) -> None:
    with start() as log:
        log.append_sync(records(2))
        log.purge()
        machine.now -= YEARS
        log.append_sync(records(7))
        machine.now += YEARS
        log.append_sync(records(1))
        for _ in range(29):
            machine.passes(DAY)
            assert log.purge() == 0
        machine.passes(2 * DAY)

        assert log.purge() == 10
    security_figure("clock ten years behind for a while", "0 of 7 rows purged early", "none")


def test_rows_of_a_clock_that_was_ahead_for_a_while_do_not_stay_longer(
    start: Any, machine: Machine
) -> None:
    with start() as log:
        log.append_sync(records(1))
        log.purge()
        machine.now += YEARS
        log.append_sync(records(1))
        machine.now -= YEARS
        log.append_sync(records(1))
        machine.passes(31 * DAY)
        log.purge()

        assert log.count() == 0


def test_a_clock_that_gains_a_little_each_hour_deletes_nothing_early(
    url: str, machine: Machine, clocks: dict[str, Any], security_figure: SecurityFigure
) -> None:
    with opened(url, retention_days=1, **clocks) as log:
        log.append_sync(records(100))
        log.purge()
        for _ in range(26):
            machine.now += HOUR - timedelta(seconds=1)
            assert log.purge() == 0
    security_figure("clock that gains 59 minutes at each purge", "0 of 100 rows purged", "none")


def test_after_a_short_stop_rows_are_purged(start: Any, machine: Machine) -> None:
    with start() as log:
        log.append_sync(records(3))
        log.purge()
        machine.passes(28 * DAY)
        log.purge()
    machine.passes(6 * DAY)

    with start() as log:
        assert log.purge() == 3


def test_after_a_long_stop_a_person_confirms_the_date(start: Any, machine: Machine) -> None:
    with start() as log:
        log.append_sync(records(3))
        log.purge()
    machine.passes(40 * DAY)

    with start() as log:
        assert log.purge() == 0
        (note,) = log.notes()
        assert "HEART_LOG_CLOCK_CONFIRMED=2026-06-10" in note
    with start(date(2026, 6, 10)) as log:
        assert log.purge() == 3
        assert log.notes() == []
    machine.now += YEARS
    with start(
        date(2026, 6, 10)
    ) as log:  # a date that is left in the settings confirms no later one
        log.append_sync(records(1))
        assert log.purge() == 0


def test_a_clock_that_was_behind_may_be_corrected(start: Any, machine: Machine) -> None:
    machine.now -= YEARS
    with start() as log:
        log.append_sync(records(1))
        log.purge()
        machine.now += YEARS
        log.append_sync(records(1))
        assert log.purge() == 0
    with start(date(2026, 5, 1)) as log:
        assert log.purge() == 1
        assert log.count() == 1
