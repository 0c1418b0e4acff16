"""One drift check: the counts of a version's last patients, and the report on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from heart.drift.baseline import Limits, Reference
from heart.drift.detector import Counts, Report, count_views, evaluate
from heart.schema import Floats


@dataclass(frozen=True)
class DriftSnapshot:
    """One check of a version's last patients.

    `counts` maps each window, as a number of last patients, to the patients in each bucket of the
    reference, all columns one after the other; `windows` maps each finding to its window. Both are empty
    below the minimum.
    """

    version: str
    reference: Reference
    report: Report
    counts: Mapping[int, Counts]
    windows: Mapping[str, int]


def narrowed(reference: Reference, patients: int | None) -> Reference:
    """The reference without windows of more than `patients`; the shortest window is kept."""
    windows = reference.policy.windows
    number = len([n for n in windows if patients is None or n <= patients]) or 1
    if number == len(windows):
        return reference

    def cut(limits: tuple[float, ...]) -> tuple[float, ...]:
        return (*limits[:number], limits[-1])

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
    views, counts = count_views(rows, scores, reference)
    overall = evaluate(views, counts, len(rows), reference)
    sizes = [(*reference.policy.windows, len(rows))[view] for view in views]
    # A finding is of the window with the largest ratio, found by evaluating each window by itself.
    by_window = [
        evaluate([v], c[None], len(rows), reference) for v, c in zip(views, counts, strict=True)
    ]

    def window(name: str) -> int:
        return sizes[int(np.argmax([report.features[name].ratio for report in by_window]))]

    windows = {name: window(name) for name in overall.features}
    return DriftSnapshot(
        version, reference, overall, dict(zip(sizes, counts, strict=True)), windows
    )
