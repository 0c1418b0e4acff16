"""Parts of the tabs: texts that the browser chooses, headings, fields, and scripts of `static/`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heart.dataset.codings import AUTO
from heart.dataset.codings import NAMES as CODINGS
from heart.drift.baseline import COLUMNS
from heart.locale.language import Language, category_labels, field_label, form_texts
from heart.predictions.tables import SOURCES
from heart.schema import BY_NAME, OUTCOME, Measurement
from heart.web.drift import feature_label
from serve.ui.callbacks import NOT_MEASURED
from serve.ui.templates import page_html
from serve.ui.units import cholesterol_label

# Options of an event: no queue, which would be state of one process, and not in Gradio's API.
PLAIN: dict[str, Any] = {"queue": False, "api_visibility": "private"}
# Headings with a text that explains them.
HINTS = {"group_second_exam": "group_second_exam_how"}
# Keys of texts that stand in an element of HTML without a heading or a paragraph.
PLAIN_TEXTS = ("changed", "scoring", "upload")


def static(name: str, **values: Any) -> str:
    """The content of a script, with `__NAME__` replaced by the value of that name as JSON."""
    script = (Path(__file__).parent / "static" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        script = script.replace(f"__{key.upper()}__", json.dumps(value))
    return script


def browser_text(name: str) -> Any:
    """A text that the browser chooses by its language."""
    from gradio.i18n import I18nData

    return I18nData(f"heart_{name}")


def heading(key: str, language: Language, level: int) -> str:
    """A text of the form as a heading, with the text that explains it, if there is one."""
    texts = form_texts(language)
    hint = texts[HINTS[key]] if key in HINTS else ""
    return page_html("heading", language, text=texts[key], level=level, hint=hint)


def translations(translated: Mapping[str, Any], language: Language) -> list[Any]:
    """The updates of the components, which have the keys of their texts, in their order."""
    import gradio as gr

    texts = form_texts(language)
    updates: list[Any] = []
    for key, component in translated.items():
        if key in BY_NAME:
            updates.append(gr.update(**_field_texts(BY_NAME[key], language)))
        elif isinstance(component, gr.HTML):
            updates.append(_html(key, language))
        elif isinstance(component, gr.Button):
            updates.append(gr.update(value=texts[key]))
        else:
            updates.append(gr.update(label=texts[key], **_more(key, language)))
    return updates


def _html(key: str, language: Language) -> str:
    text = form_texts(language)[key]
    if key in PLAIN_TEXTS:
        return text
    if key == "outcome_intro":
        return page_html("paragraph", language, text=text)
    return heading(key, language, 1 if key == "title" else 2)


def _field_texts(measurement: Measurement, language: Language) -> dict[str, Any]:
    text = field_label(measurement, language)
    if measurement.name == "cholesterol":
        text = cholesterol_label(language)
    texts: dict[str, Any] = {"label": text}
    if measurement.choices:
        texts["choices"] = _choices(measurement, language)
        if not measurement.required:
            not_measured = form_texts(language)["not_measured"]
            texts["choices"].append((not_measured, NOT_MEASURED))
    return texts


def _choices(measurement: Measurement, language: Language) -> list[tuple[str, str]]:
    """The choices of a radio: label and value."""
    return [(text, name) for name, text in category_labels(measurement, language).items()]


def _more(key: str, language: Language) -> dict[str, Any]:
    """The properties of a component that depend on the language, beside its label."""
    texts = form_texts(language)
    if key == "language":
        return {"value": language}
    if key == "prediction_id":
        return {"info": texts["prediction_id_info"]}
    choices: dict[str, Callable[[], list[tuple[Any, Any]]]] = {
        "drift_feature": lambda: [
            (texts["drift_largest"], ""),
            *((feature_label(name, language), name) for name in COLUMNS),
        ],
        "coding": lambda: [(texts["coding_auto"], AUTO), *((name, name) for name in CODINGS)],
        "outcome": lambda: _choices(OUTCOME, language),
        "source": lambda: [(texts[f"source_{source}"], source) for source in SOURCES],
    }
    return {"choices": choices[key]()} if key in choices else {}
