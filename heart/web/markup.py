"""HTML that several parts of the page use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heart.locale.language import Language, translate
from heart.web.templates import environment, render

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
MAX_LENGTH = 64  # of a text in a field

_TEMPLATES = environment()


def message_html(text: str, language: Language, kind: str = "info") -> Markup:
    """A message; `kind` is info, good, warn or bad."""
    return render(_TEMPLATES, "message.html", language, text=text, kind=kind)


def answer_to(
    inputs: Mapping[str, Any], answer: str, note: str, language: Language, token: str = ""
) -> Markup:
    """An answer with its inputs, by the ids of their elements.

    The browser compares them with the inputs on the page and marks the answer with the note while they
    differ (static/compare_inputs.js). An answer with a `token`, which is different for each, is brought
    into view. Inputs come from a browser and are not trusted.
    """
    content = json.dumps(plain(inputs))
    values = {"inputs": content, "note": note, "answer": answer, "token": token}
    return render(_TEMPLATES, "answer_to.html", language, **values)


def plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as the page's fields have them; None, like an empty field, for what no field can have."""
    return {name: _plain(value) for name, value in inputs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_LENGTH]
    return value if isinstance(value, int | float) and abs(value) < 1e300 else None


def note_html(version: str | None, language: Language) -> Markup:
    """The permanent note."""
    model = (
        translate("page.no_model", language)
        if version is None
        else translate("page.model_version", language, version=version)
    )
    return render(_TEMPLATES, "note.html", language, model=model)
