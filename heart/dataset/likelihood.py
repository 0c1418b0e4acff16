"""How likely the categories of a column are in a reading of its codes; see `heart.dataset.detection`."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from heart.dataset.codings import DECIDING, NUMBERED, WORDS, Codes, named, plain_code
from heart.schema import BY_NAME, SchemaError

ERROR_RATE = 1e-4
MAX_ROWS = 1 << 14  # evenly spaced ones of a larger table are evidence enough

# The expected mean severity of a category differs between hospitals by this standard deviation; in
# a reading that expects nothing, by the second.
SPREAD, UNKNOWN_SPREAD = 0.3, 0.5


class Expected(NamedTuple):
    """A category: its weight in the Dirichlet distribution, and its patients' mean severity."""

    weight: float
    severity: float


# Weights fitted, by their moments, to the shares in percent at the four UCI hospitals (Cleveland,
# Budapest, Zurich and Basel, Long Beach), severities to the means there; 10.24432/C52P4X.
# "" is a code for a missing measurement, which is rare: 2 of 303 in Cleveland.
EXPECTED: Mapping[str, Mapping[str, Expected]] = {
    "chest_pain_type": {
        "typical_angina": Expected(0.25, -0.3),  # 8, 4, 3, 4
        "atypical_angina": Expected(1, -0.65),  # 17, 36, 3, 7
        "non_anginal_pain": Expected(1.25, -0.4),  # 28, 18, 14, 24
        "asymptomatic": Expected(3.5, 0.45),  # 48, 42, 80, 66
    },
    "resting_ecg": {  # no association that holds at all hospitals
        "normal": Expected(2.75, 0),  # 50, 80, 70, 40
        "st_t_abnormality": Expected(1, 0),  # 1, 18, 24, 47
        "left_ventricular_hypertrophy": Expected(0.75, 0),  # 49, 2, 6, 14
    },
    "st_slope": {
        "upsloping": Expected(1.5, -0.5),  # 47, 12, 31, 16
        "flat": Expected(3.5, 0.4),  # 46, 88, 58, 54
        "downsloping": Expected(0.75, 0.6),  # 7, 1, 11, 30
    },
    "thallium": {
        "normal": Expected(1.6, -0.4),  # 55, 25, 27, 12
        "fixed_defect": Expected(1.1, 0.3),  # 6, 36, 14, 24
        "reversible_defect": Expected(2.7, 0.4),  # 39, 39, 59, 65
        "": Expected(0.1, 0),
    },
}

# What makes up severity, with the sign of its association.
SEVERITY = {"max_heart_rate": -1, "exercise_angina": 1, "st_depression": 1, "major_vessels": 1}

# The codes that any coding has: another one is a bad cell, and tells nothing.
KNOWN = {
    column: {code for coding in NUMBERED.values() for code in coding[column]} for column in DECIDING
}


@dataclass(frozen=True)
class Cells:
    """A column: its distinct cells, and which of them each row [n] has."""

    texts: Sequence[str]
    positions: npt.NDArray[np.integer[Any]]

    def counts(self) -> list[tuple[str, int]]:
        """The distinct cells that occur, and how often."""
        numbers = np.bincount(self.positions, minlength=len(self.texts)).tolist()
        return [pair for pair in zip(self.texts, numbers, strict=True) if pair[1]]


Columns = Mapping[str, Cells]  # by measurement


class Tally(NamedTuple):
    """The patients with a code: how many, and their mean severity."""

    patients: int
    severity: float


Tallies = Mapping[str, Tally]  # by code


def distinct_rows(columns: Columns) -> Columns:
    """The table without copies of rows, and without some of its rows if there are very many."""
    count = len(next(iter(columns.values())).positions)
    every = max(1, math.ceil(count / MAX_ROWS))
    sample = np.stack([cells.positions[::every] for cells in columns.values()], axis=1)
    rows = np.unique(sample, axis=0)
    return {
        name: Cells(cells.texts, rows[:, place])
        for place, (name, cells) in enumerate(columns.items())
    }


def severities(columns: Columns) -> npt.NDArray[np.float64]:
    """The severity of each patient [n], standardized; 0 where nothing is known."""
    total = np.zeros(len(next(iter(columns.values())).positions))
    for name, sign in SEVERITY.items():
        if name in columns:
            cells = columns[name]
            values = np.array([_number(name, text) for text in cells.texts])[cells.positions]
            given = values[~np.isnan(values)]
            if len(given) and given.std() > 0:
                total += sign * np.nan_to_num((values - given.mean()) / given.std())
    return total / total.std() if total.std() > 0 else total


def _number(column: str, text: str) -> float:
    """A cell of a column that all codings write alike, NaN for one that is none."""
    try:
        return BY_NAME[column].parse(named(WORDS).translate(column, text))
    except SchemaError:
        return math.nan


def tally(column: str, cells: Cells, severity: npt.NDArray[np.float64]) -> Tallies:
    counts = np.bincount(cells.positions, minlength=len(cells.texts))
    sums = np.bincount(cells.positions, weights=severity, minlength=len(cells.texts))
    count, total = defaultdict[str, int](int), defaultdict[str, float](float)
    for text, n, s in zip(cells.texts, counts.tolist(), sums.tolist(), strict=True):
        code = plain_code(text)
        if n and code in KNOWN[column]:
            count[code] += n
            total[code] += s
    return {code: Tally(n, total[code] / n) for code, n in count.items()}


def fit(column: str, tallies: Tallies, codes: Codes) -> float:
    """The log likelihood of a column whose codes mean the categories `codes`."""
    expected = EXPECTED.get(column)
    errors = [tally for code, tally in tallies.items() if code not in codes]
    total = sum(tally.patients * math.log(ERROR_RATE) for tally in errors)
    if expected is None:
        return total
    read = {codes[code]: tally for code, tally in tallies.items() if code in codes}
    rows = sum(tally.patients for tally in read.values())
    total += _dirichlet_multinomial(
        {category: expected[category].weight for category in codes.values()},
        {category: tally.patients for category, tally in read.items()},
    )
    # Severity has the mean 0 in the table, whatever the shares of the categories.
    mean = sum(tally.patients * expected[c].severity for c, tally in read.items()) / max(rows, 1)
    for category, tally in read.items():
        total += _normal(tally, expected[category].severity - mean, SPREAD)
    return total + sum(_normal(tally, 0, SPREAD) for tally in errors)


def unknown_fit(column: str, tallies: Tallies) -> float:
    """The log likelihood of a column in a coding of which nothing is known."""
    if column not in EXPECTED:
        return 0
    categories = max(len(EXPECTED[column]), len(tallies))
    total = _dirichlet_multinomial(
        dict.fromkeys([*tallies, *range(categories - len(tallies))], 1.0),
        {code: tally.patients for code, tally in tallies.items()},
    )
    return total + sum(_normal(tally, 0, UNKNOWN_SPREAD) for tally in tallies.values())


def _dirichlet_multinomial(weights: Mapping[Any, float], counts: Mapping[Any, int]) -> float:
    """The log probability of a sequence with these counts."""
    weight, count = sum(weights.values()), sum(counts.values())
    return (
        math.lgamma(weight)
        - math.lgamma(weight + count)
        + sum(math.lgamma(weights[c] + n) - math.lgamma(weights[c]) for c, n in counts.items())
    )


def _normal(tally: Tally, mean: float, spread: float) -> float:
    """The log density of a mean severity, without its constant."""
    variance = spread**2 + 1 / tally.patients
    return -0.5 * (math.log(variance) + (tally.severity - mean) ** 2 / variance)
