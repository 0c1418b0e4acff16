"""Usual rules of single windows: each alarms at the first window that it rejects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from heart.drift.baseline import COLUMNS, Policy, Reference
from heart.drift.simulation import Sample, count_steps, draw_reference

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """A rule for the last `window` patients: `alarm` of their counts and those of the reference."""

    name: str
    window: int
    alarm: Callable[[list[Array], list[Array]], Array]


def psi(window: Array, training: Array) -> Array:
    """The population stability index of counts [checks, buckets]; empty buckets count as 1e-4."""
    p = np.maximum(window / window.sum(axis=1, keepdims=True), 1e-4)
    q = np.maximum(training / training.sum(), 1e-4)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))


def homogeneity(window: Array, training: Array) -> Array:
    """The p-value of the chi-squared test that both have the same shares [checks]."""
    total = window + training
    rows, before = window.sum(axis=1, keepdims=True), training.sum()
    with np.errstate(invalid="ignore"):
        expected = total * rows / (rows + before)
        terms = np.where(
            total > 0,
            (window - expected) ** 2 / expected + (window - expected) ** 2 / (total - expected),
            0,
        )
    return np.asarray(chi2.sf(terms.sum(axis=1), np.maximum((total > 0).sum(axis=1) - 1, 1)))


def any_psi(windows: list[Array], training: list[Array]) -> Array:
    """PSI > 0.2 of any column."""
    pairs = zip(windows, training, strict=True)
    return np.asarray(np.any([psi(w, t) > 0.2 for w, t in pairs], axis=0))


def any_p(limit: float) -> Callable[[list[Array], list[Array]], Array]:
    """A p-value below a limit, of any column."""

    def alarm(windows: list[Array], training: list[Array]) -> Array:
        pairs = zip(windows, training, strict=True)
        return np.asarray(np.any([homogeneity(w, t) < limit for w, t in pairs], axis=0))

    return alarm


RULES = [
    rule
    for window in (100, 400)
    for rule in (
        Rule(f"PSI > 0.2, window {window}", window, any_psi),
        Rule(f"p < .05, window {window}", window, any_p(0.05)),
        Rule(f"Bonferroni .01, window {window}", window, any_p(0.01 / len(COLUMNS))),
    )
]


def grouped(reference: Reference) -> list[Array]:
    """For each column a matrix [buckets, groups] that joins buckets to ten quantiles, none empty in training."""
    matrices = []
    for column in reference.columns:
        size = column.buckets
        group = np.arange(size)
        if column.edges:  # values beyond the training patients join the outer quantiles
            group = np.append(
                np.clip(group[:-1] - 1, 0, len(column.counts) - 3), len(column.counts) - 2
            )
        matrices.append(np.eye(size)[group])
    return matrices


def single_delays(
    before: Sample, after: Sample, rows: int, policy: Policy, patients: int, seed: list[int]
) -> Array:
    """The number of patients until the first alarm of each of RULES in one stream; infinity for none.

    The reference has `rows` patients from `before`, as for the project's drift check.
    """
    random = np.random.default_rng(seed)
    reference = draw_reference(before, random, rows, policy)
    sums = np.cumsum(count_steps(after.draw(random, patients), reference), axis=0)
    sums = np.vstack([np.zeros_like(sums[:1]), sums])
    groups, starts = grouped(reference), np.cumsum([0, *(c.buckets for c in reference.columns)])
    training = [[*c.counts, c.missing] @ g for c, g in zip(reference.columns, groups, strict=True)]
    rows_to_alarm = []
    for rule in RULES:
        steps = rule.window // policy.step
        counts = np.split(sums[steps:] - sums[:-steps], starts[1:-1], axis=1)
        alarm = rule.alarm([c @ g for c, g in zip(counts, groups, strict=True)], training)
        rows_to_alarm.append((alarm.argmax() + steps) * policy.step if alarm.any() else np.inf)
    return np.array(rows_to_alarm, dtype=np.float64)
