"""Markdown pieces, and the figures that pages take from JSON files."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a vertical bar in a cell is escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def code(text: str) -> str:
    """Text in code font; nothing for empty text."""
    return f"`{text}`" if text else ""


@cache
def figures(path: str) -> Any:
    """The content of a JSON file; empty for one that was not written yet."""
    file = Path(path)
    return json.loads(file.read_text()) if file.exists() else {}


def figure(path: str, key: str, form: str = ".3f") -> str:
    """One figure of a JSON file; `/` separates nested keys. A dash for one that is not there."""
    value = figures(path)
    for part in key.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return "-" if value is None else format(value, form)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{1000 * seconds:.1f}"
