"""Streams of patients drawn from a sample, and when the drift check first raises an alarm.

What the promise is held to: for each stream a reference is drawn anew from the patients before the
drift, then the very tests and limits of the check are applied at each look.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import Policy, Reference
from heart.drift.detector import buckets, fit
from heart.drift.statistics import all_tests
from heart.schema import Floats

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Patients to draw from: encoded rows [n, 13] and scores [n], each as likely as its weight."""

    rows: Floats
    scores: Floats
    weights: Array | None = None

    def draw(self, random: np.random.Generator, patients: int) -> "Sample":
        """So many patients, drawn with replacement."""
        size = len(self.rows)
        if self.weights is None:
            drawn = random.integers(size, size=patients)
        else:
            drawn = random.choice(size, size=patients, p=self.weights / self.weights.sum())
        return Sample(self.rows[drawn], self.scores[drawn])


def delays(
    before: Sample, after: Sample, rows: int, policy: Policy, patients: int, streams: int, seed: int,
    start: int = 0,
) -> Array:  # fmt: skip
    """After how many patients of `after` each stream raises its first alarm; infinity for none.

    Each stream has a new reference of so many `rows` from `before`, then `start` patients from it,
    whose own alarms count for nothing, then so many `patients` of `after`.
    """
    rows_to_alarm = np.empty(streams)
    for stream in range(streams):
        random = np.random.default_rng([seed, stream])
        reference = draw_reference(before, random, rows, policy)
        counts = [
            counted(sample.draw(random, number), reference)
            for sample, number in ((before, start), (after, patients))
            if number
        ]
        rows_to_alarm[stream] = first_alarm(reference, np.vstack(counts), start) - start
    return rows_to_alarm


def counted(stream: Sample, reference: Reference) -> Array:
    """How many patients between two looks lie in each bucket [looks, buckets]."""
    step = reference.policy.step
    members = memberships(stream, reference)
    counts: Array = members.reshape(-1, step, members.shape[1]).sum(axis=1)
    return counts


def draw_reference(
    sample: Sample, random: np.random.Generator, rows: int, policy: Policy
) -> Reference:
    """A reference of so many patients drawn with replacement."""
    drawn = random.integers(len(sample.rows), size=rows)
    return fit(sample.rows[drawn], sample.scores[drawn], policy)


def memberships(sample: Sample, reference: Reference) -> Array:
    """The bucket of each patient in each column, as 0 or 1 [n, buckets]."""
    table = np.column_stack([sample.rows, sample.scores])
    return np.hstack(
        [
            np.eye(column.buckets, dtype=np.float32)[buckets(table[:, number], column)]
            for number, column in enumerate(reference.columns)
        ]
    )


def views(projected: Array, policy: Policy) -> list[Array]:
    """What was counted in each window at each of its looks, from that between two; then in all so far."""
    sums = np.cumsum(np.vstack([np.zeros_like(projected[:1]), projected]), axis=0)
    looks = [patients // policy.step for patients in policy.windows]
    return [*(sums[n:] - sums[:-n] for n in looks), sums[looks[0] : looks[-1]]]


def first_alarm(reference: Reference, counts: Array, start: int = 0) -> float:
    """After how many patients the first alarm is raised; infinity for none.

    `counts` [looks, buckets] are of the patients between two looks. Looks count only after more
    than `start` patients.
    """
    tests, policy = all_tests(reference), reference.policy
    projected = (counts @ tests.projection).astype(np.float32)
    first = np.inf
    for view, seen in enumerate(views(projected, policy)):
        alarm = (np.abs(tests.evidence(seen)) > tests.limits[view]).any(axis=1)
        before = policy.windows[view if view < len(policy.windows) else 0]
        came = before + policy.step * np.arange(len(alarm))
        alarmed = came[alarm & (came > start)]
        first = min([first, *alarmed[:1]])
    return first
