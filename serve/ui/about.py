"""The tab about the model, as HTML and SVG: where it is from and how good it is."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heart.locale.language import Language, number, of, translate
from heart.locale.texts import FIGURES, GROUPS
from heart.registry.model_version import Model
from heart.web.markup import message_html, section, table_of


def about_html(model: Model, language: Language) -> str:
    """What the model is made of and how good it is: figures with intervals, calibration, groups."""
    card = [
        [translate("version", language), f"{model.name} {model.version}"],
        [translate("run", language), model.run_id],
        ["SHA-256", model.sha256],
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in card)
    parts = [f"<p>{escape(translate('made_of', language))}</p><dl>{rows}</dl>"]
    if model.figures:
        parts.append(_figures(model.figures, language))
    else:
        parts.append(message_html(translate("no_figures", language), language))
    if model.calibration:
        title, how = (
            escape(translate("calibration", language)),
            escape(translate("calibration_how", language)),
        )
        drawing = calibration(model.calibration, language)
        parts.append(f'<h3>{title}</h3><p class="small">{how}</p>{drawing}')
    if model.figures.get("groups"):
        parts.append(_groups(model.figures["groups"], language))
    return section(translate("tab_about", language), "".join(parts), language)


def _figures(figures: Mapping[str, Any], language: Language) -> str:
    rows = [
        [of(text, language), _with_interval(figures, name, language)]
        for name, text in FIGURES.items()
        if figures.get(name) is not None
    ]
    title = translate("figures", language, rows=figures.get("rows", "?"))
    how = translate("figures_how", language, presence=figures.get("presence", "?"))
    heading = [translate("figure", language), translate("value", language)]
    return f'<h3>{escape(title)}</h3><p class="small">{escape(how)}</p>{table_of(heading, rows)}'


def _groups(groups: Mapping[str, Any], language: Language) -> str:
    names = ("roc_auc", "accuracy", "recall", "brier")
    heading = [translate("group", language), translate("patients", language)]
    heading += [of(FIGURES[name], language).split(" (")[0] for name in names]
    order = [*GROUPS, *(name for name in groups if name not in GROUPS)]
    rows = [
        [
            of(GROUPS[name], language) if name in GROUPS else name,
            str(groups[name].get("rows", "")),
            *(_with_interval(groups[name], figure, language) for figure in names),
        ]
        for name in order
        if name in groups
    ]
    title, how = escape(translate("groups", language)), escape(translate("groups_how", language))
    return f'<h3>{title}</h3><p class="small">{how}</p>{table_of(heading, rows)}'


def _with_interval(figures: Mapping[str, Any], name: str, language: Language) -> str:
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"  # noqa: RUF001 - nothing to say
    text = number(value, language, ".2f")
    if low is None or high is None:
        return text
    return f"{text} ({number(low, language, '.2f')}–{number(high, language, '.2f')})"  # noqa: RUF001


def calibration(points: Sequence[Mapping[str, float]], language: Language) -> str:
    """Predicted risk against the share that has the disease, by groups of patients."""
    most = max(point["patients"] for point in points) or 1
    circles = "".join(
        f'<circle class="sick" cx="{50 + 240 * p["predicted"]:.1f}" '
        f'cy="{250 - 240 * p["observed"]:.1f}" r="{3 + 5 * p["patients"] / most:.1f}"/>'
        for p in points
    )
    ticks = "".join(
        f'<line class="grid" x1="{50 + 240 * s}" x2="{50 + 240 * s}" y1="10" y2="250"/>'
        f'<line class="grid" x1="50" x2="290" y1="{250 - 240 * s}" y2="{250 - 240 * s}"/>'
        f'<text x="{50 + 240 * s}" y="266" text-anchor="middle">{s:.0%}</text>'
        f'<text x="44" y="{254 - 240 * s}" text-anchor="end">{s:.0%}</text>'
        for s in (0, 0.25, 0.5, 0.75, 1)
    )
    across, up = escape(translate("predicted", language)), escape(translate("observed", language))
    told = "; ".join(f"{p['predicted']:.0%}: {p['observed']:.0%}" for p in points)
    return (
        '<svg class="plot" viewBox="0 0 310 290" role="img">'
        f"<title>{escape(translate('calibration', language))}</title><desc>{escape(told)}</desc>{ticks}"
        f'<line class="ideal" x1="50" y1="250" x2="290" y2="10"/>{circles}'
        f'<text x="170" y="284" text-anchor="middle">{across}</text>'
        f'<text transform="translate(12 130) rotate(-90)" text-anchor="middle">{up}</text></svg>'
    )
