"""The tab about drift, as HTML."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heart.drift.baseline import COLUMNS
from heart.drift.detector import buckets
from heart.drift.snapshot import DriftSnapshot, take_snapshot
from heart.drift.trend import TrendPoint
from heart.locale.language import label, translate
from heart.predictions.log import LogUnavailable
from heart.schema import MEASUREMENTS, NAMES
from heart.web.drift import (
    bucket_labels,
    by_ratio,
    comparison,
    comparison_html,
    drift_html,
    largest_change,
)
from monitoring.monitor import DriftMonitor
from serve.encoding import rows_of
from serve.service import Service
from serve.ui.callbacks import Callbacks
from tests.heart.drift.snapshots import (
    champion_of,
    log_patients,
    measured,
    reference,
    settings,
    watched_model,
)
from tests.serve.ui.page_fixture import a_service

START = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def snapshot(count: int = 100, **changes: Any) -> DriftSnapshot:
    rows = rows_of(measured(count, **changes))
    return take_snapshot("7", rows, watched_model().predict(rows), reference())


def ratios(html: str) -> list[float]:
    return [float(ratio) for ratio in re.findall(r'"points">(\d+\.\d+)', html)]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def parts(sentence: str) -> tuple[str, list[int]]:
    """A change in words: what has changed, and the numbers of the sentence.

    The last numbers are those of the patients before: in training, and perhaps earlier ones.
    """
    what, _, rest = sentence.partition(": ")
    return what, [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", rest)]


# The verdict


def test_drift_tab_without_a_check_shows_no_result() -> None:
    assert translate("drift.unknown", "en") in drift_html(None, "en")
    assert comparison_html(None, "age", "en") == ""


def test_too_few_patients_are_counted_and_not_shown() -> None:
    small = snapshot(12, thallium=None)

    html = drift_html(small, "en")

    assert translate("drift.too_few", "en", rows=12, version="7", minimum=20) in html
    assert comparison_html(small, "thallium", "en") == ""
    assert "<ul" not in html


def test_no_drift_shows_every_feature() -> None:
    html = drift_html(snapshot(), "en")

    assert translate("drift.none", "en", rows=100, version="7") in html
    assert translate("drift.how", "en", share="1%", stream="1,000") in html
    assert ratios(html) == sorted(ratios(html), reverse=True)
    assert len(ratios(html)) == len(COLUMNS)
    assert 'class="flag"' not in html


def test_drifted_features_are_marked_the_largest_ratio_first() -> None:
    html = drift_html(snapshot(thallium=None, major_vessels=None), "en")
    first = html.split("<li>")[1]

    assert ratios(html) == sorted(ratios(html), reverse=True)
    assert html.count('class="flag"') == html.count('class="over"') >= 2
    assert re.search(r"Drift in the last 100 patients of version 7: .*Thallium scan", html)
    assert parts(re.findall(r'"detail">([^<]*)<', first)[0])[0] == "Not measured"
    assert "width:100.0%" in first


@pytest.mark.parametrize("language", ["en", "id"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_feature_can_be_compared_in_both_languages(name: str, language: str) -> None:
    html = comparison_html(snapshot(), name, language)
    shares = re.findall(r">(?:&lt;)?(\d+)% → (?:&lt;)?(\d+)%<", html)

    for side in zip(*shares, strict=True):
        assert sum(map(int, side)) == pytest.approx(100, abs=len(shares) / 2 + 1)
    assert f'lang="{language}"' in html


# What is compared


def test_the_window_of_the_finding_is_compared_not_all_that_was_seen() -> None:
    rows = rows_of([*measured(200), *measured(20, seed=1, thallium=None)])
    check = take_snapshot("7", rows, watched_model().predict(rows), reference())

    thallium = comparison(check, "thallium")

    assert thallium.now.sum() == 20
    assert thallium.now[-1] == 20
    assert parts(largest_change(thallium, "en")) == ("Not measured", [100, 20, 1, 303, 200])
    assert parts(largest_change(thallium, "id")) == ("Tidak diukur", [100, 20, 1, 303, 200])


def test_description_names_the_largest_change() -> None:
    older = largest_change(comparison(snapshot(age=15), "age"), "en")
    women = largest_change(comparison(snapshot(sex="female"), "sex"), "en")

    assert re.fullmatch(r"Over \d+ years", parts(older)[0])
    assert parts(women)[0] == "Female"
    assert (parts(women)[1][0], parts(women)[1][2]) == (100, 32)


@pytest.mark.parametrize("name", ["major_vessels", "thallium", "cholesterol"])
def test_feature_that_is_no_longer_measured_is_described_by_its_missing_share(name: str) -> None:
    words = largest_change(comparison(snapshot(40, **{name: None}), name), "en")

    what, (now, rows, before, *_) = parts(words)
    assert (what, now, rows) == ("Not measured", 100, 40)
    assert before < 10


def test_description_of_values_below_the_training_range() -> None:
    words = largest_change(comparison(snapshot(40, max_heart_rate=-200), "max_heart_rate"), "en")

    what, numbers = parts(words)
    assert re.fullmatch(r"Under \d+ beats/min", what)
    assert numbers[:3] == [100, 40, 0]


def test_description_names_the_number_of_patients_with_a_value() -> None:
    patients = measured(100)
    for patient in patients[::2]:
        patient["thallium"] = None
    for patient in patients[1::2]:
        patient["thallium"] = "fixed_defect"
    rows = rows_of(patients)
    check = take_snapshot("7", rows, watched_model().predict(rows), reference())

    words = largest_change(comparison(check, "thallium"), "en")

    what, (now, known, window, before, *_) = parts(words)
    assert (what, now, before) == ("Fixed defect", 100, 6)
    assert known < window


@pytest.mark.parametrize("column", reference().columns, ids=COLUMNS)
def test_histogram_bins_are_labelled(column: object) -> None:
    column = next(c for c in reference().columns if c == column)
    labels = bucket_labels(column, "en")

    assert len(labels) == column.buckets == len(set(labels))
    if column.measurement is None or column.choices:
        return
    step = column.measurement.step
    for value in np.arange(column.measurement.low, column.measurement.high, step).round(6):
        bucket = int(buckets(np.array([value], dtype=np.float32), column)[0])
        numbers = [float(n) for n in re.findall(r"\d+\.?\d*", labels[bucket])]
        low = numbers[0] if bucket else -np.inf
        high = numbers[-1] if bucket < len(column.edges) else np.inf
        over, under = labels[bucket].startswith("Over"), labels[bucket].startswith("Under")
        assert low - step / 2 < value + over * -step, (value, labels[bucket])
        assert value + under * step < high + step / 2, (value, labels[bucket])


def test_the_names_of_all_features_are_for_people() -> None:
    html = text_of(drift_html(snapshot(), "id"))

    for measurement in MEASUREMENTS:
        assert label(measurement, "id") in html
    assert "Risiko menurut model" in html
    assert not [name for name in NAMES if "_" in name and name in html]


# What the page asks


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with a_service(tmp_path) as made:
        log_patients(made.log, 60, thallium=None)
        made.monitor = DriftMonitor(champion_of(watched_model()), made.log, settings())
        yield made


def test_the_largest_ratio_is_compared_if_no_feature_is_chosen(service: Service) -> None:
    handlers = Callbacks(service)
    assert service.monitor is not None
    assert translate("drift.unknown", "en") in handlers.drift("en", "age")[0]
    service.monitor.refresh()

    (verdict, age), (_, worst) = handlers.drift("en", "age"), handlers.drift("en", "")

    assert "Drift in the last 60 patients" in verdict
    assert "<h2>Age</h2>" in age
    assert "<h2>Thallium scan</h2>" in worst
    assert service.monitor.snapshot is not None
    assert by_ratio(service.monitor.snapshot)[0] == "thallium"
    for nonsense in (None, "<script>", ["age"], {"a": 1}):
        assert handlers.drift("en", nonsense)[1] == worst


def test_the_tab_shows_when_drift_began_and_what_to_do(service: Service) -> None:
    log_patients(service.log, 40, thallium=None)
    assert service.monitor is not None
    service.monitor.refresh()
    points = service.monitor.trend()

    html, _ = Callbacks(service).drift("en", "")

    assert len(points) > 1
    assert html.count('class="over" d=') == sum(point.drifted for point in points)
    assert 'class="since"' in html
    for key in ("drift.next_cause", "drift.next_outcomes", "drift.next_retrain"):
        assert translate(key, "en") in unescape(html)
    assert service.monitor.trend() is points  # the log is read once for each check


def test_without_drift_there_is_nothing_to_do() -> None:
    html = drift_html(snapshot(), "en", [TrendPoint(START, 0.5), TrendPoint(START, 0.7)])

    assert 'class="trend"' in html
    assert 'class="since"' not in html
    assert 'class="step"' not in html


@pytest.mark.parametrize(("ratios", "key"), [((0.5, 2), "since"), ((2, 3), "since_before")])
def test_a_drift_that_is_older_than_all_checks_is_said_to_be(
    ratios: tuple[float, ...], key: str
) -> None:
    points = [TrendPoint(START + timedelta(hours=n), ratio) for n, ratio in enumerate(ratios)]
    html = drift_html(snapshot(thallium=None), "en", points)

    time = "2026-01-01 01:00 UTC" if key == "since" else "2026-01-01 00:00 UTC"
    assert translate(f"drift.{key}", "en", time=time) in html


def test_a_log_that_cannot_be_read_leaves_the_trend_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any) -> Any:
        raise LogUnavailable("the disk is full", 1)

    assert service.monitor is not None
    service.monitor.refresh()
    monkeypatch.setattr(service.log, "last", unavailable)

    assert service.monitor.trend() == []
    assert 'class="trend"' not in Callbacks(service).drift("en", "")[0]
