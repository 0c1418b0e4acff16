"""The tab about the model, as HTML and SVG: intended use, performance, curves, and origin."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from heart.locale.catalog import CATALOGS
from heart.locale.language import Language, number, percent, translate
from heart.registry.model_version import Card
from serve.ui.templates import page_html

GROUP_FIGURES = ("roc_auc", "recall", "specificity", "brier")
NONE = "–"  # noqa: RUF001 - no value


@dataclass(frozen=True)
class Counts:
    """Held-out patients by outcome and by whether their risk is at or above the threshold."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """For each figure that is a share of patients: the patients that count, and all."""
        tp, fp, fn, tn = (
            self.true_positive, self.false_positive, self.false_negative, self.true_negative,
        )  # fmt: skip
        return {
            "accuracy": (tp + tn, tp + fp + fn + tn),
            "recall": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "precision": (tp, tp + fp),
            "npv": (tn, tn + fn),
        }


def counts_of(figures: Mapping[str, Any]) -> Counts | None:
    """The counts from which accuracy and recall were computed; None if there are none."""
    rows, presence, accuracy = (figures.get(name) for name in ("rows", "presence", "accuracy"))
    if rows is None or presence is None or accuracy is None:
        return None
    tp = round((figures.get("recall") or 0) * presence)
    tn = round(accuracy * rows) - tp
    return Counts(tp, rows - presence - tn, presence - tp, tn)


def about_html(model: Card, language: Language) -> Markup:
    """Intended use, figures with intervals and counts, curves, groups, citation, and hashes."""
    figures, counts = model.figures, counts_of(model.figures)
    return page_html(
        "about",
        language,
        model=model,
        counts=counts,
        threshold=percent(model.threshold),
        figures=[
            [text, _value(figures, name, counts, language), _parts(name, counts, language)]
            for name, text in CATALOGS[language].figures.items()
            if _known(figures, name, counts)
        ],
        groups=_groups(figures.get("groups", {}), language),
        group_heading=_group_heading(language),
    )


def _group_heading(language: Language) -> list[str]:
    names = CATALOGS[language].figures
    keys = ("model.group", "model.ill", "model.healthy")
    heading = [translate(key, language) for key in keys]
    return heading + [names[name].split(" (")[0] for name in GROUP_FIGURES]


def _groups(groups: Mapping[str, Any], language: Language) -> list[list[str]]:
    """A row for each group of patients; groups that the catalog does not name come last."""
    names = CATALOGS[language].patient_groups
    order = [*names, *(name for name in groups if name not in names)]
    return [
        _group(names.get(name, name), groups[name], language) for name in order if name in groups
    ]


def _group(name: str, group: Mapping[str, Any], language: Language) -> list[str]:
    rows, presence, counts = group.get("rows"), group.get("presence"), counts_of(group)
    healthy = NONE if rows is None or presence is None else str(rows - presence)
    cells = [name, NONE if presence is None else str(presence), healthy]
    for figure in GROUP_FIGURES:
        parts = _parts(figure, counts, language)
        # Of a share of so few patients the counts say more than a bootstrap interval.
        value = _value(group, figure, counts, language, with_interval=not parts)
        cells.append(f"{value} ({parts})" if parts else value)
    return cells


def _known(figures: Mapping[str, Any], name: str, counts: Counts | None) -> bool:
    if figures.get(name) is not None:
        return True
    return counts is not None and counts.parts.get(name, (0, 0))[1] > 0


def _parts(name: str, counts: Counts | None, language: Language) -> str:
    """The counts behind a share, in words; empty for other figures."""
    if counts is None or name not in counts.parts:
        return ""
    part, whole = counts.parts[name]
    return translate("model.parts", language, part=part, whole=whole)


def _value(
    figures: Mapping[str, Any],
    name: str,
    counts: Counts | None,
    language: Language,
    *,
    with_interval: bool = True,
) -> str:
    """A figure with its interval; of a figure that is not stored, the share of the counts."""
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None and counts is not None:
        part, whole = counts.parts.get(name, (0, 0))
        value = part / whole if whole else None
    if value is None:
        return NONE
    text = number(value, language, ".2f")
    if low is None or high is None or not with_interval:
        return text
    return f"{text} ({number(low, language, '.2f')}–{number(high, language, '.2f')})"  # noqa: RUF001
