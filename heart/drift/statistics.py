"""The tests of a window and their statistics, all computed from counts of buckets.

A statistic is a number of standard deviations: close to standard normal without drift, positive for more
and negative for less than in training. There are three kinds of tests:

- `shift`: the mean ridit of a number, which is its rank among the training patients from 0 to 1, with ties
  in the middle. The mean is 0.5 in training, and the difference is that of Mann and Whitney's test. It is
  the most powerful test for values that are larger or smaller (Bross 1958, "How to use ridit analysis").
- `share`: the share of patients in a category, or above a cut of a number, for changes of another form.
  The statistic is the signed root of the likelihood ratio G of the two-by-two table of window and training
  (Woolf 1957, "The log likelihood ratio test"; McCullagh and Nelder 1989, "Generalized linear models").
- `rare`: as `share`, for missing measurements and for values that no training patient had.

Example: 20 of 100 patients have a category that 20 of 200 training patients had. The signed root is 2.34,
which is below a limit of 5: the share of 20 instead of 10 percent is no drift yet.

All tests are linear in counts: one matrix product (`projection`) gives what each test counts (`hits`) and
among how many patients (`known`), so that a check of all windows takes some microseconds.
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

# The difference from the training patients, in standard deviations, without which a difference from the earlier
# patients of the stream is no drift.
CONFIRMED = 2.0


@dataclass(frozen=True)
class DriftTest:
    """One test: the weight of each bucket of its column, and whether the bucket is part of the total."""

    column: int
    kind: str
    weights: tuple[float, ...]
    among: tuple[float, ...]
    what: str


@dataclass(frozen=True)
class DriftTestSuite:
    """All tests of a reference, as matrices.

    `projection` [buckets, 2 tests] maps counts of the buckets of all columns to the weighted count of
    each test and to its total. `before` [2 tests] are both for the reference, `deviation` [tests] is the
    standard deviation of ridits, `limits` [views, tests].
    """

    __test__ = False

    tests: tuple[DriftTest, ...]
    projection: Array
    before: Array
    shifts: npt.NDArray[np.bool_]
    deviation: Array
    limits: Array

    def statistics(self, projected: Any) -> Any:
        """The statistics [..., tests] of projected counts [..., 2 tests], in standard deviations.

        Positive where there is more than in the reference; 0 where no value is known. The result has the
        type of the counts: float32 is fast and precise enough for windows of hundreds of patients.
        """
        return self._statistics(projected, 0)

    def beside_earlier(self, projected: Any, earlier: Any, alone: Any) -> Any:
        """`statistics` with projected counts of earlier patients of the stream [..., 2 tests] in the reference.

        0 where the window does not differ from the training patients in the same direction (`alone`, the
        statistics without the earlier patients): the end of a drift is none.
        """
        beside = self._statistics(projected, earlier)
        return np.where((beside * alone > 0) & (np.abs(alone) >= CONFIRMED), beside, 0)

    def _statistics(self, projected: Any, earlier: Any) -> Any:
        hits, known = np.split(projected, 2, axis=-1)
        before = self.before.astype(projected.dtype) + earlier
        hits_before, known_before = np.split(before, 2, axis=-1)
        results = np.empty_like(hits)
        shifts, shares = self.shifts, ~self.shifts
        results[..., shares] = signed_root(
            *(counts[..., shares] for counts in (hits, known, hits_before, known_before))
        )
        hits, known, hits_before, known_before = (
            counts[..., shifts] for counts in (hits, known, hits_before, known_before)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            difference = hits / known - hits_before / known_before
            error = np.sqrt(1 / known + 1 / known_before)
            deviation = self.deviation.astype(projected.dtype)[shifts]
            results[..., shifts] = difference / (deviation * error)
        return np.nan_to_num(results, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def signed_root(hits: Any, known: Any, hits_before: Any, known_before: Any) -> Any:
    """The root of the likelihood-ratio statistic G of a two-by-two table, with the sign of the change.

    Close to a standard normal deviate even in the tails and for a reference of a few hundred patients;
    for rare events it raises fewer alarms than the rate allows.
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
    """Of counts, x log x, and 0 for 0; the logarithm of float32 is fast in numpy."""
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
    before = counts @ projection
    known = before[len(tests) :]
    squares = counts @ (projection[:, : len(tests)] ** 2)
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(np.maximum(squares / known - 0.25, 0))
    return DriftTestSuite(
        tests=tuple(tests),
        projection=projection,
        before=before,
        shifts=np.array([test.kind == SHIFT for test in tests]),
        deviation=deviation,
        limits=np.array(
            [getattr(reference.columns[t.column].limits, t.kind) for t in tests], dtype=np.float64
        ).T,
    )


def tests_of(number: int, column: Column) -> list[DriftTest]:
    """The tests of the column with this number in the reference."""
    everyone = (1.0,) * column.buckets
    missing = (0.0,) * (column.buckets - 1) + (1.0,)
    values = _category(number, column) if column.choices else _number(number, column)
    return [*values, DriftTest(number, RARE, missing, everyone, "missing")]


def _category(number: int, column: Column) -> list[DriftTest]:
    """A test for each choice (for the second only, if there are two) and one for unknown values."""
    names = [choice.name.replace("_", " ") for choice in column.choices] + ["in no known category"]
    return [
        DriftTest(
            number,
            SHARE if bucket < len(column.choices) else RARE,
            tuple(float(other == bucket) for other in range(column.buckets)),
            _among(column),
            names[bucket],
        )
        for bucket in range(1 if len(column.choices) == 2 else 0, len(column.counts))
    ]


def _number(number: int, column: Column) -> list[DriftTest]:
    """A test of the rank of the value, and one for each edge."""
    if not column.edges:
        return []
    shift = DriftTest(number, SHIFT, (*ridits(column), 0.0), _among(column), "")
    return [shift, *(cut(number, column, i) for i in range(len(column.edges)))]


def cut(number: int, column: Column, i: int) -> DriftTest:
    """The test whether a value is above edge i; for the first edge, whether it is not."""
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
