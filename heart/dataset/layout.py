"""How the text of a table is laid out: encoding, separator, line ends, heading, recognized from its start.

`plain_csv` brings every layout to the one that Arrow reads: UTF-8, lines that end in LF, cells that are
separated by one character.
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from heart.dataset import headings
from heart.errors import UserError

START_BYTES = 1 << 16
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}
SAMPLE_LINES = 20
MAX_COLUMNS = 500

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = {  # what a file starts with that is no text
    b"PK\x03\x04": "a ZIP or Excel file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
    b"\x1f\x8b": "a gzip file",
}


@dataclass(frozen=True)
class Layout:
    """The layout of a text file.

    `heading` has the cells of its first line, empty for a file that starts with a patient.
    `first_line` is the number of the line on which its patients start. A `simple` one is as
    `plain_csv` writes it, but for the separator.
    """

    encoding: str
    separator: str
    quote: str
    heading: tuple[str, ...]
    width: int
    first_line: int
    simple: bool

    @property
    def delimiter(self) -> str:
        """What separates cells once `plain_csv` has turned spaces into commas."""
        return "," if self.separator == " " else self.separator

    @property
    def description(self) -> str:
        """For people, such as "semicolons, UTF-16, no heading"."""
        parts = [SEPARATORS[self.separator]]
        if not self.encoding.startswith("utf-8"):
            parts.append(self.encoding.upper())
        return ", ".join(parts if self.heading else [*parts, "no heading"])


def detect(data: bytes, name: str) -> Layout:
    """The layout of a file with this content, or this start. Raises UserError that starts with `name`."""
    if not data.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise UserError(f"{name}: the file is empty, expected a table of patients")
    encoding = _encoding(data, name)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data[:START_BYTES])
    if _is_arff(text):
        return _arff_layout(text, encoding, name)
    lines = re.split(r"\r\n|\r|\n", text)
    if len(data) > START_BYTES and len(lines) > 1:
        lines.pop()  # cut off
    first = next(number for number, line in enumerate(lines) if line.strip())
    simple = encoding in ("utf-8", "utf-8-sig") and not re.search(r"\r(?!\n)", text)
    return _by_separator(lines[first:], name, encoding, first, simple)


def _encoding(data: bytes, name: str) -> str:
    for start, what in _FOREIGN.items():
        if data.startswith(start):
            raise UserError(f"{name}: {what}, expected a table as text")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    start = data[:START_BYTES]
    if b"\0" in start:
        for encoding, text in (("utf-16-le", start[::2]), ("utf-16-be", start[1::2])):
            if len(start) > 1 and b"\0" not in text and start.count(b"\0") >= len(start) // 2:
                return encoding
        raise UserError(
            f"{name}: binary data (a NUL at byte {start.index(0)}), expected a table as text"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _by_separator(
    lines: Sequence[str], name: str, encoding: str, first: int, simple: bool
) -> Layout:
    """The layout with the separator that gives most columns that are known. Raises UserError."""
    sample = [line for line in lines[: SAMPLE_LINES + 1] if line.strip()]
    best, most = None, 1
    for separator in SEPARATORS:
        heading, *rows = [_cells(line, separator) for line in sample]
        widths = {len(row) for row in rows}
        known = sum(headings.plain(cell) in headings.ALIASES for cell in heading)
        score = known + (widths == {len(heading)})
        if headings.headless(heading):
            score, heading = 2 * len(heading), []
        elif known and widths == {len(heading) + 1}:
            heading = ["", *heading]  # R names the rows, but has no heading for the names
        if score > most:
            width, start = len(heading) or len(_cells(sample[0], separator)), first + bool(heading)
            plain = simple and separator != " "
            best = Layout(encoding, separator, '"', tuple(heading), width, start + 1, plain)
            most = score
    if best is not None and best.width > MAX_COLUMNS:
        raise UserError(
            f"{name}, line {first + 1}: {best.width} columns, expected at most {MAX_COLUMNS}"
        )
    if best is None:
        raise UserError(
            f"{name}, line {first + 1}: no heading of a measurement and no row of 13 or 14 numbers, "
            f"expected {', '.join(headings.COLUMNS)} (or the names of the files in circulation), "
            "separated by commas, semicolons, tabs or spaces"
        )
    return best


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a line; spaces may stand at its ends, and as separators be repeated."""
    line = line.strip(" ") if separator == "\t" else line.strip()
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _is_arff(text: str) -> bool:
    return bool(re.search(r"^\s*@relation\b", text, re.IGNORECASE | re.MULTILINE))


def _arff_layout(text: str, encoding: str, name: str) -> Layout:
    """The layout of an ARFF file (Weka): attributes are the heading, "%" starts a comment."""
    heading = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if match := re.match(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)", words, re.IGNORECASE):
            heading.append(match[1].strip("'\""))
        if re.match(r"@data\b", words, re.IGNORECASE):
            return Layout(encoding, ",", "'", tuple(heading), len(heading), number + 1, False)
    raise UserError(f"{name}: an ARFF file without a line @data in its first 64 KiB")


def plain_csv(data: bytes, layout: Layout) -> bytes:
    """The lines of a file, as many as there are, in UTF-8 with LF and one separator between cells.

    Lines before the patients are empty in the result. A comment of an ARFF file is empty, too.
    """
    text = data.decode(layout.encoding, "replace")
    lines = io.StringIO(text, newline=None).read().split("\n")
    if lines and not lines[-1]:
        lines.pop()
    lines[: layout.first_line - 1] = [""] * (layout.first_line - 1)
    if layout.quote == "'":
        lines = ["" if line.lstrip().startswith("%") else line.replace("\t", " ") for line in lines]
    if layout.separator == " ":
        lines = [",".join(map(_quoted, _cells(line, " "))) for line in lines]
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(cell: str) -> str:
    return f'"{cell}"' if "," in cell or '"' in cell else cell
