"""One drift check: what was counted of a version's last patients, and the verdict on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from heart.drift.baseline import Limits, Reference
from heart.drift.detector import Counts, Report, count_views, judge
from heart.schema import Floats


@dataclass(frozen=True)
class DriftSnapshot:
    """What was seen of a version's last patients.

    `counts` are the patients in each bucket of the reference, all columns one after the other, by
    the number of last patients that they are of; `windows` is that number for each finding. There
    are none below the minimum.
    """

    version: str
    reference: Reference
    report: Report
    counts: Mapping[int, Counts]
    windows: Mapping[str, int]


def narrowed(reference: Reference, patients: int | None) -> Reference:
    """The reference without windows of more than so many patients; the shortest window stays."""
    windows = reference.policy.windows
    kept = len([n for n in windows if patients is None or n <= patients]) or 1
    if kept == len(windows):
        return reference

    def cut(limits: tuple[float, ...]) -> tuple[float, ...]:
        return (*limits[:kept], limits[-1])

    columns = [
        replace(column, limits=Limits(cut(c.shift), cut(c.share), cut(c.rare)))
        for column, c in ((column, column.limits) for column in reference.columns)
    ]
    policy = replace(reference.policy, windows=windows[:kept])
    return replace(reference, policy=policy, columns=tuple(columns))


def take_snapshot(
    version: str, rows: Floats, scores: Floats, reference: Reference
) -> DriftSnapshot:
    """Compare patients (oldest first) with a reference."""
    views, counts = count_views(rows, scores, reference)
    report = judge(views, counts, len(rows), reference)
    sizes = [(*reference.policy.windows, len(rows))[view] for view in views]
    # A finding is that of the window with the largest ratio: each window by itself says which.
    alone = [judge([v], c[None], len(rows), reference) for v, c in zip(views, counts, strict=True)]

    def window(name: str) -> int:
        return sizes[int(np.argmax([one.features[name].ratio for one in alone]))]

    windows = {name: window(name) for name in report.features}
    return DriftSnapshot(version, reference, report, dict(zip(sizes, counts, strict=True)), windows)
