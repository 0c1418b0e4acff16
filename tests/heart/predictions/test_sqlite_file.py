"""The file of a log in SQLite: lost, emptied, exchanged, or reached by another path."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heart.predictions.log import LogConfigurationError, LogUnavailable
from heart.predictions.tables import OUTCOMES
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import ROOT, opened, records

pytestmark = pytest.mark.security


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "log.db"


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def marker(file: Path) -> Path:
    return file.with_name(file.name + "-id")


def filled(file: Path, count: int = 3) -> None:
    """A log that a service has written and closed."""
    with opened(url(file)) as log:
        log.append_sync(records(count))


def _delete(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE other (x)")
        database.commit()


def _another_log(file: Path) -> None:
    filled(file.with_name("another.db"), 1)
    shutil.move(file.with_name("another.db"), file)


LOSSES = {
    "deleted": _delete,
    "emptied": _empty,
    "a database without tables of ours": _foreign,
    "another log": _another_log,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_log_is_not_begun_anew(
    file: Path, loss: str, security_figure: SecurityFigure
) -> None:
    filled(file)
    LOSSES[loss](file)
    before = file.read_bytes() if file.exists() else None

    with pytest.raises(LogConfigurationError) as error, opened(url(file)):
        pass

    assert str(file) in str(error.value)
    assert str(marker(file)) in str(error.value)
    assert "\n" not in str(error.value)
    if loss != "a database without tables of ours":  # its header may say WAL now
        assert (file.read_bytes() if file.exists() else None) == before
    security_figure(f"prediction log {loss} before a start", "no start", "no start")


@pytest.mark.parametrize("loss", LOSSES)
def test_without_its_id_file_a_new_log_begins(file: Path, loss: str) -> None:
    filled(file)
    LOSSES[loss](file)
    marker(file).unlink()

    with opened(url(file)) as log:
        log.append_sync(records(1))

        assert log.count() == 1 + (loss == "another log")


def test_a_restored_backup_of_the_same_log_is_accepted(file: Path, tmp_path: Path) -> None:
    filled(file)
    shutil.copy(file, tmp_path / "backup.db")
    _delete(file)
    shutil.copy(tmp_path / "backup.db", file)

    with opened(url(file)) as log:
        assert log.count() == 3


def test_a_log_from_elsewhere_gets_its_id_file(file: Path) -> None:
    filled(file)
    before = marker(file).read_text()
    marker(file).unlink()

    filled(file, 2)

    assert marker(file).read_text().split()[0] == before.split()[0]


WRITE = """
import os, signal, sys
from heart.predictions.log import PredictionLog
from tests.heart.predictions.logs import records
log = PredictionLog(sys.argv[1])
log.start()
log.append_sync(records(1))
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def wal(file: Path) -> Path:
    return file.with_name(file.name + "-wal")


