"""HTML that several parts of the page are made of. Whatever is put into it is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from heart.locale.language import Language, say

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def message_html(text: str, language: Language, kind: str = "info") -> str:
    """A sentence instead of an answer; `kind` is info, good, warn or bad."""
    role = "alert" if kind == "bad" else "status"
    return f'<p class="message {kind}" role="{role}" lang="{language}">{escape(text)}</p>'


def note_html(version: str | None, language: Language) -> str:
    """The permanent note."""
    model = (
        say("no_model", language)
        if version is None
        else say("model_version", language, version=version)
    )
    text = f"<strong>{escape(say('note', language))}</strong> {escape(model)}"
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
    return f"<td{short}>{escape(text)}</td>"
