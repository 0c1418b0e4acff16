"""The file of a log in SQLite: lost, emptied, exchanged, or reached by another path."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from heart.predictions.log import LogConfigurationError, LogUnavailable
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

    assert marker(file).read_text() == before


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
