"""Do the last patients look like the training patients? Pure functions of counts.

`fit` makes a reference from training patients, `check` compares the last patients with it. Several
windows are looked at at once: long ones for small changes, short ones for large changes.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import COLUMNS, MIN_CELL_COUNT, Column, Limits, Policy, Reference
from heart.drift.statistics import RARE, SHARE, Array, DriftTestSuite, all_tests, tests_of
from heart.drift.summaries import summary
from heart.drift.thresholds import EXPONENT, limits
from heart.schema import MEASUREMENTS, NAMES, Floats

Counts = npt.NDArray[np.int64]

# The rates of all tests add up to this part of the promised one. Shares of whole patients have
# heavier tails than the normal measurement behind the limits, so some is kept back: with 0.65 an
# alarm is raised in 0.5 % of streams, with 0.8 in 0.9 %, too near to 1 % (`make bench-drift`).
USED_PART = 0.65

# Of that: what `rare` tests may use, and what of the rest of a number its cuts may. A category may
# use twice as much as a number: a change of a share is harder to notice than a shift of a number.
RARE_PART, CUTS_PART, CATEGORY_WEIGHT = 0.15, 0.1, 2

# Rows that are sorted into buckets at a time: a million must not need a copy of them all.
CHUNK = 16384


@dataclass(frozen=True)
class Finding:
    """What was found of one measurement, or of the model's score.

    `score` and `limit` are those of the test and window with the largest ratio of the two, in
    standard deviations of what is no drift; a `ratio` above 1 is drift.
    """

    ratio: float
    limit: float
    score: float
    drifted: bool
    summary: str


@dataclass(frozen=True)
class Report:
    """The findings by name. With fewer rows than the minimum there are none, and no verdict."""

    window_rows: int
    minimum_rows: int
    drifted: bool | None
    features: dict[str, Finding]
    summary: str


def fit(rows: Floats, scores: Floats, policy: Policy) -> Reference:
    """The reference of training patients: encoded rows [n, 13] and the model's scores for them [n].

    The scores must be of models that were fitted without the patient: those of the model itself
    are more extreme than those of new patients. Raises ValueError for tables that do not fit, and
    for too few patients.
    """
    _fitting(rows, scores)
    table = _table(rows, scores)
    if len(table) < MIN_CELL_COUNT:
        raise ValueError(f"{len(table)} training patients, expected at least {MIN_CELL_COUNT}")
    columns = tuple(_fit(name, table[:, i], len(table), policy) for i, name in enumerate(COLUMNS))
    return Reference(len(table), policy, columns)


def _fitting(rows: Floats, scores: Floats) -> None:
    """Raises ValueError for tables that do not fit."""
    if rows.ndim != 2 or rows.shape[1] != len(NAMES) or scores.shape != (len(rows),):
        raise ValueError(
            f"rows are {rows.shape} and scores are {scores.shape}, "
            f"expected (n, {len(NAMES)}) and (n,)"
        )


def _table(rows: Floats, scores: Floats) -> Floats:
    """Rows and scores side by side [n, 14]."""
    return np.column_stack([rows, scores]).astype(np.float32, copy=False)


def _fit(name: str, values: Floats, rows: int, policy: Policy) -> Column:
    measurement = next((m for m in MEASUREMENTS if m.name == name), None)
    choices = measurement.choices if measurement else ()
    edges = () if choices else _edges(values, measurement.step if measurement else 0, policy.bins)
    empty = Column(name, edges, (0,) * (len(choices or edges) + 1), 0, Limits((), (), ()))
    *counts, missing = np.bincount(buckets(values, empty), minlength=empty.buckets).tolist()
    return Column(name, edges, tuple(counts), missing, _limits(empty, rows, policy))


def _edges(values: Floats, step: float, bins: int) -> tuple[float, ...]:
    """Just below the smallest value, the quantiles, and the largest value; none of no value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    inner = np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf")
    low = known.min() - np.float32(step) if step else np.nextafter(known.min(), np.float32(-1))
    # As text and back: the shortest number that is the same float32.
    return tuple(float(str(edge)) for edge in np.unique([low, *inner, known.max()]))


