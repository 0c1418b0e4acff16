"""One drift check: the counts of a version's last patients, and the report on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from heart.drift.baseline import Limits, Reference
from heart.drift.detector import Counts, Report, ViewCounts, count_views, evaluate
from heart.schema import Floats


@dataclass(frozen=True)
class DriftSnapshot:
    """One check of a version's last patients.

    `now` and `before` map each feature to the patients in its buckets, in the comparison of its finding: the
    last patients, and those with which they are compared. Both are empty below the minimum.
    """

    version: str
    reference: Reference
    report: Report
    now: Mapping[str, Counts]
    before: Mapping[str, Counts]


def narrowed(reference: Reference, patients: int | None) -> Reference:
    """The reference without windows of more than `patients`; the shortest window is kept."""
    windows = reference.policy.windows
    number = len([n for n in windows if patients is None or n <= patients]) or 1
    if number == len(windows):
        return reference

    def cut(limits: tuple[float, ...]) -> tuple[float, ...]:
        with_earlier = limits[len(windows) + 1 :]
        return (*limits[:number], limits[len(windows)], *with_earlier[:number])

    columns = [
        replace(column, limits=Limits(cut(c.shift), cut(c.share), cut(c.rare)))
        for column, c in ((column, column.limits) for column in reference.columns)
    ]
    policy = replace(reference.policy, windows=windows[:number])
    return replace(reference, policy=policy, columns=tuple(columns))


def take_snapshot(
    version: str, rows: Floats, scores: Floats, reference: Reference
) -> DriftSnapshot:
    """Compare patients (oldest first) with a reference."""
    counts = count_views(rows, scores, reference)
    report = evaluate(counts, len(rows), reference)
    now, before = {}, {}
    sizes = [(int(w), int(e)) for w, e in zip(*_sizes(counts, reference), strict=True)]
    ends = np.cumsum([column.buckets for column in reference.columns])
    for column, end in zip(reference.columns, ends, strict=True):
        if finding := report.features.get(column.name):
            view = sizes.index((finding.window_rows, finding.earlier_rows))
            own = slice(end - column.buckets, end)
            now[column.name] = counts.window[view, own]
            training = np.array([*column.counts, column.missing])
            before[column.name] = counts.earlier[view, own] + training
    return DriftSnapshot(version, reference, report, now, before)


def _sizes(counts: ViewCounts, reference: Reference) -> tuple[Counts, Counts]:
    """The numbers of patients in each view: of its window, and of the earlier ones."""
    first = slice(0, reference.columns[0].buckets)
    return counts.window[:, first].sum(axis=1), counts.earlier[:, first].sum(axis=1)
