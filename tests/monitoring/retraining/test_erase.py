"""An erased patient is in no file of the checkout."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heart import files
from heart.errors import UserError
from heart.predictions.log import PredictionLog, Record, new_ids
from heart.schema import NAMES
from monitoring.retraining import collect, erase, lock
from monitoring.retraining.run import LOCK
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import ROOT, VALUES, opened

pytestmark = pytest.mark.security

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DERIVED = ("prepared", "train", "test", "merged", "out_of_fold")
LOG = "sqlite:///registry/predictions.db"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_LOG_URL", LOG)
    return tmp_path


def log_patients(log: PredictionLog, count: int) -> list[str]:
    """Ids of predictions with an outcome; each patient has a cholesterol of their own."""
    keys = sorted(new_ids(count))
    for number, key in enumerate(keys):
        values = list(VALUES)
        values[NAMES.index("cholesterol")] = 201.0 + number
        log.append_sync([Record(key, "7", 0.25, values)])
        log.record_outcome(key, "presence", "registry")
    return keys


def _write_log(folder: Path, content: bytes) -> None:
    """The logs of two retrainings, one of which quotes rows."""
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "000001.log").write_bytes(content)
    (folder / "logs" / "000002.log").write_text("no row of a patient")


def _cache(content: bytes, name: str) -> Path:
    path = files.CACHE / "files/md5" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


@pytest.fixture
def patients(checkout: Path) -> list[str]:
    """Five patients in a log, the labelled rows, derived files, and two versions of each in the cache."""
    with opened(LOG, clock=lambda: NOON) as log:
        keys = log_patients(log, 5)
    collect.main()
    content = files.PRODUCTION.read_bytes()
    for number, name in enumerate(DERIVED):
        (files.DATA / f"{name}.csv").write_bytes(content)
        _cache(content, f"{number:032x}")
    _cache(b"\n".join(content.splitlines()[:3]), "ab" * 16)
    _cache(b"nothing of a patient", "cd" * 16)
    (files.DATA / "synthetic.csv").write_text("patient_id,age\n,57\n")
    queued = checkout / ".dvc/tmp/exps/1/data"
    queued.mkdir(parents=True)
    (queued / "train.csv").write_bytes(content)
    (files.DATA / "train.csv.part").write_bytes(content)
    _write_log(checkout / "registry/retrain", content)
    return keys


def containing(folder: Path, *texts: str) -> list[str]:
    """The files below a folder with any of the texts."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts)
    )


def run(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["erase", *arguments])
        erase.main()


def test_an_erased_patient_is_in_no_file(
    patients: list[str], checkout: Path, security_figure: SecurityFigure
) -> None:
    erased, others = patients[2], [key for key in patients if key != patients[2]]
    line = next(line for line in files.PRODUCTION.read_text().splitlines() if erased in line)
    row = line.removeprefix(f"{erased},")
    before = containing(checkout, erased, row)
    assert len(before) >= 15

    run(erased)

    assert containing(checkout, erased, row) == []
    assert files.read_table(files.PRODUCTION)["patient_id"].tolist() == others
    assert (files.DATA / "synthetic.csv").exists()
    assert (files.CACHE / "files/md5/cd" / ("cd" * 15)).exists()
    assert not (files.DATA / "train.csv").exists()
    collect.main()  # the log agrees
    assert files.read_table(files.PRODUCTION)["patient_id"].tolist() == others
    security_figure(
        "files of a checkout with the row of an erased patient",
        f"{len(before)} before, 0 after",
        "0",
    )


