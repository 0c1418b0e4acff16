"""The texts of the YAML tables, filled with figures: `{evaluate.roc_auc:interval}` names a document and a key.

A document is a JSON or YAML file, or what the registry and the schema know; `FILES` has their names. A figure that a
document lacks is "not available", and so is a text none of whose figures are there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from heart.schema import NAMES, OUTCOME, SECOND_EXAM, fingerprint

NOT_AVAILABLE = "not available"
FOLDER = "heart/governance"
STAGES = ("prepare", "split", "synthesize", "merge", "train", "reference", "evaluate", "register")
FILES = {
    **{stage: f"metrics/{stage}.json" for stage in STAGES},
    "params": "params.yaml",
    "facts": f"{FOLDER}/facts.yaml",
    "data": f"{FOLDER}/data_sets.yaml",
    "schema": "heart/schema.py",
    "version": "the version's tags in the registry",
    "validation": "reports/validation.json",
}

Documents = Mapping[str, Any]


class UnknownKey(LookupError):
    """A placeholder names a key that its document does not have."""


@dataclass(frozen=True)
class Answer:
    """A filled text, and where its parts come from: file and key."""

    text: str
    sources: tuple[str, ...] = ()
    available: bool = True


@dataclass(frozen=True)
class Figure:
    """What a placeholder names, with the mapping that holds it, for the ends of its interval."""

    value: Any
    parent: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


@cache
def table(name: str) -> Any:
    """One of the YAML tables beside this module."""
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))


def common(raw_md5: str) -> dict[str, Any]:
    """The documents that every version has; `raw_md5` says whether the origin of its patients is known."""
    return {
        "facts": table("facts"),
        "data": table("data_sets").get(raw_md5, {}),
        "schema": {
            "measurements": list(NAMES),
            "number": len(NAMES),
            "further_tests": list(SECOND_EXAM),
            "outcome": OUTCOME.name,
            "fingerprint": fingerprint(),
        },
    }


def look_up(name: str, documents: Documents) -> Figure:
    """The figure of a placeholder. Raises UnknownKey."""
    parent: Any = documents
    *path, key = name.split(".")
    for step in path:
        parent = parent.get(step) if isinstance(parent, Mapping) else None
    if not isinstance(parent, Mapping) or key not in parent:
        raise UnknownKey(name)
    return Figure(parent[key], parent, key)


def source(name: str) -> str:
    """File and key of a placeholder, for people."""
    document, _, key = name.partition(".")
    return f"{FILES[document]}: {key}"


def placeholders(text: str) -> Iterator[tuple[str, str, str]]:
    """The parts of a text: what stands before a placeholder, its name (empty at the end), its format."""
    for before, name, form, _ in Formatter().parse(text):
        yield before, name or "", form or ""


def answer(text: str | None, documents: Documents) -> Answer:
    """A text of a table, filled."""
    if text is None:
        return Answer(NOT_AVAILABLE, available=False)
    parts: list[str] = []
    sources: list[str] = []
    available: list[bool] = []
    for before, name, form in placeholders(text):
        parts.append(before)
        if name:
            part = _figure(name, form, documents)
            parts.append(part.text)
            sources += part.sources
            available.append(part.available)
    if available and not any(available):
        return Answer(NOT_AVAILABLE, available=False)
    return Answer("".join(parts), tuple(dict.fromkeys(sources)))


def _figure(name: str, form: str, documents: Documents) -> Answer:
    try:
        figure = look_up(name, documents)
    except UnknownKey:
        return Answer(NOT_AVAILABLE, available=False)
    if figure.value is None:
        return Answer(NOT_AVAILABLE, available=False)
    if name.startswith(("facts.", "data.")):  # a text of a table, with placeholders of its own
        inner = answer(str(figure.value), documents)
        return Answer(inner.text, (source(name), *inner.sources), inner.available)
    return Answer(as_text(figure, form), (source(name),))


def as_text(figure: Figure, form: str) -> str:
    """A figure in one of the formats of the tables (`FORMS`), or in one of Python's."""
    return FORMS[form](figure) if form in FORMS else format(figure.value, form)


FORMS: Mapping[str, Callable[[Figure], str]] = {
    "interval": lambda figure: with_interval(figure.parent, figure.key),
    "words": lambda figure: str(figure.value).replace("_", " "),
    "list": lambda figure: ", ".join(map(str, figure.value)).replace("_", " ") or "none",
    "counts": lambda figure: _pairs({key: f"{n:.3g}" for key, n in figure.value.items()}),
    # Of groups of patients:
    "sizes": lambda figure: _pairs(
        {key: group.get("rows", group.get("patients")) for key, group in figure.value.items()}
    ),
    "roc_auc": lambda figure: _pairs(
        {key: with_interval(group, "roc_auc") for key, group in figure.value.items()}
    ),
}


def _pairs(texts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in texts.items()) or "none"


def with_interval(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its interval if it has one, or a dash where it cannot be computed."""
    if figures[name] is None:
        return "-"
    if f"{name}_low" not in figures:
        return f"{figures[name]:.3f}"
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f} to {figures[f'{name}_high']:.3f})"
