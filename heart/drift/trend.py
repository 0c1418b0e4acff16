"""How the drift check came out before: at several times in the past of a version's patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from heart.drift.baseline import Reference
from heart.drift.detector import count_views, evaluate
from heart.schema import Floats

POINTS = 24  # checks of a trend; more would not be visible
SPAN = 800  # patients over which the newest check moves back


@dataclass(frozen=True)
class TrendPoint:
    """A past check: the time of its last patient, and its largest ratio; above 1 is drift."""

    time: datetime
    ratio: float

    @property
    def drifted(self) -> bool:
        """Whether the check reported drift."""
        return self.ratio > 1


def patients_needed(reference: Reference) -> int:
    """The number of last patients from which `trend` is computed."""
    return reference.policy.patients + SPAN // reference.policy.step * reference.policy.step


def trend(
    rows: Floats, scores: Floats, times: Sequence[datetime], reference: Reference
) -> list[TrendPoint]:
    """The checks at the ends of equal parts of the patients (oldest first), the newest last.

    With `patients_needed` of them, earlier ones may have been left out, so that every check has all its
    patients; with fewer, they are all patients of the version.
    """
    windows, step = reference.policy.windows, reference.policy.step
    first = reference.policy.patients if len(rows) >= patients_needed(reference) else windows[0]
    if len(rows) < first:
        return []
    stride = step * max(1, -(-(len(rows) - first) // (step * POINTS)))
    ends = range(len(rows), first - 1, -stride)
    return [_point(rows, scores, times, end, reference) for end in reversed(ends)]


def _point(
    rows: Floats, scores: Floats, times: Sequence[datetime], end: int, reference: Reference
) -> TrendPoint:
    part = slice(max(0, end - reference.policy.patients), end)
    counts = count_views(rows[part], scores[part], reference)
    features = evaluate(counts, end, reference).features
    return TrendPoint(times[end - 1], max(finding.ratio for finding in features.values()))


def start_of_drift(points: Sequence[TrendPoint]) -> int | None:
    """The first check of those that have reported drift without interruption until now; None for none."""
    number = len(points)
    while number and points[number - 1].drifted:
        number -= 1
    return None if number == len(points) else number
