"""The tab about drift, as HTML."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heart.drift.baseline import COLUMNS
from heart.drift.detector import buckets
from heart.drift.snapshot import DriftSnapshot, take_snapshot
from heart.schema import MEASUREMENTS, NAMES
from heart.web.drift import bucket_labels, by_ratio, change, compared, compared_html, drift_html
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


@cache
def snapshot(count: int = 100, **changes: Any) -> DriftSnapshot:
    rows = rows_of(measured(count, **changes))
    return take_snapshot("7", rows, watched_model().predict(rows), reference())


def ratios(html: str) -> list[float]:
    return [float(found) for found in re.findall(r">(\d+\.\d+) × limit<", html)]  # noqa: RUF001


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# The verdict


def test_without_a_look_it_says_that_nothing_is_known() -> None:
    assert "Nothing is known of drift" in drift_html(None, "en")
    assert compared_html(None, "age", "en") == ""


def test_too_few_patients_are_counted_and_not_shown() -> None:
    few = snapshot(12, thallium=None)

    html = drift_html(few, "en")

    assert "12 patients of version 7 so far; a verdict needs 20." in html
    assert compared_html(few, "thallium", "en") == ""
    assert "<ul" not in html


def test_no_drift_is_said_and_every_feature_is_there() -> None:
    html = drift_html(snapshot(), "en")

    assert "No drift in the last 100 patients of version 7." in html
    assert "at most 1% of streams of 1,000 patients" in html
    assert ratios(html) == sorted(ratios(html), reverse=True)
    assert len(ratios(html)) == len(COLUMNS)
    assert 'class="flag"' not in html


def test_drift_is_marked_and_told_with_the_largest_first() -> None:
    html = drift_html(snapshot(thallium=None, major_vessels=None), "en")
    first = html.split("<li>")[1]

    assert ratios(html) == sorted(ratios(html), reverse=True)
    assert html.count('class="flag"') == html.count('class="over"') >= 2
    assert re.search(r"Drift in the last 100 patients of version 7: .*Thallium scan", html)
    assert "Not measured in 100% of the last" in first
    assert "width:100.0%" in first


@pytest.mark.parametrize("language", ["en", "id"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_feature_can_be_compared_in_both_languages(name: str, language: str) -> None:
    html = compared_html(snapshot(), name, language)  # type: ignore[arg-type]
    shares = re.findall(r">(?:&lt;)?(\d+)% → (?:&lt;)?(\d+)%<", html)

    for side in zip(*shares, strict=True):
        assert sum(map(int, side)) == pytest.approx(100, abs=len(shares) / 2 + 1)
    assert f'lang="{language}"' in html


# What is compared


def test_the_window_of_the_finding_is_compared_not_all_that_was_seen() -> None:
    rows = rows_of([*measured(200), *measured(20, seed=1, thallium=None)])
    seen = take_snapshot("7", rows, watched_model().predict(rows), reference())

    found = compared(seen, "thallium")

    assert found.now.sum() == 20
    assert found.now[-1] == 20
    assert change(found, "en") == "Not measured in 100% of the last 20 patients, 1% in training"
    assert change(found, "id").startswith("Tidak diukur pada 100% dari 20 pasien terakhir")


def test_words_name_the_largest_change() -> None:
    older = change(compared(snapshot(age=15), "age"), "en")
    women = change(compared(snapshot(sex="female"), "sex"), "en")

    assert re.fullmatch(r"Over \d+ years in \d+% of the last \d+ patients, \d+% in training", older)
    assert re.fullmatch(r"Female in 100% of the last \d+ patients, 32% in training", women)


@pytest.mark.parametrize("name", ["major_vessels", "thallium", "cholesterol"])
def test_what_is_measured_in_nobody_any_more_has_no_other_words(name: str) -> None:
    words = change(compared(snapshot(40, **{name: None}), name), "en")

    assert re.fullmatch(r"Not measured in 100% of the last 40 patients, (<?\d)% in training", words)


def test_words_say_that_values_are_below_all_of_the_training() -> None:
    words = change(compared(snapshot(40, max_heart_rate=-200), "max_heart_rate"), "en")

    assert re.fullmatch(
        r"Under \d+ beats/min in 100% of the last 40 patients, 0% in training", words
    )


def test_words_say_among_whom_it_is_known() -> None:
    patients = measured(100)
    for patient in patients[::2]:
        patient["thallium"] = None
    for patient in patients[1::2]:
        patient["thallium"] = "fixed_defect"
    rows = rows_of(patients)
    seen = take_snapshot("7", rows, watched_model().predict(rows), reference())

    words = change(compared(seen, "thallium"), "en")

    assert re.fullmatch(
        r"Fixed defect in 100% of the \d+ in whom it is known among the last \d+ patients, 6% in "
        "training",
        words,
    )


@pytest.mark.parametrize("column", reference().columns, ids=COLUMNS)
def test_each_bucket_is_labelled_with_what_it_holds(column: object) -> None:
    column = next(c for c in reference().columns if c == column)
    labels = bucket_labels(column, "en")

    assert len(labels) == column.buckets == len(set(labels))
    if column.measurement is None or column.choices:
        return
    step = column.measurement.step
    for value in np.arange(column.measurement.low, column.measurement.high, step):
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
        assert measurement.label.id in html
    assert "Risiko menurut model" in html
    assert not [name for name in NAMES if "_" in name and name in html]


# What the page asks


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with a_service(tmp_path) as made:
        log_patients(made.log, 60, thallium=None)
        made.monitor = DriftMonitor(champion_of(watched_model()), made.log, settings())
        yield made


def test_a_feature_is_compared_and_the_most_drifted_if_none_is_asked_for(service: Service) -> None:
    handlers = Callbacks(service)
    assert service.monitor is not None
    assert "Nothing is known" in handlers.drift("en", "age")[0]
    service.monitor.refresh()

    (verdict, age), (_, worst) = handlers.drift("en", "age"), handlers.drift("en", "")

    assert "Drift in the last 60 patients" in verdict
    assert "<h2>Age</h2>" in age
    assert "<h2>Thallium scan</h2>" in worst
    assert service.monitor.snapshot is not None
    assert by_ratio(service.monitor.snapshot)[0] == "thallium"
    for nonsense in (None, "<script>", ["age"], {"a": 1}):
        assert handlers.drift("en", nonsense)[1] == worst
