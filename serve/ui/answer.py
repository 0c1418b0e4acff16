"""The answer for one patient, as HTML and SVG."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from heart.locale.language import Language, number, of, percent, translate, unit, value_of
from heart.schema import NAMES
from serve.explain import BY_NAME, Assessment, Unusual, sentence
from serve.ui.templates import page_html


@dataclass(frozen=True)
class Bar:
    """What a measurement adds to the risk or takes from it; `start` and `width` are percent of the lane."""

    label: str
    value: str
    direction: str
    points: str
    start: float
    width: float


def answer_html(answer: Assessment, prediction_id: str, language: Language) -> Markup:
    """The answer: number and interval, gauge, natural frequency, what moved it, what is missing."""
    return page_html(
        "answer",
        language,
        answer=answer,
        interval=_interval(answer, language),
        verdict=_verdict(answer, language),
        sentence=sentence(answer, language),
        warnings=[_warning(warning, language) for warning in answer.warnings],
        bars=_bars(answer, language),
        ranges=[
            (of(BY_NAME[name].label, language), low, high)
            for name, (low, high) in answer.could_be.items()
        ],
        total=len(NAMES),
        prediction_id=prediction_id,
    )


def _interval(answer: Assessment, language: Language) -> str:
    if answer.low is None or answer.high is None:
        return translate("no_interval", language)
    return translate("interval", language, low=percent(answer.low), high=percent(answer.high))


def _verdict(answer: Assessment, language: Language) -> str:
    key = "presence" if answer.risk >= answer.threshold else "absence"
    return translate(key, language, threshold=percent(answer.threshold))


def _bars(answer: Assessment, language: Language) -> list[Bar]:
    """What each given measurement adds to or takes from the risk, the largest first."""
    contributions = sorted(answer.contributions.items(), key=lambda item: -abs(item[1]))
    longest = abs(contributions[0][1]) if contributions else 0
    return [
        _bar(name, answer.patient[name], contribution, longest or 1, language)
        for name, contribution in contributions
    ]


def _bar(name: str, value: Any, contribution: float, longest: float, language: Language) -> Bar:
    measurement, length = BY_NAME[name], contribution / longest
    sign = "+" if contribution >= 0 else "−"  # noqa: RUF001 - a minus sign, as wide as the plus
    return Bar(
        label=of(measurement.label, language),
        value=value_of(measurement, value, language),
        direction="raises" if contribution >= 0 else "lowers",
        points=f"{sign}{number(abs(100 * contribution), language, '.1f')}",
        start=50 + 50 * min(length, 0),
        width=50 * abs(length),
    )


def _warning(warning: Unusual, language: Language) -> str:
    measurement = BY_NAME[warning.name]
    return translate(
        "unusual",
        language,
        label=of(measurement.label, language),
        value=value_of(measurement, warning.value, language),
        low=number(warning.low, language),
        high=f"{number(warning.high, language)} {unit(measurement, language)}".strip(),
    )
