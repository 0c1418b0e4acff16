"""Which coding a table is in, told from its codes, their frequencies and their associations.

Files with one heading, and even with the same codes, are in different codings: chest pain 3 is
"asymptomatic" in one and "typical angina" in another. So the table is read by every coding, and
each reading gets a log likelihood, column by column, from

1. the codes: one that a coding does not have is an error in the file, of probability ERROR_RATE, or
   its column is in another coding than the rest, of probability COLUMN_ERROR_RATE;
2. the frequencies: the number of patients in each category is Dirichlet-multinomial, that is
   multinomial with shares that vary from hospital to hospital;
3. the associations: the mean severity of the patients of each category is normal around what is
   expected of it. Severity is a sum of measurements that all codings write alike, such as the ST
   depression.

A coding is accepted if the table is REQUIRED_RATIO times as likely as in any other, and if no
single column speaks for another reading by CONTRADICTION_RATIO. For example, of ten patients seven
have chest pain 3, one has 0, and those with 3 have the highest ST depression: as "asymptomatic",
3 is as frequent and as severe as it should be, as "typical angina" it is neither.

The outcome is not used: it may be inverted, and a table to score has none. Copies of a row count
once, because they are no further evidence.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from heart.dataset.formats import CODINGS, NUMBERED, PROJECT, UCI, Coding, plain
from heart.schema import MEASUREMENTS, SchemaError

REQUIRED_RATIO = 10_000
CONTRADICTION_RATIO = 1_000
ERROR_RATE = 1e-4
COLUMN_ERROR_RATE = 1e-6
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
DECIDING = (*EXPECTED, "major_vessels")  # a missing one has a code of its own in some codings

# What makes up severity, with the sign of its association.
SEVERITY = {"max_heart_rate": -1, "exercise_angina": 1, "st_depression": 1, "major_vessels": 1}

_MEASUREMENTS = {m.name: m for m in MEASUREMENTS}
_CATEGORICAL = tuple(m.name for m in MEASUREMENTS if m.choices)
# The codes that any coding has: another one is a bad cell, and tells nothing.
_KNOWN = {
    column: {code for coding in NUMBERED for code in coding.codes[column]}
    for column in (*_CATEGORICAL, "major_vessels")
}


@dataclass(frozen=True)
class Cells:
    """A column: its distinct cells, and which of them each row [n] has."""

    texts: Sequence[str]
    positions: npt.NDArray[np.integer[Any]]


Columns = Mapping[str, Cells]  # by measurement


class Tally(NamedTuple):
    """The patients with a code: how many, and their mean severity."""

    patients: int
    severity: float


Tallies = Mapping[str, Tally]  # by code


def detect(columns: Columns, setting: str) -> Coding:
    """The coding of a table. Raises SchemaError, naming `setting`, if it cannot be told."""
    columns = _distinct_rows(columns)
    if _is_in_words(columns, setting):
        return PROJECT
    severity = _severity(columns)
    tallies = {
        column: _tallies(column, columns[column], severity)
        for column in DECIDING
        if column in columns
    }
    fits = {
        coding.name: {column: _fit(column, given, coding) for column, given in tallies.items()}
        for coding in NUMBERED
    }
    totals = {name: sum(by_column.values()) for name, by_column in fits.items()}
    best = max(totals, key=totals.__getitem__)
    _check_columns(best, fits, tallies, setting)
    _check_others(totals, tallies, len(severity), setting)
    return CODINGS[best]


def _distinct_rows(columns: Columns) -> Columns:
    """The table without copies of rows, and without some of its rows if there are very many."""
    count = len(next(iter(columns.values())).positions)
    every = max(1, math.ceil(count / MAX_ROWS))
    sample = np.stack([cells.positions[::every] for cells in columns.values()], axis=1)
    rows = np.unique(sample, axis=0)
    return {
        name: Cells(cells.texts, rows[:, place])
        for place, (name, cells) in enumerate(columns.items())
    }


def _is_in_words(columns: Columns, setting: str) -> bool:
    """Whether there are more of the schema's categories than of codes."""
    words = codes = 0
    for name in _CATEGORICAL:
        if name in columns:
            cells = columns[name]
            counts = np.bincount(cells.positions, minlength=len(cells.texts))
            categories = {choice.name for choice in _MEASUREMENTS[name].choices}
            for text, count in zip(cells.texts, counts.tolist(), strict=True):
                words += count * (text.strip() in categories)
                codes += count * (plain(text.strip()) in _KNOWN[name])
    if not words and not codes:
        raise SchemaError(
            "no cell is a code or a category that any coding has, so nothing tells the coding: "
            f"set {setting} to one of {', '.join(CODINGS)}"
        )
    return words > codes


