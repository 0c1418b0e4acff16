import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heart.drift.detector import check
from heart.drift.snapshot import DriftSnapshot, narrowed
from heart.predictions.log import PredictionLog
from heart.schema import NAMES, encode
from monitoring.monitor import DriftMonitor
from tests.heart.drift.snapshots import (
    POLICY,
    champion_of,
    log_patients,
    reference,
    settings,
    watched_model,
)
from tests.heart.predictions.logs import opened, until
from tests.serve.small_service import model


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        yield log


def watch_of(log: PredictionLog, **changes: object) -> DriftMonitor:
    return DriftMonitor(
        champion_of(watched_model("2"), watched_model("1")), log, settings(**changes)
    )


def seen(monitor: DriftMonitor) -> DriftSnapshot:
    monitor.refresh()
    assert monitor.snapshot is not None
    return monitor.snapshot


# Checked patients


def test_the_last_patients_of_the_champion_are_compared_oldest_first(log: PredictionLog) -> None:
    log_patients(log, 200, "2", thallium=None)
    log_patients(log, 100, "2", seed=1)
    log_patients(log, 40, "1", thallium=None)

    snapshot = seen(watch_of(log))

    columns = log.last(POLICY.patients, "2", POLICY.step)
    rows = encode({name: columns[name] for name in NAMES})[::-1]
    expected = check(rows, rows[:, 0] * 0 + 0.5, reference())
    assert snapshot.report == expected
    assert not snapshot.report.features["thallium"].drifted
    assert (snapshot.version, snapshot.report.window_rows) == ("2", 100)


def test_drift_is_detected_in_the_newest_patients(log: PredictionLog) -> None:
    log_patients(log, 100, "2")
    log_patients(log, 20, "2", seed=1, thallium=None)

    report = seen(watch_of(log)).report

    assert report.drifted
    assert report.features["thallium"].ratio > 1
    assert "thallium missing" in report.features["thallium"].summary


def test_below_the_minimum_there_is_no_verdict_and_no_count(
    log: PredictionLog,
) -> None:
    log_patients(log, 19, "2", thallium=None)

    snapshot = seen(watch_of(log))

    assert (snapshot.report.window_rows, snapshot.report.minimum_rows) == (10, 20)
    assert snapshot.report.drifted is None
    assert (snapshot.report.features, snapshot.now, snapshot.before) == ({}, {}, {})


def test_replicas_check_the_same_patients(log: PredictionLog) -> None:
    replicas = [watch_of(log), watch_of(log)]
    log_patients(log, 60, "2")
    reports = [seen(replicas[0]).report]
    log_patients(log, 9, "2", thallium=None)
    reports.append(seen(replicas[1]).report)

    assert reports[0] == reports[1]

    log_patients(log, 1, "2", thallium=None)
    assert seen(replicas[0]).report != reports[0]


def test_counts_are_those_of_the_comparison_of_each_finding(log: PredictionLog) -> None:
    log_patients(log, 250, "2")
    log_patients(log, 50, "2", seed=1, thallium=None)

    snapshot = seen(watch_of(log))

    for name, finding in snapshot.report.features.items():
        assert snapshot.now[name].sum() == finding.window_rows
        assert snapshot.before[name].sum() == reference().rows + finding.earlier_rows
    finding = snapshot.report.features["thallium"]
    assert (finding.window_rows, finding.earlier_rows) == (50, 200)
    assert snapshot.now["thallium"][-1] == 50


def test_a_version_can_be_named(log: PredictionLog) -> None:
    log_patients(log, 30, "1")

    assert seen(watch_of(log, model_version="1")).version == "1"
    other = watch_of(log, model_version="3")
    other.refresh()
    assert other.snapshot is None
    assert other.missing() == "version 3 is not loaded here"


# The longest window


@pytest.mark.parametrize(
    ("window", "windows"),
    [(None, (20, 50, 100)), (5000, (20, 50, 100)), (99, (20, 50)), (50, (20, 50)), (11, (20,))],
)
def test_windows_longer_than_the_setting_are_left_out(
    log: PredictionLog, window: int | None, windows: tuple[int, ...]
) -> None:
    log_patients(log, 200, "2")

    snapshot = seen(watch_of(log, window=window))

    assert snapshot.reference.policy.windows == windows
    assert snapshot.report.window_rows == windows[-1]
    assert {finding.window_rows for finding in snapshot.report.features.values()} <= set(windows)


