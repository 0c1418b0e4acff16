"""No text of the project's tables is a formula to a spreadsheet."""

import csv
import io
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heart.spreadsheet import harmless
from serve.batch.spreadsheet import harmless_column
from tests.heart.spreadsheet_reader import FORMULAS, NO_FORMULAS, formulas

TEXTS = st.text(st.sampled_from(list("=+-@＝;,\t\r\n \"'aA1.")), max_size=8)  # noqa: RUF001


def written(text: str, quoting: Literal[0, 1, 2, 3]) -> str:
    """A line of CSV with a text in both places that a spreadsheet may split differently."""
    file = io.StringIO()
    csv.writer(file, quoting=quoting).writerow([text, "x", text])
    return file.getvalue()


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text_that_can_still_be_read(text: str) -> None:
    line = written(text, csv.QUOTE_MINIMAL)
    assert formulas(line) or text == "\tx"  # of which a spreadsheet may drop the tab
    assert formulas(written(harmless(text), csv.QUOTE_MINIMAL)) == set()
    assert harmless(text).replace("'", "") == text
    assert harmless(text) != text


@pytest.mark.parametrize("text", NO_FORMULAS)
def test_numbers_and_other_text_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS)
def test_no_text_is_a_formula_and_columns_are_as_single_texts(text: str) -> None:
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        assert formulas(written(harmless(text), quoting)) == set()
    column = pa.array([text, None, "ward"])
    assert harmless_column(column).to_pylist() == [harmless(text), None, "ward"]
