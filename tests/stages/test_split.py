import json
import random
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from heart import files
from heart.errors import UserError
from heart.schema import OUTCOME
from stages.split import draw, main, split

FOLDS = 5


def _table(ids: list[str], outcomes: list[str] | None = None) -> pd.DataFrame:
    """Patients with these ids; every third one has presence by default."""
    labels = outcomes or ["absence" if n % 3 else "presence" for n in range(len(ids))]
    return pd.DataFrame(
        {"patient_id": ids, "source": "raw", "age": [str(20 + n % 80) for n in range(len(ids))]}
    ).assign(**{OUTCOME.name: labels})


def _sides(table: pd.DataFrame, fraction: float = 0.2, seed: int = 0) -> dict[str, str]:
    train, test = split(table, fraction, FOLDS, seed)
    return dict.fromkeys(train["patient_id"], "train") | dict.fromkeys(test["patient_id"], "test")


def _spread(train: pd.DataFrame) -> int:
    """The difference between the largest and the smallest fold, for each outcome."""
    sizes = pd.crosstab(train["fold"], train[OUTCOME.name])
    return int((sizes.max() - sizes.min()).max())


PATIENTS = _table([f"patient-{n}" for n in range(300)])


def test_the_draw_of_a_patient_never_changes() -> None:
    # Fixed values: a test row must never become a training row.
    assert draw("patient-1", seed=0) == 0.1998061951538892
    assert draw("patient-1", seed=1) == 0.4861979503050529


@settings(derandomize=True, deadline=None)
@given(st.text(), st.integers(0, 2**32 - 1))
def test_a_draw_is_a_fraction_below_one(patient: str, seed: int) -> None:
    assert 0 <= draw(patient, seed) < 1


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.text("abc0123", min_size=1), max_size=40, unique=True), st.randoms())
def test_later_rows_never_move_a_patient(later: list[str], shuffler: random.Random) -> None:
    before = _sides(PATIENTS)

    ids = [*PATIENTS["patient_id"], *later]
    shuffler.shuffle(ids)
    after = _sides(_table(ids))

    assert {patient: after[patient] for patient in before} == before


def test_a_larger_test_fraction_keeps_every_test_row() -> None:
    small, large = _sides(PATIENTS, fraction=0.2), _sides(PATIENTS, fraction=0.3)

    assert {p for p in small if small[p] == "test"} < {p for p in large if large[p] == "test"}


def test_another_seed_is_another_split() -> None:
    assert _sides(PATIENTS, seed=0) != _sides(PATIENTS, seed=1)


def test_every_row_is_on_one_side_and_only_training_rows_have_a_fold() -> None:
    train, test = split(PATIENTS, 0.2, FOLDS, 0)

    assert list(train.columns) == ["patient_id", "source", "fold", "age", OUTCOME.name]
    assert list(test.columns) == list(PATIENTS.columns)
    both = pd.concat([train.drop(columns="fold"), test]).sort_index()
    assert_frame_equal(both, PATIENTS)


def test_rows_of_one_patient_share_side_and_fold() -> None:
    # The same measurements with both outcomes, as production may add to a known patient.
    negative = _table([f"patient-{n}" for n in range(200)], ["absence"] * 200)
    positive = _table([f"patient-{n}" for n in range(100, 300)], ["presence"] * 200)
    table = pd.concat([negative, positive], ignore_index=True)

    train, test = split(table, 0.3, FOLDS, 0)

    assert not set(train["patient_id"]) & set(test["patient_id"])
    patients = train.drop_duplicates("patient_id")
    assert len(patients) < len(train)
    assert len(train[["patient_id", "fold"]].drop_duplicates()) == len(patients)
    assert _spread(patients) <= 1


@pytest.mark.parametrize("folds", [2, 5, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_differ_by_at_most_one_patient_of_each_outcome(folds: int, seed: int) -> None:
    train, _ = split(PATIENTS, 0.2, folds, seed)

    assert set(train["fold"]) == set(range(folds))
    assert _spread(train) <= 1


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    shuffled = PATIENTS.sample(frac=1, random_state=0)

    train, _ = split(PATIENTS, 0.2, FOLDS, 0)
    again, _ = split(shuffled, 0.2, FOLDS, 0)

    assert_frame_equal(again.sort_index(), train)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_share_of_test_rows_is_near_the_fraction(fraction: float) -> None:
    random_ids = random.Random(0)
    ids = [random_ids.randbytes(12).hex() for _ in range(20_000)]

    _, test = split(_table(ids), fraction, FOLDS, 0)

    four_standard_errors = 4 * (fraction * (1 - fraction) / len(ids)) ** 0.5
    assert abs(len(test) / len(ids) - fraction) < four_standard_errors


def test_too_few_training_rows_of_an_outcome_are_rejected() -> None:
    sides = _sides(PATIENTS)
    training_ids = [patient for patient, side in sides.items() if side == "train"]
    negatives = [*training_ids[FOLDS - 1 :], *[p for p in sides if sides[p] == "test"][:30]]
    table = PATIENTS.copy()
    table[OUTCOME.name] = "presence"
    table.loc[table["patient_id"].isin(negatives), OUTCOME.name] = "absence"

    with pytest.raises(UserError) as error:
        split(table, 0.2, FOLDS, 0)

    assert f"{len(training_ids)} training rows with {FOLDS - 1} presence" in str(error.value)
    assert "expected at least 5 (split.folds) of each" in str(error.value)


def test_too_few_test_rows_of_an_outcome_are_rejected() -> None:
    with pytest.raises(UserError) as error:
        split(PATIENTS, 0.01, FOLDS, 0)

    assert " test rows with " in str(error.value)
    assert str(error.value).startswith(f"{files.PREPARED}: ")


@pytest.mark.parametrize("outcome", ["absence", "presence"])
def test_a_single_outcome_is_rejected(outcome: str) -> None:
    with pytest.raises(UserError, match=r"with (\d+ presence and 0|0 presence and \d+) absence"):
        split(_table([f"patient-{n}" for n in range(50)], [outcome] * 50), 0.2, FOLDS, 0)


def test_the_stage_writes_both_sides_and_their_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("split: {test_fraction: 0.2, folds: 5, seed: 0}\n")
    files.write_table(files.PREPARED, PATIENTS)

    main()

    train, test = files.read_table(files.TRAIN), files.read_table(files.TEST)
    metrics = json.loads(Path("metrics/split.json").read_text())
    assert len(train) + len(test) == len(PATIENTS)
    assert set(train["fold"]) == {"0", "1", "2", "3", "4"}
    for side, rows in (("train", train), ("test", test)):
        assert metrics[side] == {
            "rows": len(rows),
            "presence": (rows[OUTCOME.name] == "presence").sum(),
            "by_source": {"raw": len(rows)},
        }
