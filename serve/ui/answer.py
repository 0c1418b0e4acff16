"""The answer for one patient, as HTML and SVG."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from heart.locale.language import MINUS, Language, label, number, percent, translate, unit, value_of
from heart.registry.model_version import Card
from heart.schema import BY_NAME, NAMES
from serve.explain import Assessment, OutOfRangeValue
from serve.ui.templates import page_html


@dataclass(frozen=True)
class Bar:
    """The contribution of a measurement to the risk; `start` and `width` are percent of the lane."""

    label: str
    value: str
    raises: bool
    points: str
    start: float
    width: float


def answer_html(answer: Assessment, prediction_id: str, language: Language, model: Card) -> Markup:
    """The answer: what is predicted and for whom, contributions, missing measurements, its record."""
    bars = _bars(answer, language)
    return page_html(
        "answer",
        language,
        answer=answer,
        interval=_interval(answer, language),
        hospital_interval=_hospital_interval(answer, language),
        verdict=_verdict(answer, language),
        sentence=sentence(answer, language),
        warnings=[_warning(warning, language) for warning in answer.warnings],
        level=level(answer.risk),
        bars=bars,
        referral=_referral(answer, language),
        ranges=[
            (label(BY_NAME[name], language), low, high)
            for name, (low, high) in answer.risk_ranges.items()
        ],
        entered=answer.measurement_count,
        total=len(NAMES),
        prediction_id=prediction_id,
        model=model,
    )


def level(risk: float) -> int:
    """The quarter of the scale in which a risk is, 1 to 4; it decides the color."""
    return min(int(4 * risk), 3) + 1


def _referral(answer: Assessment, language: Language) -> str:
    """Why having no chest pain raises the risk most, where it does; empty otherwise."""
    name = max(answer.contributions, key=lambda name: abs(answer.contributions[name]), default="")
    raises = answer.contributions.get(name, 0) > 0
    if (name, answer.patient.get(name), raises) != ("chest_pain_type", "asymptomatic", True):
        return ""
    return translate("answer.referral", language)


def _interval(answer: Assessment, language: Language) -> str:
    if answer.low is None or answer.high is None:
        return translate("answer.no_interval", language)
    return translate(
        "answer.interval", language, low=percent(answer.low), high=percent(answer.high)
    )


def _hospital_interval(answer: Assessment, language: Language) -> str:
    """The interval at a hospital of which nothing is known; empty without one."""
    if answer.hospital_low is None or answer.hospital_high is None:
        return ""
    low, high = percent(answer.hospital_low), percent(answer.hospital_high)
    return translate("answer.hospital_interval", language, low=low, high=high)


def _verdict(answer: Assessment, language: Language) -> str:
    above = answer.risk >= answer.threshold
    key = "answer.above_threshold" if above else "answer.below_threshold"
    return translate(key, language, threshold=percent(answer.threshold))


def sentence(answer: Assessment, language: Language) -> str:
    """The answer in plain words."""
    difference = round(100 * answer.risk) - round(100 * answer.average)
    sign = 0 if abs(difference) < 2 else 1 if difference > 0 else -1
    key = {1: "answer.higher", -1: "answer.lower", 0: "answer.same"}[sign]
    text = translate(
        key,
        language,
        who=_person(answer.patient, language),
        risk=percent(answer.risk),
        average=percent(answer.average),
    )
    return f"{text} {_main_contribution(answer, sign, language)}".strip()


def _person(patient: Mapping[str, Any], language: Language) -> str:
    key = {"male": "answer.man", "female": "answer.woman"}[patient["sex"]]
    return translate(key, language, age=f"{patient['age']:g}")


def _main_contribution(answer: Assessment, sign: int, language: Language) -> str:
    """The measurement that moves the risk most in the direction `sign`; none if it is small."""
    contributions = {
        name: sign * contribution
        for name, contribution in answer.contributions.items()
        if name not in ("age", "sex")
    }
    name = max(contributions, key=lambda name: contributions[name], default=None)
    if name is None or contributions[name] < 0.01:
        return ""
    measurement = BY_NAME[name]
    value = value_of(measurement, answer.patient[name], language)
    name_and_value = f"{label(measurement, language)} ({value})"
    return translate("answer.main_contribution", language, label=name_and_value)


def _bars(answer: Assessment, language: Language) -> list[Bar]:
    """The contributions of the measurements, the largest first."""
    contributions = sorted(answer.contributions.items(), key=lambda item: -abs(item[1]))
    longest = abs(contributions[0][1]) if contributions else 0
    return [
        _bar(name, answer.patient[name], contribution, longest or 1, language)
        for name, contribution in contributions
    ]


def _bar(name: str, value: Any, contribution: float, longest: float, language: Language) -> Bar:
    measurement, length = BY_NAME[name], contribution / longest
    sign = "+" if contribution >= 0 else MINUS
    return Bar(
        label=label(measurement, language),
        value=value_of(measurement, value, language),
        raises=contribution >= 0,
        points=f"{sign}{number(abs(100 * contribution), language, '.1f')}",
        start=50 + 50 * min(length, 0),
        width=50 * abs(length),
    )


def _warning(warning: OutOfRangeValue, language: Language) -> str:
    measurement = BY_NAME[warning.name]
    return translate(
        "answer.out_of_range",
        language,
        label=label(measurement, language),
        value=value_of(measurement, warning.value, language),
        low=number(warning.low, language),
        high=f"{number(warning.high, language)} {unit(measurement, language)}".strip(),
    )
