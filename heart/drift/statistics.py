"""The tests that a window is put to, and their evidence: all from the counts of buckets.

Each test is of one of three kinds. `shift`: the mean ridit of a number (its rank among the training
patients, from 0 to 1), the most powerful for values that are larger or smaller. `share`: the share
of patients in a category, or above a cut of a number, for changes of any other form. `rare`: the
share of patients in whom a measurement is missing, or whose value no training patient had.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import Column, Reference

Array = npt.NDArray[np.float64]

SHIFT, SHARE, RARE = "shift", "share", "rare"


@dataclass(frozen=True)
class DriftTest:
    """One test: what it counts (`weights`) among which patients (`among`), by bucket of its column."""

    column: int
    kind: str
    weights: tuple[float, ...]
    among: tuple[float, ...]
    what: str


@dataclass(frozen=True)
class DriftTestSuite:
    """All tests of a reference, as matrices.

    `projection` [buckets, 2 tests] turns counts of the buckets of all columns into what each test
    counts, and among how many patients. `hits` and `known` [tests] are those of the reference,
    `deviation` [tests] is the standard deviation of ridits, `limits` [views, tests].
    """

    __test__ = False

    tests: tuple[DriftTest, ...]
    projection: Array
    hits: Array
    known: Array
    shifts: npt.NDArray[np.bool_]
    deviation: Array
    limits: Array

    def evidence(self, projected: Any) -> Any:
        """The evidence [..., tests] of projected counts [..., 2 tests], in standard deviations.

        Positive where there is more than in the reference; 0 where no patient is known. Of the
        type of the counts: float32 is fast and good enough for windows of hundreds of patients.
        """
        hits, known = np.split(projected, 2, axis=-1)
        statistic = np.empty_like(hits)
        shifts, shares = self.shifts, ~self.shifts
        hits_before, known_before, deviation = (
            array.astype(projected.dtype) for array in (self.hits, self.known, self.deviation)
        )
        statistic[..., shares] = signed_root(
            hits[..., shares], known[..., shares], hits_before[shares], known_before[shares]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            difference = hits[..., shifts] / known[..., shifts] - 0.5
            error = np.sqrt(1 / known[..., shifts] + 1 / known_before[shifts])
            statistic[..., shifts] = difference / (deviation[shifts] * error)
        return np.nan_to_num(statistic, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def signed_root(hits: Any, known: Any, hits_before: Any, known_before: Any) -> Any:
    """The root of the likelihood-ratio statistic G of a two-by-two table, with the sign of the change.

    Close to a standard normal deviate even far out and for a reference of a few hundred patients;
    for rare events it errs on the side of no alarm.
    """
    more = hits * known_before - hits_before * known
    statistic = (
        _x_log_x(hits) + _x_log_x(known - hits) - _x_log_x(known)
        + _x_log_x(hits_before) + _x_log_x(known_before - hits_before) - _x_log_x(known_before)
        - _x_log_x(hits + hits_before) - _x_log_x(known - hits + known_before - hits_before)
        + _x_log_x(known + known_before)
    )  # fmt: skip
    return np.sign(more) * np.sqrt(np.maximum(2 * statistic, 0))


def _x_log_x(x: Any) -> Any:
    """Of counts: 0 for 0. numpy's log of float32 is fast."""
    return x * np.log(np.maximum(x, 1))


@lru_cache(maxsize=4)
def all_tests(reference: Reference) -> DriftTestSuite:
    """All tests of a reference."""
    tests = [
        test for number, column in enumerate(reference.columns) for test in tests_of(number, column)
    ]
    sizes = [column.buckets for column in reference.columns]
    starts = [0, *accumulate(sizes)]
    projection = np.zeros((starts[-1], 2 * len(tests)))
    for number, test in enumerate(tests):
        own = slice(starts[test.column], starts[test.column + 1])
        projection[own, number] = test.weights
        projection[own, len(tests) + number] = test.among
    counts = np.concatenate([[*column.counts, column.missing] for column in reference.columns])
    hits, known = np.split(counts @ projection, 2)
    squares = counts @ (projection[:, : len(tests)] ** 2)
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(np.maximum(squares / known - 0.25, 0))
    return DriftTestSuite(
        tests=tuple(tests),
        projection=projection,
        hits=hits,
        known=known,
        shifts=np.array([test.kind == SHIFT for test in tests]),
        deviation=deviation,
        limits=np.array(
            [getattr(reference.columns[t.column].limits, t.kind) for t in tests], dtype=np.float64
        ).T,
    )


def tests_of(number: int, column: Column) -> list[DriftTest]:
    """The tests of a column, whose number is that in the reference."""
    everyone = (1.0,) * column.buckets
    missing = (0.0,) * (column.buckets - 1) + (1.0,)
    values = _category(number, column) if column.choices else _number(number, column)
    return [*values, DriftTest(number, RARE, missing, everyone, "missing")]


def _category(number: int, column: Column) -> list[DriftTest]:
    """Whether a patient is in a choice, for each (of two choices one says all), or in none."""
    named = [choice.name.replace("_", " ") for choice in column.choices] + ["in no known category"]
    return [
        DriftTest(
            number,
            SHARE if bucket < len(column.choices) else RARE,
            tuple(float(other == bucket) for other in range(column.buckets)),
            _among(column),
            named[bucket],
        )
        for bucket in range(1 if len(column.choices) == 2 else 0, len(column.counts))
    ]


def _number(number: int, column: Column) -> list[DriftTest]:
    """The rank of a patient's value, and whether it is above an edge, for each."""
    if not column.edges:
        return []
    rank = DriftTest(number, SHIFT, (*ridits(column), 0.0), _among(column), "")
    return [rank, *(cut(number, column, i) for i in range(len(column.edges)))]


def cut(number: int, column: Column, i: int) -> DriftTest:
    """Whether a patient's value is above edge i; for the first edge, whether it is not."""
    unit = f" {column.measurement.unit}" if column.measurement else ""
    edge = f"{column.edges[i]:.4g}{unit}"
    above = tuple(float(bucket > i) for bucket in range(len(column.counts)))
    if i == 0:
        below = tuple(1 - share for share in above)
        return DriftTest(number, RARE, (*below, 0.0), _among(column), f"up to {edge}")
    kind = RARE if i == len(column.edges) - 1 else SHARE
    return DriftTest(number, kind, (*above, 0.0), _among(column), f"above {edge}")


def _among(column: Column) -> tuple[float, ...]:
    return (1.0,) * len(column.counts) + (0.0,)


def ridits(column: Column) -> list[float]:
    """The share of training patients in lower buckets and half of those in the bucket itself."""
    known = max(sum(column.counts), 1)
    return [
        (below - own / 2) / known
        for own, below in zip(column.counts, accumulate(column.counts), strict=True)
    ]