def test_logs_of_retrainings_in_another_folder_are_erased_too(
    patients: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("receiver")
    monkeypatch.setenv("HEART_RETRAIN_FOLDER", str(folder))
    _write_log(folder, files.PRODUCTION.read_bytes())

    run(patients[2])

    assert [path.name for path in (folder / "logs").iterdir()] == ["000002.log"]


def test_several_patients_are_read_from_a_file(patients: list[str], checkout: Path) -> None:
    listed = checkout / "listed.txt"
    listed.write_text(f"{patients[0]}\n\n  {patients[4]}\n")

    run("--ids", str(listed), patients[1])
    listed.unlink()

    assert containing(checkout, patients[0], patients[1], patients[4]) == []
    assert files.read_table(files.PRODUCTION)["patient_id"].tolist() == patients[2:4]


def test_when_all_rows_are_erased_file_and_pointer_are_deleted(patients: list[str]) -> None:
    files.POINTER.touch()

    run(*patients)

    assert list(files.PRODUCTION.parent.iterdir()) == []


def test_a_patient_whom_the_service_erased_is_removed_from_the_files(
    patients: list[str], checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(LOG) as log:
        log.erase(patients[2])

        run(patients[2])  # the service runs

        assert containing(checkout, patients[2]) == []
        assert "another process writes" in capsys.readouterr().err
        assert log.ready() is None


def test_a_log_in_use_is_an_error_before_anything_is_changed(
    patients: list[str], checkout: Path
) -> None:
    before = containing(checkout, patients[2])
    with opened(LOG), pytest.raises(UserError, match=r"DELETE /predictions/ID"):
        run(patients[2])

    assert containing(checkout, patients[2]) == before


def test_a_second_call_has_nothing_to_do_and_says_so(patients: list[str]) -> None:
    run(patients[2])

    with pytest.raises(UserError, match=patients[2]):
        run(patients[2])


@pytest.mark.parametrize("text", ["4", "G" * 32, "../../data", ".*", "a" * 31])
def test_a_text_that_is_no_id_erases_nothing(
    patients: list[str], checkout: Path, text: str
) -> None:
    before = containing(checkout, "presence")

    with pytest.raises(UserError, match=re.escape(repr(text))):
        run(patients[0], text)
    with pytest.raises(UserError, match="ID="):
        run()

    assert containing(checkout, "presence") == before


def test_a_row_in_a_file_of_git_is_reported_and_kept(
    patients: list[str], command: Callable[..., Any], checkout: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files.RAW.parent.mkdir(parents=True)
    files.RAW.write_bytes(files.PRODUCTION.read_bytes())
    command("git init --quiet", checkout)
    command(f"git add {files.RAW}", checkout)

    run(patients[2])

    assert files.RAW.exists()
    assert f"remains: {files.RAW}" in capsys.readouterr().out


def test_nothing_is_erased_beside_a_retraining(patients: list[str]) -> None:
    with lock.hold(LOCK), pytest.raises(UserError, match=r"retrain\.lock"):
        run(patients[2])


def test_compacting_removes_deleted_rows_from_every_database(url: str) -> None:
    with opened(url) as log:
        keys = log_patients(log, 3)
        log.erase(keys[0])

        log.compact()

        assert log.last(9)["id"] == [keys[2], keys[1]]
        assert log.ready() is None


def test_rows_that_a_reader_kept_in_the_wal_are_overwritten_by_the_next_purge(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heart.predictions.sqlite.BUSY_SECONDS", 0.01)
    with opened(LOG) as log:
        keys = log_patients(log, 3)
        with log.store.reading() as reader:
            reader.exec_driver_sql("BEGIN")
            reader.exec_driver_sql("SELECT count(*) FROM predictions").scalar()
            log.erase(keys[1])
            assert containing(checkout, keys[1]) != []
            reader.exec_driver_sql("ROLLBACK")

        log.purge()

        assert containing(checkout, keys[1]) == []


STAGE = """
stages:
  split:
    cmd: cp data/production/labelled.csv data/train.csv
    deps: [data/production]
    outs: [data/train.csv]
"""


@pytest.mark.integration
def test_with_dvc_the_next_run_of_the_pipeline_is_without_the_patient(
    checkout: Path, command: Callable[..., Any]
) -> None:
    command("git init --quiet", checkout)
    command("dvc init --quiet", checkout)
    command(f"dvc remote add --default storage {checkout / 'remote'}", checkout)
    (checkout / "dvc.yaml").write_text(STAGE)
    with opened(LOG, clock=lambda: NOON) as log:
        keys = log_patients(log, 2)
        collect.main()
        command(f"dvc add {files.PRODUCTION}", checkout)
        command("dvc repro", checkout)
        keys += log_patients(log, 1)
    collect.main()
    command(f"dvc add {files.PRODUCTION}", checkout)
    command("dvc repro", checkout)
    assert len(containing(files.CACHE, keys[0])) == 2  # of the same content, only one

    environment = {"HEART_LOG_URL": LOG, "PYTHONPATH": str(ROOT)}
    output = command(
        f"{sys.executable} -m monitoring.retraining.erase {keys[0]}", checkout, **environment
    ).stdout

    assert containing(checkout, keys[0]) == []
    assert "DVC remote storage" in output
    command("dvc repro", checkout)
    assert containing(checkout, keys[0]) == []
    assert files.read_table(files.TRAIN)["patient_id"].tolist() == keys[1:]
    assert "up to date" in command("dvc status", checkout).stdout
