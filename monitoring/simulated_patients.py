"""Made-up patients: CTGAN's of data/synthetic.csv, and how they may differ from the training patients.

As they are, the drift check tells CTGAN's patients from real ones: it blurs that doctors round a
blood pressure to tens. So each number is replaced by that of the training patient with the same
rank; how the measurements go together stays CTGAN's.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Floats

SYNTHETIC, TRAIN = Path("data/synthetic.csv"), Path("data/train.csv")
MMOL_PER_MG = 1 / 38.67  # of cholesterol, a decilitre against a litre

Random = np.random.Generator
AGE, SEX, CHOLESTEROL, SLOPE, VESSELS, THALLIUM = map(
    NAMES.index, ("age", "sex", "cholesterol", "st_slope", "major_vessels", "thallium")
)


class NoPatients(Exception):
    """There is no table to take them from; the message says why."""


@dataclass(frozen=True)
class SimulatedPatients:
    """Encoded patients [n, 13], what they turned out to have, and how likely each is to come."""

    rows: Floats
    outcomes: tuple[str, ...]
    weights: Any = None


def load(folder: Path) -> SimulatedPatients:
    """CTGAN's patients, each number brought to the training patients'. Raises NoPatients."""
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
        raise NoPatients(f"{path}: {error.strerror}; `make repro` makes it") from error
    except (KeyError, ValueError, csv.Error) as error:
        raise NoPatients(f"{path}: not a table of the pipeline: {error}") from error
    if not rows:
        raise NoPatients(f"{path}: no patient in it")
    return np.array(columns, dtype=np.float32).T, outcomes


def _by_rank(values: Floats, training: Floats) -> Floats:
    """Each value replaced by the training value of the same rank; missing ones stay missing."""
    known, real = np.flatnonzero(~np.isnan(values)), np.sort(training[~np.isnan(training)])
    matched = values.copy()
    order = known[np.argsort(values[known], kind="stable")]
    matched[order] = real[np.arange(len(order)) * len(real) // max(len(order), 1)]
    return matched


def as_they_are(people: SimulatedPatients, _: Random) -> SimulatedPatients:
    return people


def older(people: SimulatedPatients, _: Random) -> SimulatedPatients:
    """By half a standard deviation."""
    return _changed(people, {AGE: people.rows[:, AGE] + 0.5 * people.rows[:, AGE].std()})


def more_women(people: SimulatedPatients, _: Random) -> SimulatedPatients:
    """As many women as men, of whom there are twice as many in training."""
    return replace(people, weights=_balanced(people.rows[:, SEX] == 1, 0.5))


def missing_thallium(people: SimulatedPatients, random: Random) -> SimulatedPatients:
    return _changed(people, {THALLIUM: _without(people.rows[:, THALLIUM], 0.3, random)})


def other_hospital(people: SimulatedPatients, random: Random) -> SimulatedPatients:
    """Where the second examination is rare and three in four are ill, as at other hospitals of the UCI data."""
    rows = people.rows
    missing = {VESSELS: 0.97, THALLIUM: 0.6, SLOPE: 0.4}
    changes = {
        column: _without(rows[:, column], share, random) for column, share in missing.items()
    }
    changes |= {AGE: rows[:, AGE] + 5, CHOLESTEROL: rows[:, CHOLESTEROL] - 30}
    ill = np.array(people.outcomes) == OUTCOME.choices[1].name
    return replace(_changed(people, changes), weights=_balanced(ill, 0.75))


def wrong_units(people: SimulatedPatients, _: Random) -> SimulatedPatients:
    """Cholesterol in mmol/l, which the service refuses."""
    wrong = people.rows.copy()
    wrong[:, CHOLESTEROL] = np.round(wrong[:, CHOLESTEROL] * MMOL_PER_MG, 1)
    return replace(people, rows=wrong)


SHIFTS: Mapping[str, Callable[[SimulatedPatients, Random], SimulatedPatients]] = {
    "none": as_they_are,
    "older": older,
    "more-women": more_women,
    "missing-thallium": missing_thallium,
    "other-hospital": other_hospital,
    "wrong-units": wrong_units,
}


def _without(values: Floats, share: float, random: Random) -> Floats:
    return np.where(random.random(len(values)) < share, np.float32(np.nan), values)


def _balanced(chosen: Any, share: float) -> Any:
    """Weights with which this share of those who come are chosen ones [n]."""
    weights = np.where(chosen, share / max(chosen.sum(), 1), (1 - share) / max((~chosen).sum(), 1))
    return weights / weights.sum()


def _changed(people: SimulatedPatients, columns: Mapping[int, Floats]) -> SimulatedPatients:
    """People with other values in some columns, whole and within the bounds of the schema."""
    rows = people.rows.copy()
    for column, values in columns.items():
        measurement = MEASUREMENTS[column]
        rows[:, column] = (
            values
            if measurement.choices
            else np.clip(np.rint(values), measurement.low, measurement.high)
        )
    return replace(people, rows=rows)


def draw(
    people: SimulatedPatients, count: int, random: Random
) -> Iterator[tuple[dict[str, Any], str]]:
    """So many patients for the API, each with what it turned out to have."""
    for row in random.choice(len(people.rows), size=count, p=people.weights):
        yield patient(people.rows[row]), people.outcomes[row]


def patient(row: Floats) -> dict[str, Any]:
    """An encoded row as the API takes it; None where it was not measured."""
    values: dict[str, Any] = {}
    for measurement, code in zip(MEASUREMENTS, row.tolist(), strict=True):
        known = (
            measurement.choices[int(code)].name if measurement.choices and code == code else code
        )
        values[measurement.name] = None if code != code else known
    return values
