"""Texts and numbers in a language.

Texts made on the server take the language as an argument. Those of the form are also sent to the
browser, which chooses the language at first.
"""

import re
from collections.abc import Mapping
from typing import Any

from heart.locale.catalog import CATALOGS, DEFAULT
from heart.schema import MEASUREMENTS, OUTCOME, Measurement

MINUS = "−"  # noqa: RUF001 - as wide as the plus
Language = str  # a key of CATALOGS
LANGUAGES: tuple[Language, ...] = tuple(CATALOGS)
LANGUAGE_NAMES: Mapping[Language, str] = {code: texts.name for code, texts in CATALOGS.items()}
# Of a browser's language, without the region.
LANGUAGE_TAGS: Mapping[str, Language] = {
    tag: code for code, texts in CATALOGS.items() for tag in texts.tags
}


def translate(key: str, language: Language, **values: Any) -> str:
    """A text of the catalog with its placeholders filled."""
    return CATALOGS[language].texts[key].format(**values)


def translate_all(key: str) -> str:
    """A text without placeholders in all languages, for a visitor whose language is unknown."""
    return " / ".join(translate(key, language) for language in LANGUAGES)


def language_of(code: Any) -> Language:
    """The language that the page's switch names; the default for any other."""
    return code if isinstance(code, str) and code in CATALOGS else DEFAULT


def preferred(accept_language: str) -> Language:
    """The best of the languages of an Accept-Language header."""
    candidates = [(0.0, DEFAULT)]
    for part in accept_language.lower().split(","):
        tag, _, quality = part.strip().partition(";")
        match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d*)?)\s*", quality)
        language = LANGUAGE_TAGS.get(tag.split("-")[0].strip())
        if language:
            candidates.append((float(match[1]) if match else 1.0, language))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def number(value: float, language: Language, form: str = ".10g") -> str:
    """A number with the decimal sign of the language."""
    signs = CATALOGS[language].decimal + CATALOGS[language].thousands
    return f"{value:{form}}".translate(str.maketrans(".,", signs))


def percent(share: float) -> str:
    """A share as a whole percentage; never 0 % or 100 %, which no model can predict."""
    if share < 0.01:
        return "<1%"
    return ">99%" if share > 0.99 else f"{share:.0%}"


def label(measurement: Measurement, language: Language) -> str:
    """The name of a measurement."""
    return CATALOGS[language].measurements[measurement.name]


def category_label(measurement: Measurement, category: str, language: Language) -> str:
    """The name of a category of a measurement."""
    return CATALOGS[language].categories[measurement.name][category]


def category_labels(measurement: Measurement, language: Language) -> dict[str, str]:
    """The names of all categories of a measurement, in the schema's order."""
    return {c.name: category_label(measurement, c.name, language) for c in measurement.choices}


def unit(measurement: Measurement, language: Language) -> str:
    """The unit, empty if there is none."""
    return CATALOGS[language].units[measurement.unit] if measurement.unit else ""


def field_label(measurement: Measurement, language: Language) -> str:
    """The label of a field, with unit and bounds."""
    name = label(measurement, language)
    if measurement.choices:
        return name
    return f"{name} ({unit(measurement, language)}, {bounds(measurement, language)})"


def bounds(measurement: Measurement, language: Language) -> str:
    """The range of a number; in words if a sign would stand beside the dash."""
    low, high = (number(bound, language) for bound in (measurement.low, measurement.high))
    if measurement.low < 0:
        return translate("answer.range", language, low=low, high=high).replace("-", MINUS)
    return f"{low}–{high}"  # noqa: RUF001 - a range


def expected(measurement: Measurement, language: Language, *, names: bool = False) -> str:
    """A description of the valid values; `names` uses the names of categories, not their labels."""
    if measurement.choices:
        labels = category_labels(measurement, language)
        return translate(
            "input.one_of", language, choices=", ".join(labels if names else labels.values())
        )
    low, high = (number(bound, language) for bound in (measurement.low, measurement.high))
    key = "input.whole_number" if measurement.step == 1 else "input.number"
    return f"{translate(key, language, low=low, high=high)} {unit(measurement, language)}".strip()


def value_of(measurement: Measurement, value: Any, language: Language) -> str:
    """A value with its unit, or the label of its category."""
    if any(choice.name == value for choice in measurement.choices):
        return category_label(measurement, value, language)
    if isinstance(value, int | float):
        return f"{number(value, language)} {unit(measurement, language)}".strip()
    return str(value)


def form_texts(language: Language) -> dict[str, str]:
    """The texts of the form by the keys that its components have."""
    catalog = CATALOGS[language]
    texts = dict(catalog.form)
    texts |= {f"group_{name}": text for name, text in catalog.measurement_groups.items()}
    texts |= {f"source_{name}": text for name, text in catalog.sources.items()}
    for measurement in (*MEASUREMENTS, OUTCOME):
        texts[measurement.name] = field_label(measurement, language)
        for category, text in category_labels(measurement, language).items():
            texts[f"{measurement.name}_{category}"] = text
    return texts


def browser_texts(language: Language) -> dict[str, str]:
    """The texts of the form for Gradio, with a prefix that separates them from Gradio's own texts."""
    return {f"heart_{key}": text for key, text in form_texts(language).items()}
