"""The tab about the model, as HTML and SVG: version, performance and calibration."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from heart.locale.catalog import CATALOGS
from heart.locale.language import Language, number, translate
from heart.registry.model_version import Model
from serve.ui.templates import page_html

GROUP_FIGURES = ("roc_auc", "accuracy", "recall", "brier")


def about_html(model: Model, language: Language) -> Markup:
    """Version, figures with intervals, calibration, and figures by group."""
    names = CATALOGS[language].figures
    figures = [
        [text, _with_interval(model.figures, name, language)]
        for name, text in names.items()
        if model.figures.get(name) is not None
    ]
    heading = [translate("model.group", language), translate("model.patients", language)]
    heading += [names[name].split(" (")[0] for name in GROUP_FIGURES]
    return page_html(
        "about",
        language,
        model=model,
        figures=figures,
        groups=_groups(model.figures.get("groups", {}), language),
        group_heading=heading,
    )


def _groups(groups: Mapping[str, Any], language: Language) -> list[list[str]]:
    """A row for each group of patients; groups that the catalogue does not name come last."""
    names = CATALOGS[language].patient_groups
    order = [*names, *(name for name in groups if name not in names)]
    return [
        [
            names.get(name, name),
            str(groups[name].get("rows", "")),
            *(_with_interval(groups[name], figure, language) for figure in GROUP_FIGURES),
        ]
        for name in order
        if name in groups
    ]


def _with_interval(figures: Mapping[str, Any], name: str, language: Language) -> str:
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"  # noqa: RUF001 - no value
    text = number(value, language, ".2f")
    if low is None or high is None:
        return text
    return f"{text} ({number(low, language, '.2f')}–{number(high, language, '.2f')})"  # noqa: RUF001
