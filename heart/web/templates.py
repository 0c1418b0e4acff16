"""HTML from Jinja2 templates.

A package that writes HTML has its templates in a folder `templates/` beside its modules. Values are
escaped, and a value that a template names but nobody gave is an error.
"""

from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heart.locale.language import Language, translate
from heart.spreadsheet import harmless

FOLDER = Path(__file__).parent / "templates"


def environment(folder: Path = FOLDER) -> Environment:
    """The templates of a folder; they may also import those of this package."""
    templates = Environment(
        loader=FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["harmless"] = harmless
    return templates


def render(templates: Environment, name: str, language: Language, **values: Any) -> Markup:
    """A template filled in; `language` and `t`, which translates a key, are known in each."""
    text = templates.get_template(name).render(
        values, language=language, t=partial(translate, language=language)
    )
    return Markup(text)  # noqa: S704 - the template escaped its values
