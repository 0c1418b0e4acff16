"""The words of the page, in both languages."""

import re
import string

import pytest

from heart.locale.drift_texts import DRIFT
from heart.locale.language import for_browser, number, percent, preferred
from heart.locale.texts import FIGURES, FORM, GROUPS, MESSAGES, UNITS
from heart.predictions.tables import SOURCES
from heart.schema import MEASUREMENTS, Text


@pytest.mark.parametrize("texts", [FORM, MESSAGES, DRIFT, UNITS, FIGURES, GROUPS])
def test_both_languages_say_the_same_with_the_same_values(texts: dict[str, Text]) -> None:
    def placeholders(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    for key, text in texts.items():
        assert text.en.strip(), key
        assert text.id.strip(), key
        assert placeholders(text.en) == placeholders(text.id), key


def test_what_the_browser_chooses_has_nothing_to_fill_in() -> None:
    for language in ("en", "id"):
        for text in for_browser(language).values():
            assert not re.search(r"[{}<>&]", text)


def test_every_unit_and_source_has_words() -> None:
    assert {m.unit for m in MEASUREMENTS if m.unit} == set(UNITS)
    assert {f"source_{source}" for source in SOURCES} <= set(FORM)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("", "en"),
        ("id", "id"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,en;q=0.9,id;q=0.8", "en"),
        ("de,in;q=0.3", "id"),
        ("id;q=0,en;q=0.1", "en"),
        (";;,q=,*", "en"),
    ],
)
def test_the_language_is_the_one_that_is_preferred(heading: str, expected: str) -> None:
    assert preferred(heading) == expected


def test_numbers_are_written_as_the_language_writes_them() -> None:
    assert number(1234.5, "id", ",.1f") == "1.234,5"
    assert number(1234.5, "en", ",.1f") == "1,234.5"
    assert [percent(share) for share in (0.001, 0.284, 0.999)] == ["<1%", "28%", ">99%"]
