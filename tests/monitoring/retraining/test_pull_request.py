"""The text of a pull request: the report as code, metrics before and after, curves as charts."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from monitoring.retraining import pull_request
from monitoring.retraining.pull_request import bar_chart, line_chart


def heights(chart: str) -> list[float]:
    (numbers,) = re.findall(r"^  (?:line|bar) \[(.*)\]$", chart, re.MULTILINE)
    return [float(number) for number in numbers.split(", ")]


def test_a_report_of_any_content_is_code() -> None:
    text = pull_request.text("```\n# no heading\n<b>", "| table |", ["chart"])

    assert text.startswith(
        "## Report\n\n    ```\n    # no heading\n    <b>\n\n## Before (A) and after (B)\n\n| table |"
    )
    assert text.endswith("## Plots\n\n```mermaid\nchart\n```")


def test_a_long_report_keeps_its_end() -> None:
    text = pull_request.text("first " + "x\n" * 30_000 + "verdict", "", [])

    assert len(text) < 65_536
    assert "    verdict\n" in text
    assert "first" not in text


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


@pytest.mark.integration
def test_the_comparison_with_the_last_commit_is_in_the_text(
    project: Path, command: Callable[..., Any]
) -> None:
    (project / "report.txt").write_text("promoted")

    text = command(
        f"{sys.executable} -m monitoring.retraining.pull_request report.txt", project
    ).stdout

    assert "    promoted\n" in text
    assert "| ROC AUC | " in text
    assert text.count("```mermaid\nxychart-beta") == 3
