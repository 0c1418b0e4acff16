"""The drift tab and the drift report, as HTML: the last patients compared with those before them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from heart.drift.baseline import COLUMNS, Column
from heart.drift.snapshot import DriftSnapshot
from heart.drift.trend import TrendPoint, start_of_drift
from heart.locale.language import Language, category_labels, label, number, translate, unit
from heart.schema import BY_NAME
from heart.web.templates import environment, render

_TEMPLATES = environment()


@dataclass(frozen=True)
class Comparison:
    """One measurement, or the score, in the comparison with its largest ratio.

    `before` and `now` are counts of patients by bucket; the last bucket is "not measured". `earlier` of the
    patients before are not training patients, but earlier ones of the stream.
    """

    column: Column
    before: Any
    now: Any
    earlier: int = 0

    def reference(self, language: Language) -> str:
        """With whom the last patients are compared."""
        rows = number(int(self.before.sum()) - self.earlier, language, ",d")
        if not self.earlier:
            return translate("drift.training", language, rows=rows)
        earlier = number(self.earlier, language, ",d")
        return translate("drift.training_and_earlier", language, rows=rows, earlier=earlier)


@dataclass(frozen=True)
class Share:
    """The share of patients with some property now and in training.

    `of_known` says that it is a share of the patients in whom the feature is known.
    """

    label: str
    now: float
    before: float
    of_known: bool = True

    @property
    def difference(self) -> float:
        """How much the share has changed, without the sign."""
        return abs(self.now - self.before)


@dataclass(frozen=True)
class Ratio:
    """A feature's bar: its ratio, and the largest change if it has drifted."""

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


@dataclass(frozen=True)
class Mark:
    """A check in the drawing of a trend."""

    x: float
    y: float
    drifted: bool


@dataclass(frozen=True)
class Line:
    """The drawing of a trend: its checks, the height of the threshold, and the times of both ends."""

    marks: list[Mark]
    threshold: float
    first: str
    last: str


def comparison(snapshot: DriftSnapshot, name: str) -> Comparison:
    """The counts of a feature; the check must have a result."""
    [column] = [column for column in snapshot.reference.columns if column.name == name]
    earlier = snapshot.report.features[name].earlier_rows
    return Comparison(column, snapshot.before[name], snapshot.now[name], earlier)


def feature_label(name: str, language: Language) -> str:
    """The name of a measurement, or of the model's score, for people."""
    measurement = BY_NAME.get(name)
    return label(measurement, language) if measurement else translate("drift.score", language)


def by_ratio(snapshot: DriftSnapshot) -> list[str]:
    """The features, the one with the largest ratio first."""
    features = snapshot.report.features
    return sorted(features, key=lambda name: (-features[name].ratio, COLUMNS.index(name)))


def drift_html(
    snapshot: DriftSnapshot | None, language: Language, points: Sequence[TrendPoint] = ()
) -> Markup:
    """The verdict with what to do, the checks before it, and each feature with its ratio."""
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
        drifted=bool(snapshot.report.drifted),
        since=_since(points, language),
        trend=_line(points) if len(points) > 1 else None,
        ratios=ratios,
        scale=max([1.5, *(ratio.value for ratio in ratios)]),
    )


def _since(points: Sequence[TrendPoint], language: Language) -> str:
    """When the drift began, as a sentence; empty without drift, or without earlier checks."""
    start = start_of_drift(points)
    if start is None or len(points) < 2:
        return ""
    key = "drift.since" if start else "drift.since_before"
    return translate(key, language, time=_time(points[start]))


def _time(point: TrendPoint) -> str:
    return point.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _line(points: Sequence[TrendPoint]) -> Line:
    """The checks from left to right, as far apart as they are in number."""
    scale = max([1.5, *(point.ratio for point in points)])
    marks = [
        Mark(8 + 384 * number / (len(points) - 1), _height(point.ratio, scale), point.drifted)
        for number, point in enumerate(points)
    ]
    ends = (_time(points[0]), _time(points[-1]))
    return Line(marks, _height(1, scale), *ends)


def _height(ratio: float, scale: float) -> float:
    return 112 - 104 * ratio / scale


