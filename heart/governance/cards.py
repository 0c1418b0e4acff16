"""Model cards for programs: CHAI's applied model card as XML, and the metadata of a Hugging Face repository."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from heart.governance.answers import NOT_AVAILABLE, Documents, answer, look_up, table

CHAI = "https://mc.chai.org/v0.2/schema.xsd"
LEVEL = 95  # of the intervals, in percent


def chai(documents: Documents) -> bytes:
    """The applied model card."""
    ET.register_namespace("", CHAI)
    root = ET.Element(f"{{{CHAI}}}AppliedModelCard")
    _add(root, table("chai"), documents)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True)) + b"\n"


def _add(parent: ET.Element, content: Mapping[str, Any], documents: Documents) -> None:
    for name, value in content.items():
        element = _child(parent, name)
        if isinstance(value, Mapping):
            _add(element, value, documents)
        elif not isinstance(value, list):
            element.text = _text(answer(value, documents).text)
        elif name == "Results":
            for label, figure in results(value, documents):
                result = _child(element, "MetricResult")
                _child(result, "Label").text = _text(label)
                _child(result, "ValueJson").text = json.dumps(figure)
        else:
            for item in value:
                _add(element, item, documents)


def _text(text: str) -> str:
    """A text without characters that XML does not allow: a group may be named by a cell of a file."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def _child(parent: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{CHAI}}}{name}")


def results(entries: list[Mapping[str, str]], documents: Documents) -> Iterator[tuple[str, Any]]:
    """Label and value of each result; what is not available is left out, unless nothing is left."""
    listed = [result for entry in entries for result in _result(entry, documents)]
    yield from listed or [(NOT_AVAILABLE, {"kind": "single", "value": NOT_AVAILABLE})]


def _result(entry: Mapping[str, str], documents: Documents) -> Iterator[tuple[str, Any]]:
    if "groups" in entry:
        for name, group in look_up(entry["groups"], documents).value.items():
            label = entry["label"].replace("{group}", name.replace("_", " "))
            yield from _estimate(label, group, entry["figure"])
    else:
        figure = look_up(entry["figure"], documents)
        yield from _estimate(entry["label"], figure.parent, figure.key)


def _estimate(label: str, figures: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    if figures[key] is not None:
        ends = {"lower": figures[f"{key}_low"], "upper": figures[f"{key}_high"], "level": LEVEL}
        yield label, {"kind": "estimate_ci", "estimate": figures[key], **ends}


def hugging_face(documents: Documents, card: str) -> bytes:
    """A README.md for the Hub: metadata before the text of the version's model card."""
    metadata = _filled(table("hugging_face"), documents)
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{card}".encode()


def _filled(content: Any, documents: Documents) -> Any:
    """Nested metadata with their figures; None for a figure that is not available."""
    if isinstance(content, list):
        items = [_filled(item, documents) for item in content]
        return [item for item in items if item is not None]
    if not isinstance(content, Mapping):
        return answer(content, documents).text
    if "figure" not in content:
        return {key: _filled(value, documents) for key, value in content.items()}
    value = look_up(content["figure"], documents).value
    texts = {key: text for key, text in content.items() if key != "figure"}
    return None if value is None else texts | {"value": value}
