"""What the tabs are made of: texts that the browser chooses, headings, fields, files.

The browser gets the files in `static/` as they are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heart.drift.baseline import COLUMNS
from heart.locale.language import Language, label, of, translate
from heart.locale.texts import FORM
from heart.predictions.tables import SOURCES
from heart.schema import MEASUREMENTS, OUTCOME, Measurement
from heart.web.drift import label_of
from serve.ui.callbacks import NOT_MEASURED
from serve.ui.templates import page_html

# For an event: without the queue, whose state is one process's, and not in the API.
PLAIN: dict[str, Any] = {"queue": False, "api_visibility": "private"}


def static(name: str) -> str:
    """The text of a file for the browser."""
    return (Path(__file__).parent / "static" / name).read_text(encoding="utf-8")


def browser_text(name: str) -> Any:
    """A text that the browser chooses by its language."""
    from gradio.i18n import I18nData

    return I18nData(f"heart_{name}")


def heading(key: str, language: Language, level: int) -> str:
    """A text of the form as a heading."""
    return page_html("heading", language, text=translate(key, language), level=level)


def translations(translated: Mapping[str, Any], language: Language) -> list[Any]:
    """An update for each component, given by the key of its text, in their order."""
    import gradio as gr

    by_name = {measurement.name: measurement for measurement in MEASUREMENTS}
    found: list[Any] = []
    for key, component in translated.items():
        if key in by_name:
            found.append(gr.update(**_field_texts(by_name[key], language)))
        elif isinstance(component, gr.HTML):
            found.append(_title(key, language))
        elif isinstance(component, gr.Button):
            found.append(gr.update(value=translate(key, language)))
        else:
            found.append(gr.update(label=translate(key, language), **_more(key, language)))
    return found


def _title(key: str, language: Language) -> str:
    if key == "upload":
        return translate(key, language)
    if key in FORM:
        return heading(key, language, 1 if key == "title" else 2)
    return page_html("paragraph", language, text=translate(key, language))


def _field_texts(measurement: Measurement, language: Language) -> dict[str, Any]:
    texts: dict[str, Any] = {"label": label(measurement, language)}
    if measurement.choices:
        texts["choices"] = [(of(c.label, language), c.name) for c in measurement.choices]
        if not measurement.required:
            texts["choices"].append((translate("not_measured", language), NOT_MEASURED))
    return texts


def _more(key: str, language: Language) -> dict[str, Any]:
    """What a component says beside its label."""
    if key == "language":
        return {"value": language}
    if key == "drift_feature":
        named = [(label_of(name, language), name) for name in COLUMNS]
        return {"choices": [(translate("drift_largest", language), ""), *named]}
    if key == "prediction_id":
        return {"info": translate("prediction_id_info", language)}
    if key == "outcome":
        return {"choices": [(of(c.label, language), c.name) for c in OUTCOME.choices]}
    if key == "source":
        return {
            "choices": [(translate(f"source_{source}", language), source) for source in SOURCES]
        }
    return {}
