"""Sentences about the result of a test."""

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import SCORE, Column
from heart.drift.statistics import SHIFT, DriftTest, cut

Counts = npt.NDArray[np.int64]


def summary(
    column: Column, test: DriftTest, counts: Counts, earlier: Counts, statistic: float
) -> str:
    """One sentence on the counts of a column's buckets in a window of the last patients.

    `earlier` counts the patients of the stream with which they are compared beside the training patients.
    """
    name = "predicted risk" if column.name == SCORE else column.name.replace("_", " ")
    what = test.what
    if test.kind == SHIFT:
        direction = "higher" if statistic > 0 else "lower"
        test = _middle(column)
        what = f"{direction}: {test.what}"
    before = np.array([*column.counts, column.missing]) + earlier
    patients, known = int(counts.sum()), round(float(counts @ np.array(test.among)))
    among = f"the last {patients} patients"
    if known < patients:
        among = f"the {known} of {among} in whom it is known"
    reference = "in training"
    if stream := int(earlier.sum()):
        reference = f"in training and the {stream} patients before"
    return f"{name} {what} in {_share(test, counts)} of {among}, {_share(test, before)} {reference}"


def _share(test: DriftTest, counts: Counts) -> str:
    """The share among patients with a known value; small shares are not rounded to 0."""
    known = float(counts @ np.array(test.among))
    share = float(counts @ np.array(test.weights)) / known if known else 0.0
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _middle(column: Column) -> DriftTest:
    """The cut closest to the median of the training patients, which illustrates a shift."""
    below = np.cumsum(column.counts)[:-1]
    return cut(0, column, int(np.abs(below - sum(column.counts) / 2).argmin()))
