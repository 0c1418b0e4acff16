"""The text of a pull request: the report as code, metrics before and after, curves as charts."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from monitoring.retraining import pull_request
from monitoring.retraining.pull_request import bar_chart, changes, line_chart


def heights(chart: str) -> list[float]:
    (numbers,) = re.findall(r"^  (?:line|bar) \[(.*)\]$", chart, re.MULTILINE)
    return [float(number) for number in numbers.split(", ")]


def test_a_report_of_any_content_is_code() -> None:
    text = pull_request.text("```\n# no heading\n<b>", "| table |", ["chart"])

    assert text.startswith(
        "## Report\n\n    ```\n    # no heading\n    <b>\n\n## Metrics\n\n| table |"
    )
    assert text.endswith("## Plots\n\n```mermaid\nchart\n```")


def test_a_long_report_keeps_its_end() -> None:
    text = pull_request.text("first " + "x\n" * 30_000 + "verdict", "", [])

    assert len(text) < 65_536
    assert "    verdict\n" in text
    assert "first" not in text


def test_changes_are_a_row_each_without_intervals_and_groups() -> None:
    difference: dict[str, Any] = {
        "metrics/train.json": {"model": {"old": "random_forest", "new": "logistic_regression"}},
        "metrics/evaluate.json": {
            "roc_auc": {"old": 0.93351, "new": 0.94, "diff": 0.00649},
            "roc_auc_low": {"old": 0.8, "new": 0.9},
            "groups.sex_male.roc_auc": {"old": 0.8, "new": 0.9},
            "rows": {"old": None, "new": 80},
        },
    }

    assert changes(difference).splitlines() == [
        "| metric | before | after |",
        "|---|---|---|",
        "| evaluate.roc_auc | 0.9335 | 0.94 |",
        "| evaluate.rows | - | 80 |",
        "| train.model | random_forest | logistic_regression |",
    ]


def test_a_curve_is_drawn_between_its_points() -> None:
    table = pd.DataFrame({"predicted": [0.1, 0.6, 1.1], "share_of": [0.0, 1.0, 0.5]})

    chart = line_chart("A curve", table, "predicted", "share_of")

    assert '  x-axis "predicted" 0.1 --> 1.1\n  y-axis "share of" 0 --> 1\n' in chart
    assert heights(chart)[::5] == pytest.approx([0, 0.5, 1, 0.75, 0.5])


def test_each_bar_has_its_name() -> None:
    table = pd.DataFrame({"measurement": ["max_heart_rate", "age"], "lost": [0.02, -0.01]})

    chart = bar_chart("Bars", table, "measurement", "lost")

    assert '  x-axis ["max heart rate", "age"]\n' in chart
    assert heights(chart) == [0.02, -0.01]


def test_changed_metrics_are_in_the_text(project: Path, command: Callable[..., Any]) -> None:
    (project / "report.txt").write_text("promoted")
    figures = project / "metrics" / "evaluate.json"
    metrics = json.loads(figures.read_text())
    figures.write_text(json.dumps(metrics | {"rows": 12345}))

    text = command(
        f"{sys.executable} -m monitoring.retraining.pull_request report.txt", project
    ).stdout

    assert "    promoted\n" in text
    assert f"\n| evaluate.rows | {metrics['rows']} | 12345 |\n" in text
    assert text.count("```mermaid\nxychart-beta") == 3
