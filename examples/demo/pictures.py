"""The pictures of the report as lines, dots and texts; `templates/picture.html` draws them as SVG.

Every picture is 400 units wide, about as many pixels as a phone has, so that its texts stay readable there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 400.0
ROW = 30.0  # height of a row with an interval
LEFT = 30.0  # of the area of a curve; the numbers of the axis are before it


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    style: str


@dataclass(frozen=True)
class Dot:
    """A mark at a point; `old` ones are hollow."""

    x: float
    y: float
    style: str


@dataclass(frozen=True)
class Text:
    """A text at a point; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass
class Picture:
    """A picture with its title, which screen readers read."""

    title: str
    height: float
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def line(self, style: str, *points: tuple[float, float]) -> None:
        """Add a line."""
        self.lines.append(Line(points, style))

    def dot(self, style: str, x: float, y: float) -> None:
        """Add a mark."""
        self.dots.append(Dot(x, y, style))

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Add a text."""
        self.texts.append(Text(x, y, text, anchor))


@dataclass(frozen=True)
class Scale:
    """Where values from `low` to `high` lie between two places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Interval:
    """A row of `intervals`: an interval with the value in it, and another value to compare it with."""

    label: str
    value: float
    low: float
    high: float
    other: float | None = None


def drift(figures: Any) -> Picture:
    """The evidence of drift after each ten patients, over its threshold."""
    curve, normal = figures["curve"], figures["normal"]
    last = curve[-1][0]
    top = max(1.5, *(ratio for _, ratio in curve))
    x, y = Scale(0, last, LEFT, WIDTH - 10), Scale(0, top, 170, 20)
    picture = Picture("Evidence of drift over its threshold, by number of patients", 205)
    for ratio in range(int(top) + 1):
        picture.line("grid", (LEFT, y(ratio)), (WIDTH - 10, y(ratio)))
        picture.text(LEFT - 6, y(ratio) + 4, str(ratio), "end")
    for patients in range(0, last + 1, 100):
        picture.text(x(patients), 186, str(patients), "middle")
    picture.text((LEFT + WIDTH) / 2, 201, "patients", "middle")
    picture.line("cut", (LEFT, y(1)), (WIDTH - 10, y(1)))
    picture.line("border", (x(normal), 20), (x(normal), 170))
    picture.text(x(normal) - 6, 14, "like training", "end")
    picture.text(x(normal) + 6, 14, "other hospital")
    picture.line("course", *((x(patients), y(ratio)) for patients, ratio in curve))
    for patients, ratio in curve:
        picture.dot("alarm" if ratio > 1 else "quiet", x(patients), y(ratio))
    return picture


def estimate(figures: Any, names: Any) -> Picture:
    """Estimated scores with their intervals, beside the true ones."""
    rows = [
        Interval(names[name], score["value"], score["low"], score["high"], score["true"])
        for name, score in figures["scores"].items()
    ]
    return intervals("Scores estimated without outcomes, and the true ones", rows, (0, 1))


def changes(title: str, rows: Iterable[tuple[str, Any]]) -> Picture | None:
    """Differences of scores, version 2 less version 1, with their paired intervals; None without any."""
    known = [
        Interval(label, f["difference"], f["low"], f["high"])
        for label, f in rows
        if f["low"] is not None
    ]
    if not known:
        return None
    ends = [0.0, *(end for row in known for end in (row.low, row.high))]
    margin = 0.1 * (max(ends) - min(ends)) or 0.01
    return intervals(title, known, (min(ends) - margin, max(ends) + margin))


def intervals(title: str, rows: Sequence[Interval], ends: tuple[float, float]) -> Picture:
    """Rows with an interval each, over a common axis whose 0 is marked."""
    left, bottom = 140.0, 10 + ROW * len(rows)
    x = Scale(*ends, left, WIDTH - 10)
    picture = Picture(title, bottom + 22)
    for value in ticks(*ends):
        picture.line("grid" if value else "border", (x(value), 6), (x(value), bottom))
        picture.text(x(value), bottom + 14, f"{value:g}", "middle")
    for number, row in enumerate(rows):
        y = 10 + ROW * (number + 0.5)
        picture.text(0, y + 4, row.label)
        picture.line("span", (x(row.low), y), (x(row.high), y))
        picture.dot("new", x(row.value), y)
        if row.other is not None:
            picture.dot("true", x(row.other), y)
    return picture


def ticks(low: float, high: float) -> list[float]:
    """At most six round numbers from `low` to `high`, 0 among them if it lies there."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def calibration(curves: Any) -> Picture:
    """Predicted and observed risk of both versions, in groups of equally many patients."""
    picture = Picture("Predicted and observed risk, before and after", 330)
    x, y = Scale(0, 1, LEFT + 10, WIDTH - 60), Scale(0, 1, 280, 10)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        picture.line("grid", (x(0), y(share)), (x(1), y(share)))
        picture.line("grid", (x(share), y(0)), (x(share), y(1)))
        picture.text(x(0) - 5, y(share) + 4, f"{share:.0%}", "end")
        picture.text(x(share), 296, f"{share:.0%}", "middle")
    picture.line("ideal", (x(0), y(0)), (x(1), y(1)))
    picture.text((x(0) + x(1)) / 2, 318, "predicted risk (up: share of ill patients)", "middle")
    for version, style in (("1", "old"), ("2", "new")):
        groups = curves[version]
        for group in groups:
            at = x(group["predicted"])
            picture.line(f"{style} error", (at, y(group["low"])), (at, y(group["high"])))
        points = [(x(group["predicted"]), y(group["observed"])) for group in groups]
        picture.line(f"{style} joined", *points)
        for point in points:
            picture.dot(style, *point)
    return picture
