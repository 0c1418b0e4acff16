"""Simulated patients: those of CTGAN in data/synthetic.csv, and shifts that make them differ.

CTGAN does not reproduce, for example, that doctors round a blood pressure to tens, which the drift check
detects. Each number is therefore replaced by that of the training patient with the same rank; the
dependence between measurements remains CTGAN's.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Floats

SYNTHETIC, TRAIN = Path("data/synthetic.csv"), Path("data/train.csv")
MMOL_PER_MG = 1 / 38.67  # of cholesterol, from mg/dl to mmol/l

Random = np.random.Generator
AGE, SEX, CHOLESTEROL, SLOPE, VESSELS, THALLIUM = map(
    NAMES.index, ("age", "sex", "cholesterol", "st_slope", "major_vessels", "thallium")
)


class NoPatients(Exception):
    """The tables of patients cannot be read; the message gives the reason."""


@dataclass(frozen=True)
class SimulatedPatients:
    """Encoded patients [n, 13], their outcomes, and the probability with which each is drawn."""

    rows: Floats
    outcomes: tuple[str, ...]
    weights: Any = None


def load(folder: Path) -> SimulatedPatients:
    """CTGAN's patients with the numbers of training patients. Raises NoPatients."""
    rows, outcomes = _table(folder / SYNTHETIC, fold="all")
    training, _ = _table(folder / TRAIN)
    for column, measurement in enumerate(MEASUREMENTS):
        if not measurement.choices:
            rows[:, column] = _by_rank(rows[:, column], training[:, column])
    return SimulatedPatients(rows, tuple(outcomes))


def _table(path: Path, fold: str | None = None) -> tuple[Floats, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if fold is None or row["fold"] == fold]
        columns = [[m.parse(row[m.name]) for row in rows] for m in MEASUREMENTS]
        outcomes = [row[OUTCOME.name] for row in rows]
    except OSError as error:
        raise NoPatients(f"{path}: {error.strerror}; run `make repro`") from error
    except (KeyError, ValueError, csv.Error) as error:
        raise NoPatients(f"{path}: not a table of the pipeline: {error}") from error
    if not rows:
        raise NoPatients(f"{path}: expected at least one patient")
    return np.array(columns, dtype=np.float32).T, outcomes


def _by_rank(values: Floats, training: Floats) -> Floats:
    """Each value replaced by the training value of the same rank; missing values stay missing."""
    known, real = np.flatnonzero(~np.isnan(values)), np.sort(training[~np.isnan(training)])
    matched = values.copy()
    order = known[np.argsort(values[known], kind="stable")]
    matched[order] = real[np.arange(len(order)) * len(real) // max(len(order), 1)]
    return matched


def unchanged(patients: SimulatedPatients, _: Random) -> SimulatedPatients:
    return patients


def older(patients: SimulatedPatients, _: Random) -> SimulatedPatients:
    """Older by half a standard deviation."""
    return _changed(patients, {AGE: patients.rows[:, AGE] + 0.5 * patients.rows[:, AGE].std()})


def more_women(patients: SimulatedPatients, _: Random) -> SimulatedPatients:
    """As many women as men; in training there are twice as many men."""
    return replace(patients, weights=_balanced(patients.rows[:, SEX] == 1, 0.5))


def missing_thallium(patients: SimulatedPatients, random: Random) -> SimulatedPatients:
    return _changed(patients, {THALLIUM: _without(patients.rows[:, THALLIUM], 0.3, random)})


def other_hospital(patients: SimulatedPatients, random: Random) -> SimulatedPatients:
    """Further tests are rare and three in four patients have the disease, as at other hospitals of UCI."""
    rows = patients.rows
    missing = {VESSELS: 0.97, THALLIUM: 0.6, SLOPE: 0.4}
    changes = {
        column: _without(rows[:, column], share, random) for column, share in missing.items()
    }
    changes |= {AGE: rows[:, AGE] + 5, CHOLESTEROL: rows[:, CHOLESTEROL] - 30}
    return with_share_ill(_changed(patients, changes), 0.75)


def with_share_ill(patients: SimulatedPatients, share: float) -> SimulatedPatients:
    """The same patients, drawn so that this share has the disease."""
    positive = np.array(patients.outcomes) == OUTCOME.choices[1].name
    return replace(patients, weights=_balanced(positive, share))


def wrong_units(patients: SimulatedPatients, _: Random) -> SimulatedPatients:
    """Cholesterol in mmol/l, which the service rejects."""
    wrong = patients.rows.copy()
    wrong[:, CHOLESTEROL] = np.round(wrong[:, CHOLESTEROL] * MMOL_PER_MG, 1)
    return replace(patients, rows=wrong)


SHIFTS: Mapping[str, Callable[[SimulatedPatients, Random], SimulatedPatients]] = {
    "none": unchanged,
    "older": older,
    "more-women": more_women,
    "missing-thallium": missing_thallium,
    "other-hospital": other_hospital,
    "wrong-units": wrong_units,
}


def _without(values: Floats, share: float, random: Random) -> Floats:
    return np.where(random.random(len(values)) < share, np.float32(np.nan), values)


def _balanced(chosen: Any, share: float) -> Any:
    """Weights [n] with which this share of the drawn patients is from `chosen`."""
    weights = np.where(chosen, share / max(chosen.sum(), 1), (1 - share) / max((~chosen).sum(), 1))
    return weights / weights.sum()


def _changed(patients: SimulatedPatients, columns: Mapping[int, Floats]) -> SimulatedPatients:
    """Patients with other values in some columns, rounded and within the bounds of the schema."""
    rows = patients.rows.copy()
    for column, values in columns.items():
        measurement = MEASUREMENTS[column]
        rows[:, column] = (
            values
            if measurement.choices
            else np.clip(np.rint(values), measurement.low, measurement.high)
        )
    return replace(patients, rows=rows)


def draw(
    patients: SimulatedPatients, count: int, random: Random
) -> Iterator[tuple[dict[str, Any], str]]:
    """Patients for the API, each with its outcome."""
    for row in random.choice(len(patients.rows), size=count, p=patients.weights):
        yield patient(patients.rows[row]), patients.outcomes[row]


def patient(row: Floats) -> dict[str, Any]:
    """An encoded row as a request of the API; None for a missing value."""
    values: dict[str, Any] = {}
    for measurement, code in zip(MEASUREMENTS, row.tolist(), strict=True):
        missing = code != code
        value = measurement.choices[int(code)].name if measurement.choices and not missing else code
        values[measurement.name] = None if missing else value
    return values
