"""The drift check: compare the last patients with those before them. Pure functions of counts.

`fit` computes a reference from training patients, `check` compares the last patients with it. It checks
several windows at once: long ones detect small changes, short ones detect large changes early.

Each window is compared twice: with the training patients alone, and with these and the earlier patients of
the stream. A few hundred training patients know the usual shares only roughly, which hides small changes; after
a thousand quiet patients they are known well. The first comparison stays, since a slow drift makes the earlier
patients change too. Example: after 1,000 quiet patients, the second finds that the share of men has fallen from
68 to 50 % after about 300 patients, the first alone after 440 (`make bench-drift`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import COLUMNS, MIN_CELL_COUNT, Column, Limits, Policy, Reference
from heart.drift.statistics import RARE, SHARE, Array, DriftTestSuite, all_tests, tests_of
from heart.drift.summaries import summary
from heart.drift.thresholds import EXPONENT, limits
from heart.schema import BY_NAME, MEASUREMENTS, NAMES, Floats

Counts = npt.NDArray[np.int64]

# The rates of all tests add up to this part of `Policy.false_alarms`. Shares of patients have heavier
# tails than the normal variable behind the limits, so that a part is reserved (`make bench-drift`).
USED_PART = 0.9

# Of that rate: the part of `rare` tests, and of the rest of a number the part of its cuts. A category has
# twice the rate of a number: a change of a share is harder to detect than a shift of a number.
RARE_PART, CUTS_PART, CATEGORY_WEIGHT = 0.3, 0.1, 2

# Rows that are assigned to buckets at a time, so that a million rows need no copy.
CHUNK = 16384


@dataclass(frozen=True)
class Finding:
    """The result for one measurement, or for the model's score.

    `score` and `limit` are of the test and comparison with the largest ratio of the two, in standard
    deviations without drift; a `ratio` above 1 is drift. The comparison is of the last `window_rows` patients
    with the training patients and `earlier_rows` patients of the stream.
    """

    ratio: float
    limit: float
    score: float
    drifted: bool
    window_rows: int
    earlier_rows: int
    summary: str


@dataclass(frozen=True)
class ViewCounts:
    """Counts of patients in each bucket, by view.

    `views` are the numbers of the views, as in `Limits`; `window` [views, buckets] are the last patients,
    `earlier` [views, buckets] those that are added to the training patients.
    """

    views: list[int]
    window: Counts
    earlier: Counts


@dataclass(frozen=True)
class Report:
    """The findings by name; with fewer rows than the minimum there are none, and `drifted` is None."""

    window_rows: int
    minimum_rows: int
    drifted: bool | None
    features: dict[str, Finding]
    summary: str


def fit(rows: Floats, scores: Floats, policy: Policy) -> Reference:
    """The reference of training patients: encoded rows [n, 13] and the model's scores for them [n].

    The scores must be out of fold: those that a model gives its own training patients are more extreme
    than those of new patients. Raises ValueError for tables of other shapes, and for too few patients.
    """
    _check_shapes(rows, scores)
    table = _table(rows, scores)
    if len(table) < MIN_CELL_COUNT:
        raise ValueError(f"{len(table)} training patients, expected at least {MIN_CELL_COUNT}")
    columns = tuple(_fit(name, table[:, i], len(table), policy) for i, name in enumerate(COLUMNS))
    return Reference(len(table), policy, columns)


def _check_shapes(rows: Floats, scores: Floats) -> None:
    """Raises ValueError for tables of other shapes."""
    if rows.ndim != 2 or rows.shape[1] != len(NAMES) or scores.shape != (len(rows),):
        raise ValueError(
            f"rows are {rows.shape} and scores are {scores.shape}, "
            f"expected (n, {len(NAMES)}) and (n,)"
        )


def _table(rows: Floats, scores: Floats) -> Floats:
    """Rows and scores side by side [n, 14]."""
    return np.column_stack([rows, scores]).astype(np.float32, copy=False)


def _fit(name: str, values: Floats, rows: int, policy: Policy) -> Column:
    measurement = BY_NAME.get(name)
    choices = measurement.choices if measurement else ()
    edges = () if choices else _edges(values, measurement.step if measurement else 0, policy.bins)
    empty = Column(name, edges, (0,) * (len(choices or edges) + 1), 0, Limits((), (), ()))
    *counts, missing = np.bincount(buckets(values, empty), minlength=empty.buckets).tolist()
    return Column(name, edges, tuple(counts), missing, _limits(empty, rows, policy))


def _edges(values: Floats, step: float, bins: int) -> tuple[float, ...]:
    """A value just below the smallest one, the quantiles, and the largest value; empty without values."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    inner = np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf")
    low = known.min() - np.float32(step) if step else np.nextafter(known.min(), np.float32(-1))
    # Through text: the shortest decimal number that is the same float32.
    return tuple(float(str(edge)) for edge in np.unique([low, *inner, known.max()]))


