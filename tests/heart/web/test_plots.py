"""The page of plots: it needs nothing from elsewhere, and every plot is drawn."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heart.web.plots import page

CHART = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "data": {"values": [{"x": "</script><b>", "y": 1}]},
    "mark": "bar",
    "encoding": {"x": {"field": "x"}, "y": {"field": "y", "type": "quantitative"}},
}


def test_the_page_loads_nothing_and_data_stay_data() -> None:
    text = page({"Bars": [{"type": "vega", "content": CHART, "revisions": ["a"]}]})

    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)
    assert "</script><b>" not in text


@pytest.mark.integration
def test_every_plot_of_the_pipeline_is_drawn_once_for_one_and_for_two_revisions(
    project: Path, command: Callable[..., Any], browser: Any
) -> None:
    for revisions in ("", " HEAD workspace"):
        command(f"{sys.executable} -m heart.web.plots{revisions}", project)
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        errors: list[str] = []
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))  # noqa: B023
        tab.goto((project / "reports" / "plots.html").as_uri())
        tab.wait_for_function("document.querySelectorAll('.chart-wrapper > .marks').length == 6")

        assert tab.locator("figure img").count() == (2 if revisions else 1)
        assert not errors
        context.close()
