"""Checklists as tables for people (Markdown) and for programs (JSON): TRIPOD+AI and the source attributes of HTI-1."""

import json
from typing import Any

from heart.governance.answers import FOLDER, Documents, answer, table

NAMES = {"tripod": "tripod_ai", "hti": "hti_1"}  # the table and the name of its files


def checklist(name: str, documents: Documents) -> dict[str, Any]:
    """The items of a table with their answers, and where each answer comes from."""
    content = table(name)
    return {
        "title": content["title"],
        "reference": content["reference"],
        "version": answer("{version.name} {version.number}", documents).text,
        "items": [_item(name, number, entry, documents) for number, entry in content["items"].items()],
    }  # fmt: skip


def _item(name: str, number: str, entry: dict[str, str], documents: Documents) -> dict[str, Any]:
    given = answer(entry["answer"], documents)
    sources = [*given.sources, *([entry["see"]] if "see" in entry else [])]
    if given.available and not sources:
        sources = [f"{FOLDER}/{name}.yaml: {number}"]  # a fixed sentence
    return {
        "id": number,
        "item": entry["item"],
        "answer": given.text,
        "available": given.available,
        "sources": sources if given.available else [],
    }


def as_json(content: dict[str, Any]) -> bytes:
    """The checklist for programs."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def as_markdown(content: dict[str, Any]) -> bytes:
    """The checklist for people."""
    items = content["items"]
    answered = sum(item["available"] for item in items)
    rows = [
        f"| {item['id']} | {_cell(item['item'])} | {_cell(item['answer'])} | {_cell(_by_file(item['sources']))} |"
        for item in items
    ]
    return "\n".join(
        [
            f"# {content['title']}, {content['version']}",
            "",
            f"{answered} of {len(items)} items are answered. The items are in short words; the full text is at",
            f"<{content['reference']}>.",
            "",
            "| | item | answer | source |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    ).encode()


def _by_file(sources: list[str]) -> str:
    """Each file once, with its keys."""
    keys: dict[str, list[str]] = {}
    for file, _, key in (source.partition(": ") for source in sources):
        keys.setdefault(file, []).extend([key] if key else [])
    return "; ".join(
        f"{file}: {', '.join(names)}" if names else file for file, names in keys.items()
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
