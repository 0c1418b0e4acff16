"""A copy of a SQLite log, made while the service runs, takes the place of a lost log as docs/upgrade_and_backup.md says."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from heart.predictions.log import LogConfigurationError
from heart.predictions.tables import OUTCOMES
from tests.heart.predictions.logs import opened, records


def copied(file: Path, copy: Path) -> Path:
    """What `sqlite3 FILE ".backup COPY"` does."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def restored(copy: Path, file: Path) -> None:
    """The steps of the page."""
    for suffix in ("-id", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, file)


def test_a_restored_copy_has_predictions_outcomes_and_history_and_takes_more(
    tmp_path: Path,
) -> None:
    file = tmp_path / "logs" / "predictions.db"
    url = f"sqlite:///{file}"
    first, later = records(3), records(2)
    with opened(url) as log:
        log.append_sync(first)
        log.record_outcome(first[0].id, OUTCOMES[1], "registry", "ward")
        copy = copied(file, tmp_path / "copy.db")
        log.append_sync(later)
    file.unlink()
    with pytest.raises(LogConfigurationError, match="does not exist"), opened(url):
        pass

    restored(copy, file)

    with opened(url) as log:
        assert log.count() == 3
        assert log.labelled(names=("id", "outcome", "sender")) == {
            "id": [first[0].id],
            "outcome": [OUTCOMES[1]],
            "sender": ["ward"],
        }
        assert log.history()["sender"] == ["ward"]
        log.append_sync(later)
        assert log.count() == 5


def test_a_copy_starts_on_another_machine(tmp_path: Path) -> None:
    file, other = tmp_path / "one" / "predictions.db", tmp_path / "other" / "predictions.db"
    with opened(f"sqlite:///{file}") as log:
        log.append_sync(records(3))
        copy = copied(file, tmp_path / "copy.db")
    other.parent.mkdir()

    restored(copy, other)

    with opened(f"sqlite:///{other}") as log:
        assert log.count() == 3
    assert other.with_name("predictions.db-id").exists()
