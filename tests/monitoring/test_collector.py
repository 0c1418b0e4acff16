"""The drift metrics of the real service."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from heart.drift.baseline import COLUMNS
from heart.schema import NAMES
from monitoring.monitor import DriftMonitor
from tests.heart.drift.snapshots import measured, send, watching

Watched = tuple[TestClient, DriftMonitor]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with watching(tmp_path) as both:
        yield both


def samples(client: TestClient, prefix: str = "heart_d") -> list[Sample]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    every = [sample for family in families for sample in family.samples]
    return [sample for sample in every if sample.name.startswith(prefix)]


def value(client: TestClient, name: str, **labels: str) -> float:
    (value,) = [s.value for s in samples(client, name) if s.name == name and s.labels == labels]
    return value


# Drift


def test_before_the_first_check_there_are_no_drift_metrics(watched: Watched) -> None:
    client, _ = watched

    assert [sample.name for sample in samples(client, "heart_drift")] == [
        "heart_drift_failures_total"
    ]


def test_below_the_minimum_there_is_only_the_number_of_patients(watched: Watched) -> None:
    client, monitor = watched
    send(client, measured(15))

    monitor.refresh()

    assert value(client, "heart_drift_window_rows", model_version="1") == 10
    assert value(client, "heart_drift_minimum_rows") == 20
    assert value(client, "heart_drift_last_run_timestamp_seconds") == pytest.approx(
        time.time(), abs=60
    )
    assert samples(client, "heart_drift_ratio") == []


def test_each_feature_has_its_ratio(watched: Watched) -> None:
    client, monitor = watched
    send(client, measured(40))
    monitor.refresh()
    calm = {s.labels["feature"]: s.value for s in samples(client, "heart_drift_ratio")}

    send(client, measured(40, seed=1, thallium=None))
    monitor.refresh()
    ratios = samples(client, "heart_drift_ratio")
    moved = {s.labels["feature"]: s.value for s in ratios}

    assert set(calm) == set(moved) == set(COLUMNS)
    assert max(calm.values()) < 1 < moved["thallium"]
    assert {s.labels["model_version"] for s in ratios} == {"1"}
    assert moved["thallium"] == monitor.snapshot.report.features["thallium"].ratio  # type: ignore[union-attr]


def test_the_estimated_performance_has_an_interval(watched: Watched) -> None:
    client, monitor = watched
    send(client, measured(15))
    monitor.refresh()
    assert samples(client, "heart_estimated") == []
    assert client.get("/model").json()["estimated"] is None

    send(client, measured(25))
    monitor.refresh()

    estimated = client.get("/model").json()["estimated"]
    assert estimated["patients"] == 40
    for name in ("accuracy", "brier", "roc_auc"):
        bounds = {
            bound: value(client, f"heart_estimated_{name}_ratio", model_version="1", bound=bound)
            for bound in ("low", "value", "high")
        }
        assert bounds == estimated[name]
        assert 0 <= bounds["low"] <= bounds["value"] <= bounds["high"] <= 1


def test_failed_checks_are_counted_and_the_time_of_the_last_one_stays(
    watched: Watched, tmp_path: Path
) -> None:
    client, monitor = watched
    send(client, measured(20))
    monitor.refresh()
    before = value(client, "heart_drift_last_run_timestamp_seconds")
    (tmp_path / "log.db").rename(tmp_path / "away.db")

    monitor.refresh()

    assert value(client, "heart_drift_failures_total") == 1
    assert value(client, "heart_drift_last_run_timestamp_seconds") == before
    (tmp_path / "away.db").rename(tmp_path / "log.db")


# Privacy

# Numbers and a word that occur nowhere else in the metrics of a small log.
NUMBERS = {"age": (105, 110), "resting_bp": (246, 260), "cholesterol": (640, 700), "max_heart_rate": (222, 230)}  # fmt: skip
CANARY = "canary"

patients_with_canaries = st.fixed_dictionaries(
    {
        "sex": st.sampled_from(["female", "male"]),
        "st_depression": st.integers(70_001, 99_999).map(lambda n: n / 10_000),
        **{name: st.integers(*bounds) for name, bounds in NUMBERS.items()},
    }
)
count_rejected_values = st.one_of(
    st.integers(10**6, 10**9), st.text("xyz", min_size=3).map(lambda text: CANARY + text)
)


@given(
    st.lists(patients_with_canaries, min_size=5, max_size=40),
    st.sampled_from(NAMES),
    count_rejected_values,
)
@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
def test_no_metric_has_a_value_of_a_patient(
    patients: list[dict[str, Any]], wrong: str, canary: object
) -> None:
    with TemporaryDirectory() as folder, watching(Path(folder)) as (client, monitor):
        send(client, patients)
        answer = client.post("/predict", json={**patients[0], wrong: canary})
        monitor.refresh()
        text = client.get("/metrics").text

    values = {
        number
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for number in (sample.value, *map(_number, sample.labels.values()))
    }
    assert answer.status_code == 422
    assert json.dumps(canary) in answer.text
    assert str(canary) not in text
    assert not values & {float(p[name]) for p in patients for name in (*NUMBERS, "st_depression")}


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
