"""Exact Shapley values: how much each measurement of a patient moves the risk.

The value of a measurement is the mean change of the risk when it becomes known, over all orders in which
the measurements can become known. With two measurements, age and sex, and these risks by what is known:

    nothing 0.40    age 0.50    sex 0.44    age and sex 0.60

    age: mean of 0.50 - 0.40 (first) and 0.60 - 0.44 (second) = 0.13
    sex: mean of 0.44 - 0.40 (first) and 0.60 - 0.50 (second) = 0.07      0.13 + 0.07 = 0.60 - 0.40

The model marginalizes missing measurements itself, so the risks of all 2^m subsets of m measurements are
one batch of predictions, of 8,192 rows at most. Source: L. S. Shapley, "A value for n-person games", 1953.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from heart.schema import NAMES, Floats


def shapley(patient: Floats, predict: Callable[[Floats], Any]) -> tuple[dict[str, float], float]:
    """The Shapley value of each measurement of an encoded patient [13], and the risk with none known.

    The values add up to the difference between the two risks.
    """
    columns = np.flatnonzero(~np.isnan(patient))
    count = len(columns)
    subsets = np.arange(2**count)[:, None] >> np.arange(count) & 1 == 1
    known = np.zeros((2**count, len(NAMES)), dtype=bool)
    known[:, columns] = subsets
    risk = predict(np.where(known, patient, np.float32(np.nan)).astype(np.float32)).astype(float)
    weight = _weights(count)
    values = {}
    for bit, column in enumerate(columns):
        without = np.flatnonzero(~subsets[:, bit])
        change = risk[without | 1 << bit] - risk[without]
        values[NAMES[column]] = float(change @ weight[subsets[without].sum(axis=1)])
    return values, float(risk[0])


def _weights(count: int) -> Any:
    """The weight of a subset by its size: |S|! (m - |S| - 1)! / m!."""
    return np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
