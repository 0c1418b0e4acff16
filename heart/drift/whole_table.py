"""The drift of a whole table, as if its rows were the longest window of the stream."""

from dataclasses import replace

import numpy as np

from heart.drift.baseline import Reference
from heart.drift.detector import Counts, Finding, Report, ViewCounts, buckets, evaluate
from heart.schema import Floats


def count_measurements(rows: Floats, reference: Reference) -> Counts:
    """The number of encoded rows [n, 13] in each bucket; those of the score are empty."""
    counts = []
    for number, column in enumerate(reference.columns):
        if column.measurement is None:
            counts.append(np.zeros(column.buckets, dtype=np.int64))
        else:
            own = buckets(rows[:, number], column)
            counts.append(np.bincount(own, minlength=column.buckets))
    return np.concatenate(counts)


def evaluate_table(counts: Counts, reference: Reference) -> Report:
    """The report on all rows of a table, as if they were the longest window."""
    windows = reference.policy.windows
    by_column = _by_column(counts, reference)
    rows = int(by_column[0].sum())
    views = [] if rows < windows[0] else [len(windows) - (rows >= windows[-1])]
    window = counts[None][: len(views)]
    report = evaluate(ViewCounts(views, window, np.zeros_like(window)), rows, reference)
    if not views:
        return report
    counted = [
        column.name for column, own in zip(reference.columns, by_column, strict=True) if own.any()
    ]
    features = {name: _of_all(report.features[name]) for name in counted}
    drifted = [name for name, finding in features.items() if finding.drifted]
    verdict = f"drift of {', '.join(drifted)}" if drifted else "no drift"
    return replace(report, window_rows=rows, features=features, summary=f"{verdict} in {rows} rows")


def _of_all(finding: Finding) -> Finding:
    """The same finding in words for a table, which has no last patients."""
    return replace(finding, summary=finding.summary.replace("the last ", ""))


def _by_column(counts: Counts, reference: Reference) -> list[Counts]:
    ends = np.cumsum([column.buckets for column in reference.columns])
    return np.split(counts, ends[:-1])
