"""The checks before the newest, and when a drift began."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from heart.drift.detector import check
from heart.drift.trend import POINTS, TrendPoint, patients_needed, start_of_drift, trend
from serve.encoding import rows_of
from tests.heart.drift.snapshots import measured, reference, watched_model

START = datetime(2026, 1, 1, tzinfo=UTC)


def trend_of(patients: list[dict[str, Any]]) -> list[TrendPoint]:
    rows = rows_of(patients)
    times = [START + timedelta(minutes=number) for number in range(len(rows))]
    return trend(rows, watched_model().predict(rows), times, reference())


def minutes(point: TrendPoint) -> int:
    return int((point.time - START) / timedelta(minutes=1))


def test_the_newest_check_of_a_trend_is_that_of_the_monitor() -> None:
    patients = measured(130, thallium=None)
    rows = rows_of(patients)
    report = check(rows, watched_model().predict(rows), reference())

    newest = trend_of(patients)[-1]

    assert newest.ratio == max(finding.ratio for finding in report.features.values())
    assert minutes(newest) == 129


def test_a_change_appears_in_the_checks_after_it() -> None:
    points = trend_of([*measured(200), *measured(60, seed=1, thallium=None)])
    start = start_of_drift(points)

    assert start is not None
    assert 200 <= minutes(points[start]) < 240
    assert not any(point.drifted for point in points[:start])
    assert all(point.drifted for point in points[start:])


@pytest.mark.parametrize("count", [0, 19])
def test_too_few_patients_have_no_trend(count: int) -> None:
    assert trend_of(measured(count)) == []


@pytest.mark.parametrize("count", [20, 30, 500, 900])
def test_the_checks_are_at_most_so_many_and_equally_far_apart(count: int) -> None:
    points = trend_of(measured(count))
    gaps = np.diff([minutes(point) for point in points])

    assert 1 <= len(points) <= POINTS + 1
    assert set(gaps % reference().policy.step) <= {0}
    assert len(set(gaps)) <= 1


def test_every_check_has_its_longest_window_if_patients_were_left_out() -> None:
    longest = reference().policy.windows[-1]
    points = trend_of(measured(patients_needed(reference())))

    assert minutes(points[0]) >= longest - 1
    assert minutes(trend_of(measured(200))[0]) < longest - 1


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([], None), ([0.5], None), ([2.0], 0), ([2.0, 0.5], None), ([2, 0.5, 2, 3], 2), ([1.0], None)],
)
def test_drift_begins_with_the_last_run_of_checks(
    ratios: list[float], expected: int | None
) -> None:
    assert start_of_drift([TrendPoint(START, ratio) for ratio in ratios]) == expected
