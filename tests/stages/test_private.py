"""Only the owner can read rows of patients: the tables of stages, and their folders."""

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
    """A project with readable folders and the public patients."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_LOG_URL", "sqlite:///log.db")
    files.RAW.parent.mkdir(parents=True)
    files.RAW.write_bytes(RAW.read_bytes())
    Path(".dvc").mkdir()
    Path("params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())


def label(count: int) -> None:
    """Log predictions with an outcome."""
    with opened("sqlite:///log.db") as log:
        batch = [Record(key, "7", 0.5, list(VALUES)) for key in new_ids(count)]
        log.append_sync(batch)
        for record in batch:
            log.record_outcome(record.id, "presence", "registry")


def test_only_the_owner_can_read_collected_rows() -> None:
    label(2)
    with open_to_all():
        collect.main()

    assert files.PRODUCTION.stat().st_mode & 0o777 == 0o600
    # DVC sets the modes of the files that it checks out and caches, so that their folders are closed.
    assert [path.stat().st_mode & 0o777 for path in (files.DATA, CACHE)] == [0o700, 0o700]


def test_only_the_owner_can_read_patients_of_a_service_from_dvc() -> None:
    label(1)
    collect.main()
    CACHE.chmod(0o755)
    files.DATA.chmod(0o755)
    files.PRODUCTION.chmod(0o644)

    prepare.main()

    assert [path.stat().st_mode & 0o777 for path in (files.DATA, CACHE)] == [0o700, 0o700]


def test_without_patients_of_a_service_folders_are_not_changed() -> None:
    files.DATA.chmod(0o755)
    with opened("sqlite:///log.db"):
        collect.main()
    prepare.main()

    assert files.DATA.stat().st_mode & 0o777 == 0o755
    assert not CACHE.exists()


def test_only_the_owner_can_read_tables_and_all_can_read_figures() -> None:
    table = pd.DataFrame({name: ["1"] for name in NAMES})
    with open_to_all():
        prepare.main()
        files.write_table(files.TRAIN, table)
        files.write_table(files.PLOTS / "roc.csv", table, files.PUBLIC)

    assert not_private(files.DATA).keys() & {str(files.PREPARED), str(files.TRAIN)} == set()
    for path in (files.PLOTS / "roc.csv", files.METRICS / "prepare.json"):
        assert path.stat().st_mode & 0o777 == 0o666


def test_a_readable_file_of_a_killed_stage_is_replaced() -> None:
    part = files.TRAIN.with_name("train.csv.part")
    part.touch()
    part.chmod(0o666)
    with part.open() as reader:
        files.write_table(files.TRAIN, pd.DataFrame({"age": ["57"]}))
        assert reader.read() == ""

    assert files.TRAIN.stat().st_mode & 0o777 == 0o600
