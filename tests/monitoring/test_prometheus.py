"""Dashboards and alerts against a real Prometheus that scrapes the real service."""

import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heart.drift.baseline import MIN_CELL_COUNT
from heart.schema import NAMES
from serve.api.models import EXAMPLE
from tests.conftest import Require
from tests.heart.drift.snapshots import measured, send
from tests.monitoring.configuration import (
    alert_expression,
    alert_query,
    alert_rules,
    queries,
    recorded,
)
from tests.monitoring.retraining.webhook import receiving
from tests.monitoring.retraining.webhook import send as send_alert
from tests.monitoring.stack import Stack, other_replica, scraping, served, until
from tests.monitoring.traffic import normal_traffic

after_normal_patients = pytest.mark.usefixtures("normal")

RULES = alert_rules()


@pytest.fixture(scope="module")
def stack(
    require: Require,
    small_pipeline: Path,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    program = require(shutil.which("prometheus"), "prometheus")
    folder = tmp_path_factory.mktemp("stack")
    (folder / "prometheus").mkdir()
    registry = small_pipeline / "registry" / "mlflow.db"
    environment = environment | {"HEART_DRIFT_INTERVAL_SECONDS": "0.2"}
    with (
        served(registry, folder, environment) as (process, service),
        other_replica() as (address, last_run),
        receiving(folder, environment) as receiver,
    ):
        targets: list[dict[str, Any]] = [
            {"targets": [f"127.0.0.1:{service.base_url.port}"]},
            {"targets": [address], "labels": {"job": "drift"}},
        ]
        prometheus = folder / "prometheus"
        with scraping(program, prometheus, targets, receiver, environment) as queries:
            yield Stack(service, process, folder / "log.db", queries, last_run, receiver)


@pytest.fixture(scope="module")
def normal(stack: Stack) -> float:
    """A time after some minutes with normal patients only."""
    for seed in (1, 3):  # a rate needs a series before what it counts
        until(lambda: stack.ask("heart_champion_info"))
        normal_traffic(stack.service, seed)
        until(partial(stack.ask, f'timestamp(up{{job="heart"}}) > {time.time()}'))
    with suppress(AssertionError):  # a test says which query never had any
        until(lambda: not without_data(stack))
    return time.time()


def without_data(stack: Stack, at: float | None = None) -> list[str]:
    """The queries without a series, of those that need no previous version, challenger or new champion."""
    empty = [query for query in queries() if not stack.ask(query, at)]
    return [query for query in empty if not re.search("heart_(guard|shadow)_| offset ", query)]


def alarms(stack: Stack, at: float | None = None) -> set[str]:
    """The uids of the alerts that would be raised."""
    return {uid for uid, rule in RULES.items() if stack.ask(alert_expression(rule), at)}


def features(stack: Stack, uid: str) -> set[str]:
    return {labels["feature"] for labels in stack.ask(alert_expression(RULES[uid]))}


def test_prometheus_reaches_all_and_evaluates_every_rule(stack: Stack, normal: float) -> None:
    assert {labels["job"] for labels in stack.ask("up == 1", normal)} == {
        "heart",
        "drift",
        "retrainer",
        "prometheus",
    }
    groups = stack.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert rules == dict.fromkeys(recorded(), "ok")


def test_every_query_of_a_panel_or_an_alert_returns_data(stack: Stack, normal: float) -> None:
    assert without_data(stack, normal) == []


def test_normal_patients_raise_no_alarm(stack: Stack, normal: float) -> None:
    assert all(stack.ask(alert_query(rule), normal) for rule in RULES.values())
    assert alarms(stack, normal) == set()
    shown = stack.ask(alert_query(RULES["heart-feature-drift"]), normal)
    assert {labels["feature"] for labels in shown} == set(NAMES)


@after_normal_patients
def test_drift_names_its_features(stack: Stack) -> None:
    changes: dict[str, Any] = {
        "thallium": None,
        "age": 25,
        "st_depression": 6,
        "exercise_angina": "yes",
        "chest_pain_type": "asymptomatic",
    }

    send(stack.service, measured(60, 5, **changes))

    until(lambda: features(stack, "heart-feature-drift") == set(changes))
    until(lambda: features(stack, "heart-score-drift") == {"score"})


@after_normal_patients
def test_values_of_another_unit_raise_the_alert_on_data_quality(stack: Stack) -> None:
    for patient in measured(2 * MIN_CELL_COUNT):  # they are published in blocks
        wrong = {**patient, "cholesterol": 6.1}  # in mmol/l
        assert stack.service.post("/predict", json=wrong).status_code == 422

    until(lambda: features(stack, "heart-data-quality") == {"cholesterol"})


@after_normal_patients
def test_a_monitor_that_hangs_raises_an_alert(stack: Stack) -> None:
    stack.other_last_run.set_function(lambda: time.time() - 1000)
    until(lambda: "heart-monitor-stale" in alarms(stack))

    stack.other_last_run.set_function(time.time)
    until(lambda: "heart-monitor-stale" not in alarms(stack))


@after_normal_patients
def test_the_result_of_a_retraining_raises_an_alert(stack: Stack) -> None:
    assert send_alert(stack.receiver).status_code == 202

    until(lambda: "heart-retraining-ended" in alarms(stack))
    series = stack.ask(alert_expression(RULES["heart-retraining-ended"]))
    assert [labels["result"] for labels in series] == ["done"]


@after_normal_patients
def test_a_log_that_cannot_be_written_raises_an_alert(stack: Stack) -> None:
    expected = {"heart-log-failing", "heart-server-errors"}

    def rejected_and_alerted() -> bool:
        assert stack.service.post("/predict", json=EXAMPLE).status_code == 503
        return expected <= alarms(stack)

    other = sqlite3.connect(stack.log, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        until(rejected_and_alerted)
    finally:
        other.close()


@after_normal_patients
def test_a_service_that_hangs_raises_an_alert(stack: Stack) -> None:
    stack.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: "heart-service-down" in alarms(stack))
    finally:
        stack.process.send_signal(signal.SIGCONT)

    until(lambda: "heart-service-down" not in alarms(stack))