def _verdict(snapshot: DriftSnapshot, language: Language) -> tuple[str, str]:
    """The result of the check as a sentence, and the kind of its message."""
    report = snapshot.report
    values = {"rows": report.window_rows, "version": snapshot.version}
    if report.drifted is None:
        return translate("drift.too_few", language, minimum=report.minimum_rows, **values), "info"
    names = [feature_label(n, language) for n in by_ratio(snapshot) if report.features[n].drifted]
    if not names:
        return translate("drift.none", language, **values), "good"
    text = translate("drift.drifted", language, names=", ".join(names), **values)
    return f"{text} {translate('drift.drifted_how', language)}", "warn"


def _ratio(snapshot: DriftSnapshot, name: str, language: Language) -> Ratio:
    finding = snapshot.report.features[name]
    return Ratio(
        feature_label(name, language),
        finding.ratio,
        number(finding.ratio, language, ".2f"),
        largest_change(comparison(snapshot, name), language) if finding.drifted else "",
    )


def largest_change(comparison: Comparison, language: Language) -> str:
    """The property of a feature whose share has changed most, as a sentence."""
    rows, known = int(comparison.now.sum()), int(comparison.now[:-1].sum())
    shares = [_missing(comparison, language), *_values(comparison, language)]
    share = max(shares, key=lambda share: share.difference)
    key = "drift.change_known" if share.of_known and known < rows else "drift.change"
    return translate(
        key,
        language,
        what=share.label,
        rows=rows,
        known=known,
        now=_percent(share.now),
        before=_percent(share.before),
        reference=comparison.reference(language),
    )


def _percent(share: float) -> str:
    """A share of counted patients; a small one is not rounded to 0%."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _missing(comparison: Comparison, language: Language) -> Share:
    sides = (comparison.now, comparison.before)
    now, before = (float(counts[-1] / counts.sum()) for counts in sides)
    return Share(translate("drift.missing", language), now, before, of_known=False)


def _values(comparison: Comparison, language: Language) -> list[Share]:
    """The shares of the categories, or of the numbers below the first and above each other edge.

    Empty if the feature is known in no patient.
    """
    if not comparison.now[:-1].any():
        return []
    sides = (comparison.now[:-1], comparison.before[:-1])
    now, before = (counts / max(counts.sum(), 1) for counts in sides)
    column = comparison.column
    labels = bucket_labels(column, language)[:-1]
    if column.choices:
        values = zip(labels, now, before, strict=True)
        return [Share(label, float(n), float(b)) for label, n, b in values]
    shares = [Share(labels[0], float(now[0]), float(before[0]))]
    for bucket, edge in enumerate(column.edges[1:], start=2):
        label = translate("drift.over", language, edge=_edge(column, edge, language))
        shares.append(Share(label, float(now[bucket:].sum()), float(before[bucket:].sum())))
    return shares


def bucket_labels(column: Column, language: Language) -> list[str]:
    """The labels of a column's buckets, that of missing values last."""
    if column.measurement and column.choices:
        labels = [*category_labels(column.measurement, language).values()]
        labels.append(translate("drift.other", language))
    else:
        labels = _ranges(column, language)
    return [*labels, translate("drift.missing", language)]


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
    text = _number(column, value, language)
    return f"{text} {unit(column.measurement, language)}".strip() if column.measurement else text


def comparison_html(snapshot: DriftSnapshot | None, name: str, language: Language) -> Markup:
    """A feature in the last patients and in those before them, side by side; empty without a result."""
    if snapshot is None or not snapshot.report.features:
        return Markup()
    feature = comparison(snapshot, name)
    before, now = (counts / counts.sum() for counts in (feature.before, feature.now))
    labels = bucket_labels(feature.column, language)
    return render(
        _TEMPLATES,
        "comparison.html",
        language,
        title=feature_label(name, language),
        change=largest_change(feature, language),
        reference=feature.reference(language),
        now=feature.now.sum(),
        longest=float(max(before.max(), now.max())),
        buckets=[
            Bucket(label, b, n, f"{_percent(b)} → {_percent(n)}")
            for label, b, n in zip(labels, before, now, strict=True)
            if b or n
        ],
    )
