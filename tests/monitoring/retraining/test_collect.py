"""Outcomes from a real prediction log as training rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from heart import files
from heart.dataset import codings, translation
from heart.dataset.reader import read
from heart.errors import UserError
from heart.predictions.log import PredictionLog, Record, new_ids
from heart.schema import MEASUREMENTS, NAMES, OUTCOME
from monitoring.retraining import collect
from stages import params, prepare
from stages.split import split
from tests.heart.predictions.logs import VALUES, opened, records
from tests.processes import free_port

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RAW = Path(__file__).parents[3] / files.RAW


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PredictionLog]:
    """The log of a service that runs in this folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_LOG_URL", "sqlite:///log.db")
    with opened(f"sqlite:///{tmp_path}/log.db", clock=lambda: NOON) as running:
        yield running


def predict(log: PredictionLog, count: int, risk: float = 0.25, **changes: Any) -> list[str]:
    """The ids of new predictions; `changes` replace the usual measurements."""
    measurements = [changes.get(name, value) for name, value in zip(NAMES, VALUES, strict=True)]
    batch = [Record(key, "7", risk, measurements) for key in new_ids(count)]
    log.append_sync(batch)
    return [record.id for record in batch]


def collected() -> pd.DataFrame:
    collect.main()
    return files.read_table(files.PRODUCTION)


# Collected rows


def test_an_outcome_makes_a_row_in_the_projects_coding(log: PredictionLog) -> None:
    (key,) = predict(log, 1, age=57.0, st_depression=2.3, thallium=None)
    log.record_outcome(key, "presence", "angiography")

    [row] = collected().to_dict("records")

    assert list(row) == [
        "patient_id",
        "outcome_source",
        "outcome_date",
        "outcome_sender",
        *NAMES,
        OUTCOME.name,
    ]
    assert (row["patient_id"], row["outcome_source"]) == (key, "angiography")
    assert row["outcome_date"] == "2026-03-01"
    assert (row["age"], row["st_depression"], row["thallium"]) == ("57", "2.3", "")
    assert row["heart_disease"] == "presence"


@pytest.mark.parametrize("probability", [0.0, 0.01, 0.99, 1.0])
@pytest.mark.parametrize("outcome", ["presence", "absence"])
def test_the_label_is_the_outcome_and_never_the_prediction(
    log: PredictionLog, probability: float, outcome: str
) -> None:
    labelled, *_ = predict(log, 5, probability)
    log.record_outcome(labelled, outcome, "clinician")

    table = collected()

    assert table["patient_id"].tolist() == [labelled]
    assert table[OUTCOME.name].tolist() == [outcome]


def test_stage_prepare_reads_every_category_and_bound(log: PredictionLog) -> None:
    edges: dict[str, list[Any]] = {
        m.name: [c.name for c in m.choices] or [m.low, m.high] for m in MEASUREMENTS
    }
    keys: list[str] = []
    for name, values in edges.items():
        for value in values:
            keys += predict(log, 1, **{name: value})
    for number, key in enumerate(keys):
        log.record_outcome(key, "presence" if number % 2 else "absence", "registry")

    written = collected()

    table = read(files.PRODUCTION)
    columns = translation.translate(table, codings.named("words"))[0] | translation.words(table)[0]
    again = {name: [c.texts[at] for at in c.positions] for name, c in columns.items()}
    assert again == written.to_dict("list")


def test_a_corrected_outcome_replaces_the_first(log: PredictionLog) -> None:
    (key,) = predict(log, 1)
    log.record_outcome(key, "presence", "clinician")
    log.record_outcome(key, "absence", "angiography", replace=True)

    [row] = collected().to_dict("records")

    assert (row[OUTCOME.name], row["outcome_source"]) == ("absence", "angiography")


def test_an_erased_row_is_not_in_the_next_version(log: PredictionLog) -> None:
    keys = predict(log, 3)
    for key in keys:
        log.record_outcome(key, "presence", "registry")
    assert len(collected()) == 3

    log.erase(keys[1])

    assert collected()["patient_id"].tolist() == sorted({keys[0], keys[2]})


def test_equal_logs_give_equal_bytes_whatever_the_order(log: PredictionLog, tmp_path: Path) -> None:
    batch = records(20)
    log.append_sync(batch)
    with opened(f"sqlite:///{tmp_path}/other.db", clock=lambda: NOON) as other:
        other.append_sync(batch[::-1])
        for record in batch:
            log.record_outcome(record.id, "absence", "registry")
        for record in batch[5:] + batch[:5]:
            other.record_outcome(record.id, "absence", "registry")

        collect.main()
        first = files.PRODUCTION.read_bytes()
        collect.write(collect.labelled(other), erased=0)

    assert files.PRODUCTION.read_bytes() == first
    assert first.count(b"\n") == 21


# Files that are not written


