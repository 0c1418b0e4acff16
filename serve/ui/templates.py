"""The templates of the page."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from heart.locale.language import Language, percent
from heart.web.templates import environment, render

_TEMPLATES = environment(Path(__file__).parent / "templates")
_TEMPLATES.filters["percent"] = percent


def page_html(name: str, language: Language, **values: Any) -> Markup:
    """A part of the page, from the template of that name."""
    return render(_TEMPLATES, f"{name}.html", language, **values)