def test_each_remaining_window_keeps_its_limit() -> None:
    short = narrowed(reference(), 50)

    for whole, cut in zip(reference().columns, short.columns, strict=True):
        for kind in ("shift", "share", "rare"):
            limits = getattr(whole.limits, kind)
            assert getattr(cut.limits, kind) == (*limits[:2], *limits[3:6])
    assert type(short).from_json(short.to_json()) == short


# Failures


def test_while_the_log_is_unavailable_the_snapshot_stays(
    log: PredictionLog, tmp_path: Path
) -> None:
    log_patients(log, 30, "2")
    monitor = watch_of(log)
    snapshot, last_run = seen(monitor), monitor.last_run
    (tmp_path / "log.db").rename(tmp_path / "away.db")

    monitor.refresh()

    assert monitor.snapshot is snapshot
    assert (monitor.last_run, monitor.failures) == (last_run, 1)
    (tmp_path / "away.db").rename(tmp_path / "log.db")
    monitor.refresh()
    assert last_run is not None
    assert monitor.last_run is not None
    assert monitor.last_run > last_run


def test_without_a_model_or_its_baseline_there_is_no_check(log: PredictionLog) -> None:
    log_patients(log, 30, "1")
    champion = champion_of(watched_model())
    monitor = DriftMonitor(champion, log, settings())
    monitor.refresh()
    assert monitor.missing() is None

    champion.current = model()
    monitor.refresh()
    assert monitor.snapshot is None
    assert monitor.missing() == "version 1 has no drift baseline"

    champion.current = None
    monitor.refresh()
    assert monitor.missing() == "no model is loaded yet"
    assert monitor.failures == 0


def test_an_invalid_value_in_the_log_is_a_failure_whose_message_does_not_have_it(
    log: PredictionLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_patients(log, 30, "2", cholesterol=None)
    log_patients(log, 30, "2")
    with sqlite3.connect(tmp_path / "log.db") as database:
        database.execute("UPDATE predictions SET cholesterol = 5.4321 WHERE seq = 40")
    database.close()
    monitor = watch_of(log)

    monitor.refresh()

    assert (monitor.snapshot, monitor.failures) == (None, 1)
    assert "SchemaError" in caplog.text
    assert "5.4321" not in caplog.text


def test_the_thread_continues_after_any_error(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_patients(log, 30, "2")
    monitor = watch_of(log, interval_seconds=0.01)
    refresh, broken = monitor.refresh, threading.Event()

    def fail() -> None:
        if broken.is_set():
            raise RuntimeError("a mistake")
        refresh()

    monkeypatch.setattr(monitor, "refresh", fail)
    broken.set()

    monitor.start()
    until(lambda: monitor.failures > 1)
    broken.clear()
    until(lambda: monitor.snapshot is not None)
    monitor.stop()

    until(lambda: "drift" not in [thread.name for thread in threading.enumerate()])
    assert "drift check failed" in caplog.text


# Estimated performance


def test_the_estimate_is_of_the_longest_window_and_computed_once_for_it(log: PredictionLog) -> None:
    log_patients(log, 120, "2")
    monitor = watch_of(log)
    monitor.refresh()
    first = monitor.estimate
    monitor.refresh()

    assert first is not None
    assert (first.version, first.patients) == ("2", 100)
    # Risks of 0.5 say nothing: half of the predictions are right.
    assert first.figures["accuracy"] is not None
    assert first.figures["accuracy"].value == pytest.approx(0.5, abs=0.02)
    assert monitor.estimate is first

    log_patients(log, 10, "2", seed=1)
    monitor.refresh()
    assert monitor.estimate is first  # all risks are the same
    with_another_version = DriftMonitor(champion_of(watched_model("1")), log, settings())
    with_another_version.refresh()
    assert with_another_version.estimate is None


def test_below_the_minimum_there_is_no_estimate(log: PredictionLog) -> None:
    log_patients(log, 19, "2")
    monitor = watch_of(log)
    monitor.refresh()

    assert monitor.snapshot is not None
    assert monitor.estimate is None