def _limits(column: Column, rows: int, policy: Policy) -> Limits:
    """The limits of a column: its part of the rate of false alarms, divided by the number of its tests."""
    tests = Counter(test.kind for test in tests_of(COLUMNS.index(column.name), column))
    rate = policy.false_alarms * USED_PART
    rare = rate * RARE_PART / len(COLUMNS) / tests[RARE]
    weights = [CATEGORY_WEIGHT if m.choices else 1 for m in MEASUREMENTS] + [1]
    values = rate * (1 - RARE_PART) * weights[COLUMNS.index(column.name)] / sum(weights)
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
    """The number of rows in each bucket, all columns one after the other. Counts of parts can be added."""
    counts = [np.zeros(column.buckets, dtype=np.int64) for column in reference.columns]
    for start in range(0, len(rows), CHUNK):
        table = _table(rows[start : start + CHUNK], scores[start : start + CHUNK])
        for i, column in enumerate(reference.columns):
            counts[i] += np.bincount(buckets(table[:, i], column), minlength=column.buckets)
    return np.concatenate(counts)


def count_views(rows: Floats, scores: Floats, reference: Reference) -> ViewCounts:
    """The counts of all views of the last rows (oldest first); see `Limits` for the views."""
    views = list(_views(len(rows), reference.policy))
    sizes = sorted({0, *(size for _, *ends in views for size in ends)})
    size = sum(column.buckets for column in reference.columns)
    parts = [np.zeros(size, dtype=np.int64)]
    for last, first in pairwise(len(rows) - n for n in sizes):
        parts.append(count(rows[first:last], scores[first:last], reference))
    of_last = dict(zip(sizes, np.cumsum(parts, axis=0), strict=True))
    window = [of_last[n] for _, n, _ in views]
    earlier = [of_last[end] - of_last[n] for _, n, end in views]
    shape = len(views), size
    return ViewCounts(
        [view for view, *_ in views], *(np.reshape(counts, shape) for counts in (window, earlier))
    )


def _views(rows: int, policy: Policy) -> Iterator[tuple[int, int, int]]:
    """The views of so many rows: number, size of the window, and of the window with the earlier patients."""
    windows = policy.windows
    full = [(view, n) for view, n in enumerate(windows) if n <= rows]
    yield from ((view, n, n) for view, n in full)
    if windows[0] <= rows < windows[-1]:
        yield len(windows), rows, rows
    if policy.earlier:
        for view, n in full:
            if n < rows:
                yield len(windows) + 1 + view, n, min(n + policy.earlier, rows)


def check(rows: Floats, scores: Floats, reference: Reference) -> Report:
    """Compare the last patients (oldest first) with the reference.

    Only the longest window is used, and `Policy.earlier` patients before it.
    `rows` are encoded [n, 13], `scores` the model's [n]. Any value is allowed, also NaN, infinity and
    unknown codes of categories. Raises ValueError for tables of other shapes.
    """
    _check_shapes(rows, scores)
    return evaluate(count_views(rows, scores, reference), len(rows), reference)


def evaluate(counts: ViewCounts, rows: int, reference: Reference) -> Report:
    """The report of counts by view; `rows` is the total number of patients."""
    minimum, longest = reference.policy.windows[0], reference.policy.windows[-1]
    if not counts.views:
        reason = f"{rows} patients, {minimum} are needed: no verdict"
        return Report(rows, minimum, None, {}, reason)
    tests = all_tests(reference)
    projected, earlier = (part @ tests.projection for part in (counts.window, counts.earlier))
    alone = tests.statistics(projected)
    compared = counts.earlier.any(axis=1, keepdims=True)
    statistics = np.where(compared, tests.beside_earlier(projected, earlier, alone), alone)
    ends = np.cumsum([column.buckets for column in reference.columns])[:-1]
    by_column = zip(
        *(np.split(c, ends, axis=1) for c in (counts.window, counts.earlier)), strict=True
    )
    features = {
        column.name: _finding(column, number, tests, statistics, ViewCounts(counts.views, *own))
        for number, (column, own) in enumerate(zip(reference.columns, by_column, strict=True))
    }
    drifted = [name for name, finding in features.items() if finding.drifted]
    verdict = f"drift of {', '.join(drifted)}" if drifted else "no drift"
    window = min(rows, longest)
    text = f"{verdict} in the last {window} patients"
    return Report(window, minimum, bool(drifted), features, text)


def _finding(
    column: Column, number: int, tests: DriftTestSuite, statistics: Array, counts: ViewCounts
) -> Finding:
    """The finding of the test and view with the largest ratio of statistic to limit; `counts` are the column's."""
    own = [i for i, test in enumerate(tests.tests) if test.column == number]
    limits = tests.limits[counts.views]
    ratios = np.abs(statistics[:, own]) / limits[:, own]
    view, best = np.unravel_index(np.argmax(ratios), ratios.shape)
    ratio, statistic = float(ratios[view, best]), float(statistics[view, own[best]])
    window, earlier = counts.window[view], counts.earlier[view]
    return Finding(
        ratio=ratio,
        limit=float(limits[view, own[best]]),
        score=abs(statistic),
        drifted=ratio > 1,
        window_rows=int(window.sum()),
        earlier_rows=int(earlier.sum()),
        summary=summary(column, tests.tests[own[best]], window, earlier, statistic),
    )