def test_without_an_outcome_there_is_no_file(
    log: PredictionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(log, 2)

    collect.main()

    assert not files.PRODUCTION.exists()
    assert capsys.readouterr().out == "no outcome is recorded yet\n"


def test_when_the_last_row_is_erased_file_and_pointer_are_deleted(log: PredictionLog) -> None:
    (key,) = predict(log, 1)
    log.record_outcome(key, "presence", "registry")
    collect.main()
    files.POINTER.touch()

    log.erase(key)
    collect.main()

    assert list(files.PRODUCTION.parent.iterdir()) == []


def test_a_kill_between_the_two_is_completed_by_the_next_call(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = predict(log, 1)
    log.record_outcome(key, "presence", "registry")
    collect.main()
    files.POINTER.touch()
    log.erase(key)
    unlink, gone = Path.unlink, list[Path]()

    def killed_at_the_second(path: Path, missing_ok: bool = False) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            collect.main()
    collect.main()

    assert list(files.PRODUCTION.parent.iterdir()) == []


def test_another_log_does_not_replace_the_file(log: PredictionLog) -> None:
    for key in predict(log, 3):
        log.record_outcome(key, "presence", "registry")
    collect.main()
    before = files.PRODUCTION.read_bytes()

    others = collect.labelled(log).tail(1)

    with pytest.raises(UserError, match=r"has 2 rows that are not .* only 1 outcomes were er"):
        collect.write(others, erased=1)
    assert files.PRODUCTION.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"age,sex\n57,male\n", "has 1 rows that are not"), (b"\xff\xfe", "cannot be read")],
)
def test_a_file_of_another_origin_is_not_changed(
    log: PredictionLog, content: bytes, message: str
) -> None:
    (key,) = predict(log, 1)
    log.record_outcome(key, "presence", "registry")
    files.PRODUCTION.parent.mkdir(parents=True)
    files.PRODUCTION.write_bytes(content)

    with pytest.raises(UserError, match=message):
        collect.main()
    assert files.PRODUCTION.read_bytes() == content


def test_a_version_that_was_not_pulled_is_not_overwritten(log: PredictionLog) -> None:
    (key,) = predict(log, 1)
    log.record_outcome(key, "presence", "registry")
    files.POINTER.parent.mkdir(parents=True)
    files.POINTER.touch()

    with pytest.raises(UserError, match="run `dvc pull` first"):
        collect.main()


def test_a_value_that_the_schema_no_longer_allows_is_named(log: PredictionLog) -> None:
    for age in (50.0, 250.0):
        (key,) = predict(log, 1, age=age)
        log.record_outcome(key, "presence", "registry")

    with pytest.raises(UserError, match=r"row 1: age is 250, expected a whole number from 18"):
        collect.main()
    assert not files.PRODUCTION.exists()


# The log


def test_a_missing_log_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UserError, match="HEART_LOG_URL") as error:
        collect.main()
    assert f"{tmp_path}/registry/predictions.db" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_database_that_is_down_names_it_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HEART_LOG_URL", f"postgresql+psycopg://me:s3/cret@{database}/heart")

    with pytest.raises(UserError, match="HEART_LOG_URL") as error:
        collect.main()

    assert f"//{database}: " in str(error.value)
    assert "cret" not in str(error.value)


def test_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEART_LOG_URI", "sqlite:///log.db")

    with pytest.raises(SystemExit, match="HEART_LOG_URI is not a setting"):
        collect.main()


# The split


def test_later_rows_do_not_move_a_row_in_the_split(log: PredictionLog) -> None:
    files.RAW.parent.mkdir(parents=True)
    files.RAW.write_bytes(RAW.read_bytes())
    options = params.Prepare.load(Path(__file__).parents[3] / "params.yaml")

    def sides() -> dict[str, bool]:
        """Whether each patient is held out."""
        prepared, _ = prepare.prepare([(path, read(path)) for path in files.input_files()], options)
        train, test = split(prepared.astype(object), 0.2, 5, 0)
        return dict.fromkeys(train["patient_id"], False) | dict.fromkeys(test["patient_id"], True)

    seen = [sides()]
    for month in range(3):
        for number in range(30):
            (key,) = predict(log, 1, age=20.0 + number, resting_bp=100.0 + month)
            log.record_outcome(key, "presence", "registry")
        collect.main()
        seen.append(sides())

    assert [len(s) for s in seen] == [303, 333, 363, 393]
    assert any(seen[-1][key] for key in seen[-1].keys() - seen[0].keys())
    for earlier, later in pairwise(seen):
        assert {key: later[key] for key in earlier} == earlier


def test_the_file_and_the_message_say_how_many_outcomes_came_from_whom(log: PredictionLog) -> None:
    batch = records(5)
    log.append_sync(batch)
    for number, record in enumerate(batch):
        log.record_outcome(record.id, "presence", "registry", "lab" if number < 3 else "ward")

    change = collect.write(collect.labelled(log), collect.removals(log))

    assert list(change.senders.items()) == [("lab", 3), ("ward", 2)]
    assert "lab 3, ward 2" in str(change)
    assert (
        pd.read_csv(files.PRODUCTION)["outcome_sender"].value_counts().to_dict() == change.senders
    )


def test_withdrawn_outcomes_leave_the_file(log: PredictionLog) -> None:
    batch = records(5)
    log.append_sync(batch)
    for number, record in enumerate(batch):
        log.record_outcome(record.id, "presence", "registry", "lab" if number < 3 else "ward")
    collect.write(collect.labelled(log), collect.removals(log))

    log.withdraw_outcomes("lab", None, None, "head")
    change = collect.write(collect.labelled(log), collect.removals(log))

    assert (change.rows, change.lost, change.senders) == (2, 3, {"ward": 2})
