"""HTML that several parts of the page are made of. Whatever is put into it is escaped."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from heart.locale.language import Language, translate
from heart.spreadsheet import harmless

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
MAX_LENGTH = 64  # of a text in a field


def message_html(text: str, language: Language, kind: str = "info") -> str:
    """A sentence instead of an answer; `kind` is info, good, warn or bad."""
    role = "alert" if kind == "bad" else "status"
    return f'<p class="message {kind}" role="{role}" lang="{language}">{escape(text)}</p>'


def answer_to(inputs: Mapping[str, Any], answer: str, note: str, language: Language) -> str:
    """An answer with the inputs that it belongs to, by the id of their element.

    The browser compares them with those that the page shows, and marks the answer with the note
    while they differ (static/mark_stale.js). Inputs are as a browser sent them, and so not trusted.
    """
    known = escape(json.dumps({name: _plain(value) for name, value in inputs.items()}))
    return (
        f'<div data-inputs="{known}" lang="{language}">'
        f'<p class="message warn" data-note="{escape(note)}"></p>{answer}</div>'
    )


def _plain(value: Any) -> Any:
    """A value as the page's fields have it; None, as an empty one has, for what none can hold."""
    if isinstance(value, str):
        return value[:MAX_LENGTH]
    return value if isinstance(value, int | float) and abs(value) < 1e300 else None


def note_html(version: str | None, language: Language) -> str:
    """The permanent note."""
    model = (
        translate("no_model", language)
        if version is None
        else translate("model_version", language, version=version)
    )
    text = f"<strong>{escape(translate('note', language))}</strong> {escape(model)}"
    return f'<p class="note" role="note" lang="{language}">{text}</p>'


def section(title: str, inside: str, language: Language, *, hide_title: bool = False) -> str:
    hidden = ' class="unseen"' if hide_title else ""
    return f'<section class="card" lang="{language}"><h2{hidden}>{escape(title)}</h2>{inside}</section>'


def table_of(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table that scrolls by itself where it is too wide."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    body = "".join("<tr>" + "".join(_table_cell(cell) for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _table_cell(text: str) -> str:
    short = ' class="short"' if len(text) < 20 else ""
    # Copied into a spreadsheet, a cell would be a formula again.
    return f"<td{short}>{escape(harmless(text))}</td>"