def _severity(columns: Columns) -> npt.NDArray[np.float64]:
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
        return _MEASUREMENTS[column].parse(UCI.translate(column, text))
    except SchemaError:
        return math.nan


def _tallies(column: str, cells: Cells, severity: npt.NDArray[np.float64]) -> Tallies:
    counts = np.bincount(cells.positions, minlength=len(cells.texts))
    sums = np.bincount(cells.positions, weights=severity, minlength=len(cells.texts))
    count, total = defaultdict[str, int](int), defaultdict[str, float](float)
    for text, n, s in zip(cells.texts, counts.tolist(), sums.tolist(), strict=True):
        code = plain(text.strip())
        if n and code in _KNOWN[column]:
            count[code] += n
            total[code] += s
    return {code: Tally(n, total[code] / n) for code, n in count.items()}


def _fit(column: str, tallies: Tallies, coding: Coding) -> float:
    """The log likelihood of a column in a coding, or else in one of its own."""
    own = math.log(COLUMN_ERROR_RATE) + _unknown_fit(column, tallies)
    return float(np.logaddexp(_known_fit(column, tallies, coding), own))


def _known_fit(column: str, tallies: Tallies, coding: Coding) -> float:
    codes, expected = coding.codes[column], EXPECTED.get(column)
    errors = [tally for code, tally in tallies.items() if code not in codes]
    fit = sum(tally.patients * math.log(ERROR_RATE) for tally in errors)
    if expected is None:
        return fit
    read = {codes[code]: tally for code, tally in tallies.items() if code in codes}
    rows = sum(tally.patients for tally in read.values())
    fit += _dirichlet_multinomial(
        {category: expected[category].weight for category in codes.values()},
        {category: tally.patients for category, tally in read.items()},
    )
    # Severity has the mean 0 in the table, whatever the shares of the categories.
    mean = sum(tally.patients * expected[c].severity for c, tally in read.items()) / max(rows, 1)
    for category, tally in read.items():
        fit += _normal(tally, expected[category].severity - mean, SPREAD)
    return fit + sum(_normal(tally, 0, SPREAD) for tally in errors)


def _unknown_fit(column: str, tallies: Tallies) -> float:
    """The log likelihood of a column in a coding of which nothing is known."""
    if column not in EXPECTED:
        return 0
    categories = max(len(EXPECTED[column]), len(tallies))
    fit = _dirichlet_multinomial(
        dict.fromkeys([*tallies, *range(categories - len(tallies))], 1.0),
        {code: tally.patients for code, tally in tallies.items()},
    )
    return fit + sum(_normal(tally, 0, UNKNOWN_SPREAD) for tally in tallies.values())


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


def _check_others(
    totals: Mapping[str, float], tallies: Mapping[str, Tallies], rows: int, setting: str
) -> None:
    """Raises SchemaError if another coding fits nearly as well as the best one."""
    least = max(totals.values()) - math.log(REQUIRED_RATIO)
    fitting = [name for name, total in totals.items() if total > least]
    if len(fitting) == 1:
        return
    differing = [
        column
        for column, given in tallies.items()
        if len({tuple(CODINGS[name].codes[column].get(c) for c in given) for name in fitting}) > 1
    ]
    reason = (
        f"they differ in {', '.join(differing)}, and the rows ({rows} different) do not decide"
        if differing
        else "no column in which they differ is given"
    )
    names = ", ".join(fitting)
    raise SchemaError(
        f"cannot tell the coding: {names} fit; {reason}. Set {setting} to one of {names}"
    )


def _check_columns(
    best: str,
    fits: Mapping[str, Mapping[str, float]],
    tallies: Mapping[str, Tallies],
    setting: str,
) -> None:
    """Raises SchemaError if a column speaks against the coding that the table as a whole fits."""
    for column in EXPECTED:
        if column in tallies:
            others = [fits[name][column] for name in fits]
            fit = max(*others, _unknown_fit(column, tallies[column]))
            if fit - fits[best][column] > math.log(CONTRADICTION_RATIO):
                raise SchemaError(_contradiction(best, column, tallies[column], setting))


def _contradiction(best: str, column: str, tallies: Tallies, setting: str) -> str:
    given = ", ".join(f"{code} ({tally.patients} rows)" for code, tally in sorted(tallies.items()))
    codes = ", ".join(
        f"{code} {name or 'missing'}" for code, name in CODINGS[best].codes[column].items()
    )
    return (
        f"the table is in coding {best} but for {column}, which has {given}; expected {codes}, with "
        f"their usual frequencies and severities. Write {column} in that coding, or set {setting} "
        f"to one of {', '.join(CODINGS)} if it is right"
    )