def _limits(column: Column, rows: int, policy: Policy) -> Limits:
    """Every column may use its part of the false alarms, divided by its tests."""
    tests = Counter(test.kind for test in tests_of(COLUMNS.index(column.name), column))
    used = policy.false_alarms * USED_PART
    rare = used * RARE_PART / len(COLUMNS) / tests[RARE]
    weights = [CATEGORY_WEIGHT if m.choices else 1 for m in MEASUREMENTS] + [1]
    values = used * (1 - RARE_PART) * weights[COLUMNS.index(column.name)] / sum(weights)
    if column.choices:
        shift = share = values / tests[SHARE]
    else:
        shift, share = values * (1 - CUTS_PART), values * CUTS_PART / max(tests[SHARE], 1)
    return Limits(
        limits(rows, policy, shift, EXPONENT),
        limits(rows, policy, share, EXPONENT),
        limits(rows, policy, rare, 0.0),
    )


def buckets(values: Floats, column: Column) -> Counts:
    """The bucket of each value [n]: that of missing values is the last."""
    if column.choices:
        known = (values >= 0) & (values < len(column.choices)) & (values == np.floor(values))
        bucket = np.where(known, values, len(column.choices)).astype(np.int64)
    else:
        bucket = np.searchsorted(np.array(column.edges, dtype=np.float32), values, side="left")
    bucket[np.isnan(values)] = column.buckets - 1
    return bucket


def count(rows: Floats, scores: Floats, reference: Reference) -> Counts:
    """How many rows lie in each bucket, all columns one after the other; such counts add up."""
    counts = [np.zeros(column.buckets, dtype=np.int64) for column in reference.columns]
    for start in range(0, len(rows), CHUNK):
        table = _table(rows[start : start + CHUNK], scores[start : start + CHUNK])
        for i, column in enumerate(reference.columns):
            counts[i] += np.bincount(buckets(table[:, i], column), minlength=column.buckets)
    return np.concatenate(counts)


def count_views(rows: Floats, scores: Floats, reference: Reference) -> tuple[list[int], Counts]:
    """The views of the last rows (oldest first) by number, and their counts [views, buckets].

    A view is a window that is full, or all rows so far while the longest window is not.
    """
    windows = reference.policy.windows
    sizes = {view: n for view, n in enumerate(windows) if n <= len(rows)}
    if windows[0] <= len(rows) < windows[-1]:
        sizes[len(windows)] = len(rows)
    ends = [len(rows) - n for n in (0, *sizes.values())]
    parts = [count(rows[start:end], scores[start:end], reference) for end, start in pairwise(ends)]
    size = sum(column.buckets for column in reference.columns)
    return list(sizes), np.cumsum(parts, axis=0).reshape(len(sizes), size)


def check(rows: Floats, scores: Floats, reference: Reference) -> Report:
    """Compare the last patients (oldest first) with the reference; older ones than the longest window count for nothing.

    `rows` are encoded [n, 13], `scores` the model's [n]. Any value is allowed, also NaN, infinite
    ones and codes of no category. Raises ValueError for tables that do not fit.
    """
    _fitting(rows, scores)
    views, counts = count_views(rows, scores, reference)
    return judge(views, counts, len(rows), reference)


def judge(views: list[int], counts: Counts, rows: int, reference: Reference) -> Report:
    """The report of counts by view [views, buckets], of `rows` patients in all."""
    minimum, longest = reference.policy.windows[0], reference.policy.windows[-1]
    if not len(counts):
        reason = f"{rows} patients, {minimum} are needed: no verdict"
        return Report(rows, minimum, None, {}, reason)
    tests = all_tests(reference)
    evidence = tests.evidence(counts @ tests.projection)
    starts = np.cumsum([0, *(column.buckets for column in reference.columns)])
    features = {}
    for number, column in enumerate(reference.columns):
        own = slice(starts[number], starts[number + 1])
        features[column.name] = _finding(
            column, number, tests, evidence, tests.limits[views], counts[:, own]
        )
    drifted = [name for name, finding in features.items() if finding.drifted]
    verdict = f"drift of {', '.join(drifted)}" if drifted else "no drift"
    used = min(rows, longest)
    return Report(used, minimum, bool(drifted), features, f"{verdict} in the last {used} patients")


def _finding(
    column: Column,
    number: int,
    tests: DriftTestSuite,
    evidence: Array,
    limits: Array,
    counts: Counts,
) -> Finding:
    """The test and view with the largest ratio of evidence to limit."""
    own = [i for i, test in enumerate(tests.tests) if test.column == number]
    ratios = np.abs(evidence[:, own]) / limits[:, own]
    view, best = np.unravel_index(np.argmax(ratios), ratios.shape)
    ratio, statistic = float(ratios[view, best]), float(evidence[view, own[best]])
    return Finding(
        ratio=ratio,
        limit=float(limits[view, own[best]]),
        score=abs(statistic),
        drifted=ratio > 1,
        summary=summary(column, tests.tests[own[best]], counts[view], statistic),
    )
