"""Encoding of valid patients for the model, and what is outside its training range.

It does the same as `heart.schema.encode` without its checks, since the API has validated the patients: 40
times as fast for a single patient.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from heart.schema import MEASUREMENTS, NAMES, Floats

Places = dict[str, list[int]]  # rows by the name of a measurement

# By column: the code of each category and of a missing value; None for a number.
_CODES: tuple[dict[str | None, float] | None, ...] = tuple(
    {None: math.nan} | {choice.name: float(code) for code, choice in enumerate(m.choices)}
    if m.choices
    else None
    for m in MEASUREMENTS
)


_values = itemgetter(*NAMES)


def values_of(patient: Mapping[str, Any]) -> tuple[Any, ...]:
    """The 13 measurements of a patient in the order of the schema, None for a missing one."""
    try:
        values: tuple[Any, ...] = _values(patient)
    except KeyError:
        return tuple(patient.get(name) for name in NAMES)
    return values


def columns_of(patients: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The columns of patients, each as `values_of` returns it: loops over columns are several times as fast."""
    return list(zip(*patients, strict=True)) if patients else [()] * len(NAMES)


def encode_columns(columns: Sequence[Sequence[Any]]) -> Floats:
    """Encoded rows [n, 13] of the columns of valid patients."""
    encoded = [
        column if codes is None else [codes[value] for value in column]
        for codes, column in zip(_CODES, columns, strict=True)
    ]
    return np.array(encoded, dtype=np.float32).T.copy()  # None becomes NaN


def encode_rows(patients: Sequence[Sequence[Any]]) -> Floats:
    """Encoded rows [n, 13] of valid patients, each as `values_of` returns it."""
    return encode_columns(columns_of(patients))


def rows_of(patients: Sequence[Mapping[str, Any]]) -> Floats:
    """Encoded rows [n, 13] of valid patients."""
    return encode_rows([values_of(patient) for patient in patients])


def outside_training_range(patient: Mapping[str, Any], ranges: Mapping[str, Any]) -> list[str]:
    """The numeric measurements of a patient outside the range of the training patients."""
    columns = columns_of([values_of(patient)])
    return list(outside_places(columns, ranges))


def outside_places(columns: Sequence[Sequence[Any]], ranges: Mapping[str, Any]) -> Places:
    """Where numbers are outside the range of the training patients.

    `ranges` is `numbers` of the version's training.json: `low` and `high` by measurement.
    """
    places = {}
    for name, limits in ranges.items():
        low, high = limits["low"], limits["high"]
        places[name] = [
            row
            for row, value in enumerate(columns[NAMES.index(name)])
            if value is not None and not low <= value <= high
        ]
    return {name: rows for name, rows in places.items() if rows}


def missing_places(columns: Sequence[Sequence[Any]]) -> Places:
    """Where measurements are missing."""
    return {
        name: [row for row, value in enumerate(column) if value is None]
        for name, column in zip(NAMES, columns, strict=True)
        if None in column
    }


def by_row(places: Places) -> defaultdict[int, list[str]]:
    """The names at each row that has any, in the order of `places`."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for name, rows in places.items():
        for row in rows:
            names[row].append(name)
    return names


def warning(name: str, ranges: Mapping[str, Any]) -> str:
    """The warning in a response about a number outside the training range."""
    limits = ranges[name]
    return f"{name} is outside the training patients' {limits['low']:g} to {limits['high']:g}"
