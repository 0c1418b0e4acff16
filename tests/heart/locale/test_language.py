"""Which language a visitor gets, and numbers as a language writes them."""

import pytest

from heart.locale.language import language_of, number, percent, preferred


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "en"),
        ("id", "id"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,en;q=0.9,id;q=0.8", "en"),
        ("de,in;q=0.3", "id"),
        ("id;q=0,en;q=0.1", "en"),
        ("id;q=0", "en"),
        (";;,q=,*", "en"),
    ],
)
def test_the_language_is_the_one_that_is_preferred(header: str, expected: str) -> None:
    assert preferred(header) == expected


@pytest.mark.parametrize("value", ["de", "", None, ["id"], {"id": 1}, 7])
def test_an_unknown_language_is_the_default(value: object) -> None:
    assert language_of("id") == "id"
    assert language_of(value) == "en"


def test_numbers_are_written_as_the_language_writes_them() -> None:
    assert number(1234.5, "id", ",.1f") == "1.234,5"
    assert number(1234.5, "en", ",.1f") == "1,234.5"
    assert [percent(share) for share in (0.001, 0.284, 0.999)] == ["<1%", "28%", ">99%"]
