"""The checklists have every item once, and each answer names its source."""

import json
from typing import Any

import pytest

from heart.governance.answers import FILES, NOT_AVAILABLE, table
from heart.governance.checklists import NAMES, as_json, as_markdown, checklist
from tests.heart.governance.documents import ROOT, complete

# How many parts each item of TRIPOD+AI has, and each paragraph of the source attributes.
TRIPOD = dict.fromkeys(range(1, 28), 1) | {
    3: 3,
    5: 2,
    6: 3,
    8: 3,
    9: 3,
    12: 7,
    18: 6,
    20: 3,
    23: 2,
    27: 3,
}
HTI = {1: 4, 2: 4, 3: 2, 4: 4, 5: 2, 6: 4, 7: 5, 8: 4, 9: 2}


def expected(name: str) -> list[str]:
    if name == "hti":
        roman = ("i", "ii", "iii", "iv", "v")
        return [f"{number}.{part}" for number, count in HTI.items() for part in roman[:count]]
    return [
        f"{number}{letter}"
        for number, count in TRIPOD.items()
        for letter in ("abcdefg"[:count] if count > 1 else [""])
    ]


def items(name: str, documents: dict[str, Any]) -> list[dict[str, Any]]:
    return list(json.loads(as_json(checklist(name, documents)))["items"])


@pytest.mark.parametrize(("name", "count"), [("tripod", 52), ("hti", 31)])
def test_every_item_is_there_once_and_in_order(name: str, count: int) -> None:
    numbers = [item["id"] for item in items(name, complete())]

    assert numbers == expected(name)
    assert len(numbers) == count


@pytest.mark.parametrize("name", NAMES)
def test_each_answer_names_a_source_that_exists(name: str) -> None:
    known = {*FILES.values()}

    for item in items(name, complete()):
        assert item["available"] == (item["answer"] != NOT_AVAILABLE) == bool(item["sources"])
        for source in item["sources"]:
            file = source.partition(":")[0]
            assert file in known or (ROOT / file).is_file(), source


@pytest.mark.parametrize("name", NAMES)
def test_an_item_without_an_answer_is_not_available(name: str) -> None:
    given = {item["id"]: item["available"] for item in items(name, complete())}

    silent = [number for number, entry in table(name)["items"].items() if entry["answer"] is None]
    assert silent
    assert not any(given[number] for number in silent)


def test_without_an_external_validation_its_attributes_are_not_available() -> None:
    documents = complete()
    del documents["validation"]

    given = {item["id"]: item["available"] for item in items("hti", documents)}

    assert not any(given[number] for number in ("6.i", "6.iii", "7.iii", "7.iv"))
    assert given["7.i"]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_for_people_has_one_row_for_each_item(name: str) -> None:
    content = checklist(name, complete())

    rows = [line for line in as_markdown(content).decode().splitlines() if line.startswith("| ")]

    assert len(rows) == 1 + len(content["items"])
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