def killed(file: Path) -> None:
    """A service writes one prediction and is killed."""
    command = [sys.executable, "-c", WRITE, url(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "written\n", done.stderr


def _deleted_wal(file: Path) -> None:
    wal(file).unlink()


def _emptied_wal(file: Path) -> None:
    wal(file).write_bytes(b"")


def _cut_wal(file: Path) -> None:
    wal(file).write_bytes(wal(file).read_bytes()[:-4096])


@pytest.mark.integration
@pytest.mark.parametrize("fault", [_deleted_wal, _emptied_wal, _cut_wal])
def test_rows_that_a_killed_service_acknowledged_are_not_lost_silently(
    file: Path, fault: Callable[[Path], None], security_figure: SecurityFigure
) -> None:
    filled(file)
    killed(file)
    fault(file)

    with pytest.raises(LogConfigurationError) as error, opened(url(file)):
        pass

    assert "ends with row 3" in str(error.value)
    assert str(marker(file)) in str(error.value)
    marker(file).unlink()
    with opened(url(file)) as log:
        assert log.count() == 3
    security_figure(
        f"WAL of a killed service {fault.__name__.split('_')[1]} before a start",
        "no start",
        "no start",
    )


@pytest.mark.integration
def test_a_killed_service_starts_again(file: Path) -> None:
    filled(file)
    killed(file)
    with closing(sqlite3.connect(file)) as database:  # as a person who looks into it
        assert database.execute("SELECT count(*) FROM predictions").fetchone() == (4,)
    assert not wal(file).exists()

    with opened(url(file)) as log:
        assert log.count() == 4


@pytest.mark.parametrize("fault", [_emptied_wal, _cut_wal])
def test_a_wal_that_is_cut_while_the_service_runs_is_not_written_and_spoils_nothing(
    file: Path, fault: Callable[[Path], None], security_figure: SecurityFigure
) -> None:
    filled(file, 500)
    with opened(url(file), retry_after=0.0) as log:
        log.append_sync(records(1))
        log.append_sync(records(1))
        fault(file)

        for _ in range(3):
            with pytest.raises(LogUnavailable, match="ends with row 50"):
                log.append_sync(records(1))

    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert 500 <= database.execute("SELECT count(*) FROM predictions").fetchone()[0] < 502
    security_figure(
        f"WAL {fault.__name__.split('_')[1]} while the service runs",
        "nothing written, database sound",
        "no further row acknowledged",
    )


def test_a_wal_that_another_program_has_moved_into_the_database_is_no_fault(file: Path) -> None:
    with opened(url(file)) as log:
        log.append_sync(records(2))
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        log.append_sync(records(1))

        assert log.count() == 3


@pytest.mark.parametrize("cut", ["to half", "by a page"])
def test_a_database_that_is_cut_while_the_service_runs_is_not_written(
    file: Path, cut: str, security_figure: SecurityFigure
) -> None:
    filled(file, 500)
    with opened(url(file), retry_after=0.0) as log:
        size = file.stat().st_size
        with file.open("r+b") as database:
            database.truncate(size // 8192 * 4096 if cut == "to half" else size - 4096)

        for _ in range(3):
            with pytest.raises(LogUnavailable):
                log.append_sync(records(1))
    security_figure(f"database cut {cut} while the service runs", "0 rows written", "none")


@pytest.mark.parametrize("change", ["erased", "purged", "compacted"])
def test_rows_that_the_service_itself_deletes_are_not_missed(file: Path, change: str) -> None:
    batch = records(40)
    with opened(url(file), retention_days=1) as log:
        log.append_sync(batch)
        if change == "purged":
            log.purge(datetime.now(UTC) + timedelta(days=2))
        else:
            for record in batch[10:]:
                log.erase(record.id)
        if change == "compacted":
            log.compact()
        log.append_sync(records(1))
        count = log.count()

    with opened(url(file)) as log:
        assert log.count() == count


def _contents(file: Path) -> bytes:
    return b"".join(part.read_bytes() for part in (file, wal(file)) if part.exists())


def test_a_purged_row_is_in_no_file(file: Path) -> None:
    batch = records(3)
    with opened(url(file), retention_days=1) as log:
        log.append_sync(batch)
        assert log.purge(datetime.now(UTC) + timedelta(days=2)) == 3

        assert batch[1].id.encode() not in _contents(file)


def test_a_row_that_a_reader_kept_from_being_overwritten_is_gone_after_the_next_start(
    file: Path,
) -> None:
    batch = records(3)
    with opened(url(file)) as log:
        log.append_sync(batch)
        reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM predictions").fetchone()
        log.erase(batch[1].id)
    with closing(reader):
        assert batch[1].id.encode() in _contents(file)

    with opened(url(file)) as log:
        log.purge()

        assert batch[1].id.encode() not in _contents(file)


def test_an_outcome_after_the_last_prediction_is_not_taken_for_its_row(file: Path) -> None:
    first = records(1)
    with opened(url(file)) as log:
        log.append_sync(first)
        for replace in (False, True, True):
            source = "registry" if replace else "clinician"
            log.record_outcome(first[0].id, OUTCOMES[replace], source, "ward", replace=replace)
        log.append_sync(first)  # is there already

    with opened(url(file)) as log:
        assert log.count() == 1


def test_a_missing_table_is_named(file: Path) -> None:
    filled(file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE shadow_predictions")
        database.execute("DROP TABLE predictions")

    with opened(url(file)) as log:
        assert "the table predictions is missing" in str(log.ready())


def test_a_folder_in_place_of_the_id_file_is_named(file: Path) -> None:
    filled(file)
    marker(file).unlink()
    marker(file).mkdir()

    with opened(url(file)) as log:
        assert marker(file).name in str(log.ready())


def test_a_damaged_id_file_is_named(file: Path) -> None:
    filled(file)
    marker(file).write_text("")

    with pytest.raises(LogConfigurationError, match="-id is damaged"), opened(url(file)):
        pass


@pytest.mark.parametrize("loss", ["deleted", "emptied", "another log"])
def test_a_log_that_is_lost_while_the_service_runs_is_not_written(
    file: Path, loss: str, security_figure: SecurityFigure
) -> None:
    filled(file, 500)  # closing it moves all rows from the WAL into the file
    with opened(url(file), retry_after=0.0) as log:
        LOSSES[loss](file)

        for _ in range(3):
            with pytest.raises(LogUnavailable):
                log.append_sync(records(1))
        assert log.ready()
    security_figure(
        f"prediction log {loss} while it is written", "3 of 3 writes rejected", "all rejected"
    )


# Other paths of the same file


def second_writer(path: Path) -> str:
    """What a process prints that opens the log by another path."""
    program = (
        "from heart.predictions.log import PredictionLog\n"
        f"PredictionLog('sqlite:///{path}').start(); print('writes')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@contextmanager
def symbolic_link(file: Path, other: Path) -> Iterator[Path]:
    other.symlink_to(file)
    yield other


@contextmanager
def link_of_folder(file: Path, other: Path) -> Iterator[Path]:
    other.symlink_to(file.parent)
    yield other / file.name


@contextmanager
def hard_link(file: Path, other: Path) -> Iterator[Path]:
    other.hardlink_to(file)
    yield other


@contextmanager
def bind_mount(file: Path, other: Path) -> Iterator[Path]:
    """The file alone in another folder, as a container may have it."""
    other.touch()
    done = subprocess.run(["mount", "--bind", file, other], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield other
    finally:
        subprocess.run(["umount", other], check=True)


@pytest.mark.integration
@pytest.mark.parametrize("way", [symbolic_link, link_of_folder, hard_link, bind_mount])
def test_a_second_writer_is_rejected_by_any_path(
    file: Path,
    tmp_path: Path,
    way: Callable[[Path, Path], AbstractContextManager[Path]],
    security_figure: SecurityFigure,
) -> None:
    with opened(url(file)) as log, way(file, tmp_path / "other") as path:
        log.append_sync(records(1))

        output = second_writer(path)

        assert "LogConfigurationError" in output
        assert "writes\n" not in output
        log.append_sync(records(1))
        assert log.ready() is None
    name = way.__name__.replace("_", " ")
    security_figure(f"second writer of the log by a {name}", "no start", "no start")


def test_a_file_with_a_second_name_is_not_opened(file: Path, tmp_path: Path) -> None:
    filled(file)
    (tmp_path / "second").hardlink_to(file)

    with pytest.raises(LogConfigurationError, match="2 names"), opened(url(file)):
        pass
    (tmp_path / "second").unlink()
    filled(file)


def test_a_log_behind_a_symbolic_link_is_used_in_its_own_folder(file: Path, tmp_path: Path) -> None:
    filled(file)
    (tmp_path / "link.db").symlink_to(file)

    with opened(url(tmp_path / "link.db")) as log:
        log.append_sync(records(1))

        assert log.count() == 4
        assert log.ready() is None
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "link.db"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux locks open files")
def test_locks_of_the_file_are_released(file: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        filled(file, 1)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
