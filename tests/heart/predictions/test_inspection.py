"""Damage in the middle of the log's file, which the newest rows do not show."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heart.predictions.log import PredictionLog
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import opened, records

pytestmark = pytest.mark.security

PAGE = 4096


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed log of some hundred pages."""
    path = tmp_path / "log.db"
    with opened(f"sqlite:///{path}") as log:
        log.append_sync(records(5000))
    return path


@pytest.fixture
def log(file: Path) -> Iterator[PredictionLog]:
    with opened(f"sqlite:///{file}", retry_after=0.0) as running:
        yield running


def damage(file: Path, page: int) -> None:
    with file.open("r+b") as content:
        content.seek(page * PAGE)
        content.write(os.urandom(PAGE))


def test_a_sound_log_has_no_damage(log: PredictionLog) -> None:
    inspection = log.inspect()

    assert (inspection.damage, inspection.complete) == (None, True)
    assert log.ready() is None
    assert log.notes() == []


def test_a_damaged_page_is_found_although_new_rows_can_be_written(
    file: Path, log: PredictionLog, security_figure: SecurityFigure
) -> None:
    damage(file, 60)
    log.append_sync(records(1))
    assert log.ready() is None

    started = time.monotonic()
    inspection = log.inspect()
    seconds = time.monotonic() - started

    reason = log.ready()
    assert inspection.damage == reason
    assert reason is not None
    assert "log.db is damaged" in reason
    assert "restore" in reason
    assert "\n" not in reason
    assert seconds < 10
    security_figure(
        "one damaged page in the middle of the prediction log",
        f"unready after a check of {seconds:.0f} s",
        "unready after the check at start, or within a day",
    )


def test_every_damaged_page_of_a_table_or_index_is_found(
    file: Path, security_figure: SecurityFigure
) -> None:
    sound = file.read_bytes()
    pages = range(1, len(sound) // PAGE, 25)
    for page in pages:
        file.write_bytes(sound)
        damage(file, page)
        log = PredictionLog(f"sqlite:///{file}")

        assert log.inspect().damage, page
        log.close()
    security_figure(
        "random bytes in one page of the log, page after page",
        f"{len(pages)} of {len(pages)} found",
        "all found",
    )


def test_a_file_that_is_no_database_is_damage(file: Path) -> None:
    file.write_bytes(os.urandom(5 * PAGE))
    log = PredictionLog(f"sqlite:///{file}")

    damage_of_file = log.inspect().damage

    assert damage_of_file is not None
    assert "log.db is damaged" in damage_of_file
    log.close()


def test_a_check_ends_in_time_and_says_so(log: PredictionLog) -> None:
    inspection = log.inspect(seconds=0)

    assert (inspection.damage, inspection.complete) == (None, False)
    assert log.ready() is None
    assert len(log.notes()) == 1


def test_a_check_does_not_hold_up_the_writer(file: Path, log: PredictionLog) -> None:
    """A read-only connection: the file is as before, but for what others write."""
    before = file.read_bytes()

    log.inspect()

    assert file.read_bytes() == before


def test_a_restored_file_ends_the_finding(file: Path, log: PredictionLog) -> None:
    sound = file.read_bytes()
    damage(file, 60)
    log.inspect()
    assert log.ready()
    file.with_name("restored").write_bytes(sound)
    file.with_name("restored").replace(file)

    assert log.ready() is None


def test_a_server_finds_damage_itself(url: str) -> None:
    with opened(url) as log:
        log.append_sync(records(1))

        assert log.inspect().damage is None
        assert log.ready() is None
