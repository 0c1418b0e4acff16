"""Streams of patients drawn from a sample, and the first alarm that the drift check raises on them.

This verifies the rate of false alarms: each stream has a reference of its own, drawn from the patients
before the drift, and every drift check applies the tests and limits of production.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from heart.drift.baseline import Policy, Reference
from heart.drift.detector import buckets, fit
from heart.drift.statistics import all_tests
from heart.drift.thresholds import maxima
from heart.progress import progress
from heart.schema import Floats
from heart.workers import end_with

Array = npt.NDArray[Any]

BAR = "simulated streams"
STREAMS_AT_ONCE = 10  # of a process


@dataclass(frozen=True)
class Sample:
    """Patients to draw from: encoded rows [n, 13] and scores [n], each as likely as its weight."""

    rows: Floats
    scores: Floats
    weights: Array | None = None

    def draw(self, random: np.random.Generator, patients: int) -> "Sample":
        """A sample of this size, drawn with replacement."""
        size = len(self.rows)
        if self.weights is None:
            which = random.integers(size, size=patients)
        else:
            which = random.choice(size, size=patients, p=self.weights / self.weights.sum())
        return Sample(self.rows[which], self.scores[which])


def delays(
    before: Sample, after: Sample, rows: int, policy: Policy, patients: int, streams: int, seed: int,
    start: int = 0, workers: int = 1,
) -> Array:  # fmt: skip
    """The number of patients of `after` until the first alarm of each stream; infinity for none.

    Each stream has a reference of `rows` patients from `before`. It consists of `start` patients from
    `before`, whose alarms are ignored, and of `patients` from `after`. With several `workers`, processes
    share the streams; the result is the same for any number of them.
    """
    delay = partial(_delay, before, after, rows, policy, patients, seed, start)
    maxima(rows, policy)  # cached for the processes, where they are copies of this one
    # Threads of matrix products of this size cost more than they gain.
    pool = ProcessPoolExecutor(workers, initializer=end_with, initargs=(os.getpid(),))
    with threadpool_limits(1), pool as processes:
        results: Iterator[float] = (
            map(delay, range(streams))
            if workers == 1
            else processes.map(delay, range(streams), chunksize=STREAMS_AT_ONCE)
        )
        return np.array([*progress(results, BAR, "streams", streams)])


def _delay(
    before: Sample, after: Sample, rows: int, policy: Policy, patients: int, seed: int, start: int,
    stream: int,
) -> float:  # fmt: skip
    """The delay of one stream, which has random numbers of its own."""
    random = np.random.default_rng([seed, stream])
    reference = draw_reference(before, random, rows, policy)
    counts = [
        count_steps(sample.draw(random, number), reference)
        for sample, number in ((before, start), (after, patients))
        if number
    ]
    return first_alarm(reference, np.vstack(counts), start) - start


def count_steps(stream: Sample, reference: Reference) -> Array:
    """The number of patients between two checks in each bucket [checks, buckets]."""
    step = reference.policy.step
    members = memberships(stream, reference)
    counts: Array = members.reshape(-1, step, members.shape[1]).sum(axis=1)
    return counts


def draw_reference(
    sample: Sample, random: np.random.Generator, rows: int, policy: Policy
) -> Reference:
    """A reference of patients drawn with replacement."""
    which = random.integers(len(sample.rows), size=rows)
    return fit(sample.rows[which], sample.scores[which], policy)


def memberships(sample: Sample, reference: Reference) -> Array:
    """The bucket of each patient in each column, as 0 or 1 [n, buckets]."""
    table = np.column_stack([sample.rows, sample.scores])
    return np.hstack(
        [
            np.eye(column.buckets, dtype=np.float32)[buckets(table[:, number], column)]
            for number, column in enumerate(reference.columns)
        ]
    )


def statistics(projected: Array, reference: Reference) -> Iterator[tuple[int, int, Array]]:
    """Each view: its number, the patients at its first check, and its statistics [checks, tests].

    `projected` are counts of the patients between two checks [checks, ...].
    """
    tests, policy = all_tests(reference), reference.policy
    sums = np.cumsum(np.vstack([np.zeros_like(projected[:1]), projected]), axis=0)
    steps = [patients // policy.step for patients in policy.windows]
    yield len(steps), policy.windows[0], tests.statistics(sums[steps[0] : steps[-1]])
    for view, n in enumerate(steps):
        window = sums[n:] - sums[:-n]
        alone = tests.statistics(window)
        yield view, n * policy.step, alone
        if policy.earlier:
            starts = np.arange(1, len(window))
            ends = np.maximum(starts - policy.earlier // policy.step, 0)
            beside = tests.beside_earlier(window[1:], sums[starts] - sums[ends], alone[1:])
            yield len(steps) + 1 + view, (n + 1) * policy.step, beside


def first_alarm(reference: Reference, counts: Array, start: int = 0) -> float:
    """The number of patients until the first alarm; infinity for none.

    `counts` [checks, buckets] are of the patients between two checks. Alarms of the first `start`
    patients are ignored.
    """
    tests, policy = all_tests(reference), reference.policy
    projected = (counts @ tests.projection).astype(np.float32)
    first = np.inf
    for view, smallest, values in statistics(projected, reference):
        alarm = (np.abs(values) > tests.limits[view]).any(axis=1)
        patients = smallest + policy.step * np.arange(len(alarm))
        first = min([first, *patients[alarm & (patients > start)][:1]])
    return first
