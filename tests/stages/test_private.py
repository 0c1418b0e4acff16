"""Rows of patients are for their owner: tables that stages write, and the folders that hold them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from heart import files
from heart.predictions.log import Record, new_ids
from heart.schema import NAMES
from monitoring.retraining import collect
from stages import prepare
from tests.heart.predictions.logs import VALUES, opened
from tests.private import not_private, open_to_all

RAW = Path(__file__).parents[2] / files.RAW
CACHE = Path(".dvc/cache")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose folders are open, with the patients that are known to all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_LOG_URL", "sqlite:///log.db")
    files.RAW.parent.mkdir(parents=True)
    files.RAW.write_bytes(RAW.read_bytes())
    Path(".dvc").mkdir()
    Path("params.yaml").write_text(
        json.dumps({"prepare": {"format": "auto", "invert_label": False}})
    )


def label(count: int) -> None:
    """Predictions of a service with an outcome."""
    with opened("sqlite:///log.db") as log:
        made = [Record(key, "7", 0.5, list(VALUES)) for key in new_ids(count)]
        log.append_sync(made)
        for record in made:
            log.record_outcome(record.id, "presence", "registry")


def test_what_is_collected_is_for_its_owner() -> None:
    label(2)
    with open_to_all():
        collect.main()

    assert files.PRODUCTION.stat().st_mode & 0o777 == 0o600
    # DVC gives what it checks out and caches modes of its own: their folders are closed.
    assert [path.stat().st_mode & 0o777 for path in (files.DATA, CACHE)] == [0o700, 0o700]


def test_patients_of_a_service_that_dvc_brings_are_for_their_owner() -> None:
    label(1)
    collect.main()
    CACHE.chmod(0o755)
    files.DATA.chmod(0o755)
    files.PRODUCTION.chmod(0o644)

    prepare.main()

    assert [path.stat().st_mode & 0o777 for path in (files.DATA, CACHE)] == [0o700, 0o700]


def test_without_patients_of_a_service_folders_stay_as_they_are() -> None:
    files.DATA.chmod(0o755)
    with opened("sqlite:///log.db"):
        collect.main()
    prepare.main()

    assert files.DATA.stat().st_mode & 0o777 == 0o755
    assert not CACHE.exists()


def test_tables_are_for_their_owner_and_figures_for_all() -> None:
    table = pd.DataFrame({name: ["1"] for name in NAMES})
    with open_to_all():
        prepare.main()
        files.write_table(files.TRAIN, table)
        files.write_table(files.PLOTS / "roc.csv", table, files.PUBLIC)

    assert not_private(files.DATA).keys() & {str(files.PREPARED), str(files.TRAIN)} == set()
    for path in (files.PLOTS / "roc.csv", files.METRICS / "prepare.json"):
        assert path.stat().st_mode & 0o777 == 0o666


def test_what_a_killed_stage_left_open_is_not_written_to() -> None:
    part = files.TRAIN.with_name("train.csv.part")
    part.touch()
    part.chmod(0o666)
    with part.open() as reader:
        files.write_table(files.TRAIN, pd.DataFrame({"age": ["57"]}))
        assert reader.read() == ""

    assert files.TRAIN.stat().st_mode & 0o777 == 0o600
