"""Recording rules and alerts by promtool, in the time that Prometheus's unit tests make up."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Require
from tests.monitoring.configuration import PROMETHEUS, alert_expression, alert_rules

CASES = Path(__file__).with_name("alerts_test.yml")


@pytest.fixture
def promtool(require: Require, command: Callable[..., Any], tmp_path: Path) -> Callable[[str], str]:
    program = require(shutil.which("promtool"), "prometheus")

    def run(arguments: str) -> str:
        output: str = command(f"{program} {arguments}", tmp_path).stdout
        return output

    return run


def as_prometheus_alerts() -> dict[str, Any]:
    """Grafana's alert rules as rules of Prometheus, which has the same functions for annotations.

    Fixed texts, and labels that Grafana fills in, are left out.
    """
    rules = [
        {
            "alert": rule["title"],
            "expr": alert_expression(rule),
            "for": rule["for"],
            "labels": {k: v for k, v in rule["labels"].items() if not v.startswith("$")},
            "annotations": {
                name: text.replace("$values.A.Value", "$value")
                for name, text in rule["annotations"].items()
                if name in ("summary", "resolved")
            },
        }
        for rule in alert_rules().values()
    ]
    return {"groups": [{"name": "alerts", "rules": rules}]}


def test_prometheus_accepts_its_configuration(promtool: Callable[[str], str]) -> None:
    output = promtool(f"check config {PROMETHEUS / 'prometheus.yml'}")

    assert "1 rule files found" in output
    assert "10 rules found" in output


def test_alerts_fire_when_they_should_and_only_then(
    promtool: Callable[[str], str], tmp_path: Path
) -> None:
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    shutil.copy(CASES, tmp_path)
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(as_prometheus_alerts()))

    assert "SUCCESS" in promtool(f"test rules {CASES.name}")


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    cases = [
        c for t in yaml.safe_load(CASES.read_text())["tests"] for c in t.get("alert_rule_test", [])
    ]
    titles = {rule["title"] for rule in alert_rules().values()}

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == titles
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == titles
