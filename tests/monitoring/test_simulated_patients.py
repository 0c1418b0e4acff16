"""Made-up patients, and how they differ from the training patients."""

from pathlib import Path

import numpy as np
import pytest

from heart.schema import MEASUREMENTS, NAMES, SchemaError, encode
from monitoring.simulated_patients import (
    AGE,
    CHOLESTEROL,
    SEX,
    SHIFTS,
    SLOPE,
    THALLIUM,
    VESSELS,
    NoPatients,
    SimulatedPatients,
    draw,
    load,
)
from serve.api.models import Patient
from tests.heart.drift.snapshots import tables

RANDOM = np.random.default_rng(0)


@pytest.fixture
def patients(tmp_path: Path) -> SimulatedPatients:
    tables(tmp_path)
    return load(tmp_path)


def test_numbers_are_the_training_patients_of_the_same_rank(tmp_path: Path) -> None:
    tables(tmp_path)
    before = load(tmp_path).rows[:, AGE]
    path = tmp_path / "data" / "synthetic.csv"
    heading, *lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    older = [",".join([cell[0], str(int(cell[1]) + 20), *cell[2:]]) for cell in cells]
    path.write_text("\n".join([heading, *older]) + "\n")

    loaded = load(tmp_path).rows[:, AGE]

    assert heading.startswith("fold,age,")
    assert np.array_equal(loaded, before)


def test_only_the_generator_of_all_rows_is_used(
    tmp_path: Path, patients: SimulatedPatients
) -> None:
    path = tmp_path / "data" / "synthetic.csv"
    path.write_text(
        path.read_text() + path.read_text().splitlines()[1].replace("all,", "0,") + "\n"
    )

    assert len(load(tmp_path).rows) == len(patients.rows)


def test_patients_of_every_shift_are_valid_except_wrong_units(
    patients: SimulatedPatients,
) -> None:
    for name, shift in SHIFTS.items():
        for patient, outcome in draw(shift(patients, RANDOM), 100, RANDOM):
            assert outcome in ("absence", "presence")
            if name == "wrong-units":
                with pytest.raises(SchemaError, match="cholesterol"):
                    encode({n: [value] for n, value in patient.items()})
            else:
                Patient.model_validate(patient)


def test_the_shifts_have_the_named_effect(patients: SimulatedPatients) -> None:
    def drawn(shift: str) -> np.ndarray:
        rows = [p for p, _ in draw(SHIFTS[shift](patients, RANDOM), 4000, RANDOM)]
        return encode({name: [row[name] for row in rows] for name in NAMES})

    def missing(rows: np.ndarray, column: int) -> float:
        return float(np.isnan(rows[:, column]).mean())

    none, older = drawn("none"), drawn("older")
    assert np.nanmean(older[:, AGE]) - np.nanmean(none[:, AGE]) == pytest.approx(4.5, abs=0.7)
    assert none[:, SEX].mean() == pytest.approx(0.68, abs=0.04)
    assert drawn("more-women")[:, SEX].mean() == pytest.approx(0.5, abs=0.04)
    assert missing(drawn("missing-thallium"), THALLIUM) == pytest.approx(0.3, abs=0.09)
    other = drawn("other-hospital")
    for column, share in ((VESSELS, 0.97), (THALLIUM, 0.6), (SLOPE, 0.4)):
        assert missing(other, column) == pytest.approx(share, abs=0.09)
    for column, moved in ((AGE, 5), (CHOLESTEROL, -30)):
        difference = np.nanmean(other[:, column]) - np.nanmean(none[:, column])
        assert difference == pytest.approx(moved, abs=6)
    outcomes = [
        outcome for _, outcome in draw(SHIFTS["other-hospital"](patients, RANDOM), 4000, RANDOM)
    ]
    assert outcomes.count("presence") / 4000 == pytest.approx(0.75, abs=0.03)


def test_the_same_seed_gives_the_same_patients(patients: SimulatedPatients) -> None:
    samples = [list(draw(patients, 50, np.random.default_rng(seed))) for seed in (1, 1, 2)]

    assert samples[0] == samples[1] != samples[2]


@pytest.mark.parametrize("name", ["synthetic", "train"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory; run `make repro`"),
        ("", "at least one patient"),
        ("fold,age\nall,57\n", "not a table of the pipeline"),
        ("fold," + ",".join(m.name for m in MEASUREMENTS) + "\nall,4\n", "not a table"),
    ],
)
def test_a_missing_table_is_named(tmp_path: Path, name: str, text: str | None, reason: str) -> None:
    tables(tmp_path)
    path = tmp_path / "data" / f"{name}.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)

    with pytest.raises(NoPatients, match=reason) as error:
        load(tmp_path)

    assert f"data/{name}.csv" in str(error.value)
