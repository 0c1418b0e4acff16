"""Texts and numbers as a language has them.

A text made on the server takes the language as an argument; those of the form are also handed to the
browser, which chooses by its own.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from heart.locale.drift_texts import DRIFT
from heart.locale.texts import FORM, MESSAGES, UNITS
from heart.schema import MEASUREMENTS, OUTCOME, Measurement, Text

Language = Literal["en", "id"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
TEXTS: Mapping[str, Text] = {**FORM, **MESSAGES, **DRIFT}
LANGUAGE_NAMES: Mapping[Language, str] = {"en": "English", "id": "Bahasa Indonesia"}


def of(text: Text, language: Language) -> str:
    """One text in a language."""
    return text.id if language == "id" else text.en


def translate(key: str, language: Language, **values: Any) -> str:
    """A text of the catalogue with its placeholders filled."""
    return of(TEXTS[key], language).format(**values)


def translate_all(key: str) -> str:
    """A text without placeholders in all languages, where the visitor's is not known."""
    return " / ".join(translate(key, language) for language in LANGUAGES)


def language_of(code: Any) -> Language:
    """The language that a switch or a browser names; English for any other."""
    return "id" if code == "id" else "en"


def preferred(accept_language: str) -> Language:
    """The best of the languages of an Accept-Language heading."""
    candidates = []
    for part in accept_language.lower().split(","):
        tag, _, quality = part.strip().partition(";")
        match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d*)?)\s*", quality)
        base = tag.split("-")[0].strip()
        # "in" is what Java called Indonesian.
        if base in ("en", "id", "in"):
            candidates.append((float(match[1]) if match else 1.0, base != "en"))
    best = max(candidates, key=lambda pair: pair[0], default=(1.0, False))
    return "id" if best[1] and best[0] > 0 else "en"


def number(value: float, language: Language, form: str = ".10g") -> str:
    """A number with the decimal sign of the language."""
    text = f"{value:{form}}"
    return text.translate(str.maketrans(",.", ".,")) if language == "id" else text


def percent(share: float) -> str:
    """A share as a whole percentage; never 0 % or 100 %, which no model knows."""
    if share < 0.01:
        return "<1%"
    return ">99%" if share > 0.99 else f"{share:.0%}"


def unit(measurement: Measurement, language: Language) -> str:
    """The unit in words, empty if there is none."""
    return of(UNITS[measurement.unit], language) if measurement.unit else ""


def label(measurement: Measurement, language: Language) -> str:
    """The label of a field, with unit and bounds."""
    name = of(measurement.label, language)
    if measurement.choices:
        return name
    low, high = (number(bound, language) for bound in (measurement.low, measurement.high))
    return f"{name} ({unit(measurement, language)}, {low}–{high})"  # noqa: RUF001 - a range


def expected(measurement: Measurement, language: Language, *, names: bool = False) -> str:
    """What a valid value is; for a table the names of the categories, not their labels."""
    if measurement.choices:
        choices = [c.name if names else of(c.label, language) for c in measurement.choices]
        return translate("one_of", language, choices=", ".join(choices))
    low, high = (number(bound, language) for bound in (measurement.low, measurement.high))
    kind = translate("whole" if measurement.step == 1 else "number", language, low=low, high=high)
    return f"{kind} {unit(measurement, language)}".strip()


def value_of(measurement: Measurement, value: Any, language: Language) -> str:
    """A value as people write it: with its unit, or the label of its category."""
    for choice in measurement.choices:
        if choice.name == value:
            return of(choice.label, language)
    if isinstance(value, int | float):
        return f"{number(value, language)} {unit(measurement, language)}".strip()
    return str(value)


def for_browser(language: Language) -> dict[str, str]:
    """The texts of the form by key, for the browser to choose from."""
    texts = {key: of(text, language) for key, text in FORM.items()}
    for measurement in (*MEASUREMENTS, OUTCOME):
        texts[measurement.name] = label(measurement, language)
        for choice in measurement.choices:
            texts[f"{measurement.name}_{choice.name}"] = of(choice.label, language)
    # A prefix, since Gradio has keys of its own.
    return {f"heart_{key}": text for key, text in texts.items()}
