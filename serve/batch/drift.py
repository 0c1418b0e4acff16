"""Does a whole table look like the training patients? From counts that are gathered part by part."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from heart.drift.baseline import Column, Reference
from heart.drift.detector import Counts, buckets
from heart.schema import Floats, Measurement
from serve.batch.cells import Rows


def count(encoded: Floats, scores: Floats | None, reference: Reference) -> Counts:
    """What `heart.drift.detector.count` gives for encoded columns [13, n], at a third of its cost.

    Without scores, those buckets are empty.
    """
    counts = []
    for column, values in zip(reference.columns, (*encoded, scores), strict=True):
        measurement = column.measurement
        if values is None:
            counts.append(np.zeros(column.buckets, dtype=np.int64))
        elif measurement and (measurement.choices or measurement.step == 1):
            each = np.bincount(_places(values, measurement), minlength=len(_whole(measurement)))
            counts.append(_sums(each, _buckets_of_whole(column), column.buckets))
        else:
            counts.append(np.bincount(buckets(values, column), minlength=column.buckets))
    return np.concatenate(counts)


def _places(values: Floats, measurement: Measurement) -> Counts:
    """Where in `_whole` the values of a measurement stand."""
    return np.nan_to_num(values, nan=len(_whole(measurement)) - 1).astype(np.int64)


def _whole(measurement: Measurement) -> Floats:
    """The values that a measurement may have if they are whole, from 0, and the missing one."""
    high = len(measurement.choices) - 1 if measurement.choices else int(measurement.high)
    return np.append(np.arange(high + 1), np.nan).astype(np.float32)


@lru_cache(maxsize=64)
def _buckets_of_whole(column: Column) -> Counts:
    assert column.measurement
    return buckets(_whole(column.measurement), column)


def _sums(each: Counts, places: Counts, size: int) -> Counts:
    sums = np.zeros(size, dtype=np.int64)
    np.add.at(sums, places, each)
    return sums


class Tally:
    """Counts by bucket of the good rows of batch after batch; they add up."""

    def __init__(self, reference: Reference) -> None:
        self.counts = np.zeros(sum(c.buckets for c in reference.columns), dtype=np.int64)
        self._reference = reference

    def add(self, encoded: Floats, scores: Floats | None, bad: Rows) -> None:
        """Count the rows of encoded columns [13, n] but those that are bad."""
        if len(bad):
            encoded = np.delete(encoded, bad, axis=1)
            scores = None if scores is None else np.delete(scores, bad)
        self.merge(count(encoded, scores, self._reference))

    def merge(self, counts: Counts | Sequence[int]) -> None:
        """Add what was counted elsewhere."""
        self.counts += np.asarray(counts)
