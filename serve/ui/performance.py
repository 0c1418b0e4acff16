"""The performance that the risks of the last patients imply, beside that on recorded outcomes, as HTML."""

from collections.abc import Mapping

from markupsafe import Markup

from heart.drift.baseline import MIN_CELL_COUNT
from heart.locale.catalog import CATALOGS
from heart.locale.language import Language, number, translate
from heart.ml.label_free import Estimate
from monitoring.estimated import EstimatedPerformance
from serve.estimate_check import EstimateCheck
from serve.ui.about import NONE
from serve.ui.templates import page_html


def performance_html(
    estimate: EstimatedPerformance | None,
    labeled: Mapping[str, float] | None,
    check: EstimateCheck | None,
    language: Language,
) -> Markup:
    """Each figure with its interval, and whether outcomes contradict it; empty without an estimate."""
    if estimate is None:
        return Markup()
    observed = {**(labeled or {}), **({"brier": check.brier} if check else {})}
    names = CATALOGS[language].figures
    patients = number(estimate.patients, language, ",d")
    return page_html(
        "performance",
        language,
        how=translate("estimate.how", language, patients=patients),
        heading=[
            translate("estimate.figure", language),
            translate("estimate.estimated", language),
            *([translate("estimate.labeled", language, labels=check.labels)] if check else []),
        ],
        rows=[
            [names[name], _value(figure, language), *([_score(observed, name, language)] if check else [])]
            for name, figure in estimate.figures.items()
        ],
        verdict=_verdict(check, language),
        kind="bad" if check and check.contradicted else "info",
    )  # fmt: skip


def _value(figure: Estimate | None, language: Language) -> str:
    if figure is None:
        return NONE
    value, low, high = (
        number(part, language, ".2f") for part in (figure.value, figure.low, figure.high)
    )
    return f"{value} ({low}–{high})"  # noqa: RUF001


def _score(scores: Mapping[str, float], name: str, language: Language) -> str:
    return number(scores[name], language, ".2f") if name in scores else NONE


def _verdict(check: EstimateCheck | None, language: Language) -> str:
    if check is None:
        return translate("estimate.unchecked", language, minimum=MIN_CELL_COUNT)
    brier, expected = (
        number(score, language, ".2f") for score in (check.brier, check.expected_brier)
    )
    key = "estimate.contradicted" if check.contradicted else "estimate.agrees"
    return translate(key, language, labels=check.labels, brier=brier, expected=expected)
