import json
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from heart import files
from heart.errors import UserError
from heart.schema import NAMES, OUTCOME
from stages.merge import COLUMNS, main, merge

GENERATORS = ["0", "1", "all"]
EACH = 5

PATIENT = dict.fromkeys(NAMES, "") | {"sex": "female"}
TRAIN = pd.DataFrame(
    [
        PATIENT
        | {
            "patient_id": f"patient-{n}",
            "source": "production" if n == 3 else "raw",
            "fold": str(n % 2),
            "age": str(50 + n),
            OUTCOME.name: "presence" if n % 4 == 0 else "absence",
        }
        for n in range(4)
    ]
)
SYNTHETIC = pd.DataFrame(
    [
        PATIENT | {"fold": fold, "age": str(60 + n), OUTCOME.name: "presence"}
        for fold in GENERATORS
        for n in range(EACH)
    ]
)


def test_real_rows_come_first_and_unchanged() -> None:
    merged = merge(TRAIN, SYNTHETIC, rows=2)

    assert list(merged.columns) == COLUMNS
    assert_frame_equal(merged.head(len(TRAIN)), TRAIN[COLUMNS])


def test_the_first_rows_of_each_generator_follow() -> None:
    merged = merge(TRAIN, SYNTHETIC, rows=2)

    synthetic_rows = merged[merged["source"] == "synthetic"]
    assert synthetic_rows["fold"].tolist() == ["0", "0", "1", "1", "all", "all"]
    assert synthetic_rows["age"].tolist() == ["60", "61"] * len(GENERATORS)
    assert (synthetic_rows["patient_id"] == "").all()
    assert merged.index.tolist() == list(range(len(TRAIN) + 6))


def test_rows_of_generators_may_be_interleaved() -> None:
    interleaved = SYNTHETIC.sort_values("age", kind="stable")

    merged = merge(TRAIN, interleaved, rows=2)

    synthetic_rows = merged[merged["source"] == "synthetic"].sort_values("fold", kind="stable")
    assert synthetic_rows["fold"].tolist() == ["0", "0", "1", "1", "all", "all"]
    assert synthetic_rows["age"].tolist() == ["60", "61"] * len(GENERATORS)


def test_all_rows_of_each_generator_can_be_taken() -> None:
    merged = merge(TRAIN, SYNTHETIC, rows=EACH)

    assert len(merged) == len(TRAIN) + EACH * len(GENERATORS)


def test_inputs_are_not_changed() -> None:
    train, synthetic = TRAIN.copy(), SYNTHETIC.copy()

    merge(train, synthetic, rows=1)

    assert_frame_equal(train, TRAIN)
    assert_frame_equal(synthetic, SYNTHETIC)


@pytest.mark.parametrize(
    ("synthetic", "most"),
    [
        (SYNTHETIC, EACH),
        (SYNTHETIC.drop(index=SYNTHETIC.index[EACH - 2 : EACH]), EACH - 2),
    ],
    ids=["all generators", "the smallest counts"],
)
def test_more_rows_than_available_are_rejected(synthetic: pd.DataFrame, most: int) -> None:
    with pytest.raises(UserError) as refusal:
        merge(TRAIN, synthetic, rows=most + 1)

    message = f"merge.rows is {most + 1}, expected at most {most} (synthesize.rows)"
    assert str(refusal.value) == message


def test_the_stage_writes_the_table_and_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("merge: {rows: 3}\n")
    files.write_table(files.TRAIN, TRAIN)
    files.write_table(files.SYNTHETIC, SYNTHETIC)

    main()

    assert_frame_equal(files.read_table(files.MERGED), merge(TRAIN, SYNTHETIC, rows=3))
    figures = json.loads(Path("metrics/merge.json").read_text())
    assert figures["rows"] == 13
    assert figures["by_source"] == {"production": 1, "raw": 3, "synthetic": 9}
    assert figures["presence_by_source"] == {"production": 0.0, "raw": 0.333333, "synthetic": 1.0}
    assert {"trtr_auc", "tstr_auc", "merged_auc"} <= figures.keys()


def test_nothing_is_written_for_too_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("merge: {rows: 6}\n")
    files.write_table(files.TRAIN, TRAIN)
    files.write_table(files.SYNTHETIC, SYNTHETIC)

    with pytest.raises(UserError):
        main()

    assert not files.MERGED.exists()
    assert not files.METRICS.exists()
