"""Plots as SVG, by the templates of .dvc/plots that `dvc plots` uses too."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

FOLDER = Path(__file__).parents[2] / ".dvc" / "plots"
DATA, TITLE = "<DVC_METRIC_DATA>", "<DVC_METRIC_TITLE>"


def svg(template: str, title: str, points: pd.DataFrame, label: str) -> Markup:
    """A plot of points; `label` is the name of the series, such as a revision or a file."""
    import vl_convert

    rows = points.assign(rev=label).to_dict(orient="records")
    specification = _filled(json.loads((FOLDER / f"{template}.json").read_text()), title, rows)
    return Markup(vl_convert.vegalite_to_svg(specification))  # noqa: S704 - escaped by Vega


def _filled(value: Any, title: str, rows: list[Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, title, rows) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, title, rows) for item in value]
    return {DATA: rows, TITLE: title}.get(value, value) if isinstance(value, str) else value
