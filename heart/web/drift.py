"""The tab about drift, as HTML: how far the last patients are from those that the model learnt from."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from heart.drift.baseline import COLUMNS, Column
from heart.drift.snapshot import DriftSnapshot
from heart.locale.language import Language, category_labels, label, number, translate, unit
from heart.schema import MEASUREMENTS
from heart.web.templates import environment, render

_TEMPLATES = environment()

# What of a feature, its share now and in training, whether among those in whom it is known.
Share = tuple[str, float, float, bool]


@dataclass(frozen=True)
class Compared:
    """One measurement, or the score, in training and in the window of its finding.

    `before` and `now` are patients by bucket; the last bucket is of those in whom it is missing.
    """

    column: Column
    before: Any
    now: Any


@dataclass(frozen=True)
class Ratio:
    """A feature's bar: its ratio, and if it has drifted what has changed most."""

    label: str
    value: float
    text: str
    change: str


@dataclass(frozen=True)
class Bucket:
    """A pair of bars: the share of patients in a bucket in training and now."""

    label: str
    before: float
    now: float
    text: str


def compared(snapshot: DriftSnapshot, name: str) -> Compared:
    """What was counted of a feature; the look must have a verdict."""
    columns = snapshot.reference.columns
    place = [column.name for column in columns].index(name)
    starts = list(accumulate((column.buckets for column in columns), initial=0))
    return Compared(
        columns[place],
        np.array([*columns[place].counts, columns[place].missing]),
        snapshot.counts[snapshot.windows[name]][starts[place] : starts[place + 1]],
    )


def label_of(name: str, language: Language) -> str:
    """The name of a measurement, or of the model's score, for people."""
    measurement = next((m for m in MEASUREMENTS if m.name == name), None)
    return label(measurement, language) if measurement else translate("drift.score", language)


def by_ratio(snapshot: DriftSnapshot) -> list[str]:
    """The features, the one with the largest ratio first."""
    features = snapshot.report.features
    return sorted(features, key=lambda name: (-features[name].ratio, COLUMNS.index(name)))


def drift_html(snapshot: DriftSnapshot | None, language: Language) -> Markup:
    """The verdict, and each feature with its ratio."""
    if snapshot is None:
        return render(_TEMPLATES, "drift.html", language, text="")
    policy = snapshot.reference.policy
    share, stream = f"{policy.false_alarms:.0%}", number(policy.stream, language, ",d")
    text, kind = _verdict(snapshot, language)
    ratios = [_ratio(snapshot, name, language) for name in by_ratio(snapshot)]
    return render(
        _TEMPLATES,
        "drift.html",
        language,
        text=text,
        kind=kind,
        how=translate("drift.how", language, share=share, stream=stream),
        ratios=ratios,
        scale=max([1.5, *(ratio.value for ratio in ratios)]),
    )


def _verdict(snapshot: DriftSnapshot, language: Language) -> tuple[str, str]:
    """The result of the check as a sentence, and the kind of its message."""
    report = snapshot.report
    values = {"rows": report.window_rows, "version": snapshot.version}
    if report.drifted is None:
        return translate("drift.too_few", language, minimum=report.minimum_rows, **values), "info"
    names = [label_of(n, language) for n in by_ratio(snapshot) if report.features[n].drifted]
    if not names:
        return translate("drift.none", language, **values), "good"
    text = translate("drift.drifted", language, names=", ".join(names), **values)
    return f"{text} {translate('drift.drifted_how', language)}", "warn"


def _ratio(snapshot: DriftSnapshot, name: str, language: Language) -> Ratio:
    finding = snapshot.report.features[name]
    return Ratio(
        label_of(name, language),
        finding.ratio,
        number(finding.ratio, language, ".2f"),
        change(compared(snapshot, name), language) if finding.drifted else "",
    )


def change(found: Compared, language: Language) -> str:
    """What of a feature has changed most, in words: the largest difference of two shares."""
    rows, known = int(found.now.sum()), int(found.now[:-1].sum())
    shares = [_missing(found, language), *_values(found, language)]
    what, now, before, among = max(shares, key=lambda share: abs(share[1] - share[2]))
    key = "drift.change_known" if among and known < rows else "drift.change"
    told = {"rows": rows, "known": known, "now": _percent(now), "before": _percent(before)}
    return translate(key, language, what=what, **told)


def _percent(share: float) -> str:
    """Of counted patients: some are not rounded to none."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _missing(found: Compared, language: Language) -> Share:
    now, before = (float(counts[-1] / counts.sum()) for counts in (found.now, found.before))
    return translate("drift.missing", language), now, before, False


def _values(found: Compared, language: Language) -> list[Share]:
    """The share of each category, or under or above each edge of a number; none if nobody's is known."""
    if not found.now[:-1].any():
        return []
    now, before = (counts[:-1] / max(counts[:-1].sum(), 1) for counts in (found.now, found.before))
    labels = bucket_labels(found.column, language)[:-1]
    if not found.column.choices:
        over = [
            (translate("drift.over", language, edge=_edge(found.column, edge, language)), i)
            for i, edge in enumerate(found.column.edges[1:], start=2)
        ]
        return [
            (labels[0], float(now[0]), float(before[0]), True),
            *((label, float(now[i:].sum()), float(before[i:].sum()), True) for label, i in over),
        ]
    return [
        (label, float(a), float(b), True) for label, a, b in zip(labels, now, before, strict=True)
    ]


def bucket_labels(column: Column, language: Language) -> list[str]:
    """What the buckets of a column hold, the one of missing values last."""
    if column.measurement and column.choices:
        inner = [*category_labels(column.measurement, language).values()]
        inner.append(translate("drift.other", language))
    else:
        inner = _ranges(column, language)
    return [*inner, translate("drift.missing", language)]


def _ranges(column: Column, language: Language) -> list[str]:
    edges, step = column.edges, column.measurement.step if column.measurement else 0.0
    if not edges:
        return [translate("drift.other", language)]
    between = []
    for low, high in pairwise(edges):
        first = low + step
        ends = [first, high] if high - first > step / 2 else [high]
        between.append("–".join(_number(column, end, language) for end in ends))  # noqa: RUF001
    under = translate("drift.under", language, edge=_edge(column, edges[0] + step, language))
    return [
        under,
        *between,
        translate("drift.over", language, edge=_edge(column, edges[-1], language)),
    ]


def _number(column: Column, value: float, language: Language) -> str:
    return number(value, language, ".4g") if column.measurement else f"{value:.0%}"


def _edge(column: Column, value: float, language: Language) -> str:
    shown = _number(column, value, language)
    return f"{shown} {unit(column.measurement, language)}".strip() if column.measurement else shown


def compared_html(snapshot: DriftSnapshot | None, name: str, language: Language) -> Markup:
    """A feature's values in training and in the last patients, side by side; of too few, nothing."""
    if snapshot is None or not snapshot.report.features:
        return Markup()
    feature = compared(snapshot, name)
    before, now = (counts / counts.sum() for counts in (feature.before, feature.now))
    labels = bucket_labels(feature.column, language)
    return render(
        _TEMPLATES,
        "compared.html",
        language,
        title=label_of(name, language),
        change=change(feature, language),
        before=feature.before.sum(),
        now=feature.now.sum(),
        longest=float(max(before.max(), now.max())),
        buckets=[
            Bucket(label, b, n, f"{_percent(b)} → {_percent(n)}")
            for label, b, n in zip(labels, before, now, strict=True)
            if b or n
        ],
    )
