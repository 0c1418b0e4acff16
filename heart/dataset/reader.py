"""A table of patients as it came: a file in any known layout, cell by cell, not yet judged.

Text (with commas, semicolons, tabs or spaces, or ARFF), spreadsheets and Parquet are read alike. Columns
are held by their distinct cells, so that a million rows cost little more than their reading.
"""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from heart.dataset import headings, layout
from heart.dataset.headings import Columns
from heart.dataset.likelihood import Cells
from heart.errors import UserError
from heart.schema import MEASUREMENTS, OUTCOME, SchemaError

SHOWN = 20
CHUNK = 1 << 22
SPREADSHEET_MARKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # of .xlsx and .ods, of .xls
TEXT = pa.dictionary(pa.int32(), pa.string())

Lines = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Options:
    """Which columns a table must have, and what becomes of those that are no measurements.

    `keep` and `ignore` are headings; `settings` are what a user sets them with.
    """

    required: tuple[str, ...] = tuple(m.name for m in (*MEASUREMENTS, OUTCOME) if m.required)
    keep: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    settings: tuple[str, str] = ("prepare.keep", "prepare.ignore")


TO_TRAIN = Options()
TO_SCORE = Options(required=tuple(m.name for m in MEASUREMENTS if m.required))


@dataclass(frozen=True)
class RawTable:
    """A file as it was read: cells as text, and the line on which each row stands.

    `columns` are the measurements, the outcome and what is kept, by name; `bad_lines` are the lines that
    do not have `width` cells, and how many they have; `layout` describes the file for people.
    """

    name: str
    columns: dict[str, Cells]
    lines: Lines
    matched: Columns
    layout: str
    width: int = 0
    bad_lines: list[tuple[int, int]] = field(default_factory=list)

    @property
    def headings(self) -> list[str]:
        """The headings in plain form, which may tell the coding."""
        return [headings.plain(heading) for heading in self.matched.headings]


def read(path: Path, options: Options = TO_TRAIN) -> RawTable:
    """Read a file; its content tells its kind, whatever its name is. Raises UserError."""
    with path.open("rb") as file:
        start = file.read(layout.START_BYTES)
    if start.startswith(b"PAR1"):
        return _read_parquet(path, options)
    if start.startswith(SPREADSHEET_MARKS):
        return read_text(sheet_as_csv(path.read_bytes(), str(path)), str(path), options)
    text_layout = layout.detect(start, str(path))
    if not text_layout.simple or not _is_utf8(path):
        return read_text(path.read_bytes(), str(path), options)
    return _table(path, text_layout, _match(text_layout, str(path), options), str(path))


def read_text(data: bytes, name: str, options: Options = TO_TRAIN) -> RawTable:
    """Read the content of a text file; errors start with its name. Raises UserError."""
    text_layout = layout.detect(data, name)
    columns = _match(text_layout, name, options)
    if not text_layout.simple:
        data = layout.plain_csv(data, text_layout)
    try:
        data.decode()
    except UnicodeDecodeError:  # far into the file
        data = data.decode("latin-1").encode()
    return _table(pa.BufferReader(data), text_layout, columns, name)


def _is_utf8(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        try:
            while file.read(CHUNK):
                pass
        except UnicodeDecodeError:
            return False
    return True


def _match(text_layout: layout.Layout, name: str, options: Options) -> Columns:
    """What the columns of a text file are. Raises UserError."""
    line = f"line {text_layout.first_line - 1}"
    if not text_layout.heading:
        columns = headings.HEADLESS[: text_layout.width]
        return _match_headings(columns, name, "no heading", options)
    return _match_headings(text_layout.heading, name, line, options)


def _match_headings(cells: Collection[str], name: str, place: str, options: Options) -> Columns:
    try:
        return headings.match(
            list(cells),
            required=options.required,
            keep=options.keep,
            ignore=options.ignore,
            settings=options.settings,
        )
    except SchemaError as error:
        problems = [f"{place}: {problem}" for problem in str(error).split("\n")]
        expected = (
            f"expected {', '.join(headings.COLUMNS)} (or the names of the files in circulation)"
        )
        raise UserError(listed(name, problems) + f"\n{expected}") from None


def _table(source: Any, text_layout: layout.Layout, columns: Columns, name: str) -> RawTable:
    """The patients of a text in UTF-8. Raises UserError."""
    table, lines, bad = _parse(source, text_layout, columns, name)
    kept = np.array(lines >= text_layout.first_line)
    cells = {column: _cells(table.column(column)) for column in columns.used}
    blank = np.all([_blank(column) for column in cells.values()], axis=0)
    kept &= ~blank
    bad_lines = [(line, width) for line, width in bad if line >= text_layout.first_line]
    if not kept.any() and not bad_lines:
        raise UserError(f"{name}: no rows, expected at least one patient")
    rows = {column: _only(column_cells, kept) for column, column_cells in cells.items()}
    description, width = text_layout.description, text_layout.width
    return RawTable(name, rows, lines[kept], columns, description, width, bad_lines)


def _parse(
    source: Any, text_layout: layout.Layout, columns: Columns, name: str
) -> tuple[pa.Table, Lines, list[tuple[int, int]]]:
    """All lines as text, the line of each row, and line and width of those of another width."""
    bad: list[tuple[int, int]] = []
    skipped: list[int] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        if row.text.strip():
            bad.append((row.number, row.actual_columns))
        skipped.append(row.number)
        return "skip"

    names = [column or f"\0{place}" for place, column in enumerate(columns.names)]
    used = list(columns.used)
    try:
        table = pa.csv.read_csv(
            source,
            # One thread: only then does Arrow know the number of the line.
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False),
            # An empty line is kept as a row of empty cells: it counts as a line.
            parse_options=pa.csv.ParseOptions(
                delimiter=text_layout.delimiter,
                quote_char=text_layout.quote,
                invalid_row_handler=skip,
                ignore_empty_lines=False,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=used,
                column_types=dict.fromkeys(used, TEXT),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: not a table as text: {error}") from None
    lines = np.arange(1, 1 + table.num_rows + len(skipped))
    return table, lines[~np.isin(lines, skipped)], bad


def _cells(column: pa.ChunkedArray) -> Cells:
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of an empty table
        whole = whole.chunk(0)
    return Cells([text or "" for text in whole.dictionary.to_pylist()], whole.indices.to_numpy())


def _blank(cells: Cells) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which cells [n] hold nothing."""
    blank = np.array([not text.strip() for text in cells.texts], dtype=bool)
    return np.asarray(blank[cells.positions])


def _only(cells: Cells, rows: "np.ndarray[Any, np.dtype[np.bool_]]") -> Cells:
    """Some of the rows of a column, with those distinct cells that they have."""
    used, positions = np.unique(cells.positions[rows], return_inverse=True)
    return Cells([cells.texts[place] for place in used.tolist()], positions.astype(np.int32))


def sheet_as_csv(data: bytes, name: str) -> bytes:
    """The only sheet of a spreadsheet that holds anything, as CSV with the same lines. Raises UserError."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = {
            sheet: book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
            for sheet in book.sheet_names
        }
    except CalamineError as error:
        raise UserError(f"{name}: not a spreadsheet that can be read: {error}") from None
    full = {sheet: rows for sheet, rows in sheets.items() if any(map(any, rows))}
    if len(full) > 1:
        raise UserError(
            f"{name}: {len(full)} sheets hold something ({', '.join(full)}), expected one: "
            "save the sheet with the patients as a file of its own"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for rows in full.values():
        writer.writerows([[_cell_text(cell) for cell in row] for row in rows])
    return out.getvalue().encode()


def _cell_text(cell: Any) -> str:
    """A cell of a spreadsheet as text: whole numbers without a decimal point."""
    text = f"{cell:.15g}" if isinstance(cell, float) else str(cell)
    return " ".join(text.split())


def _read_parquet(path: Path, options: Options) -> RawTable:
    """Read a Parquet file; its lines are numbered from 1. Raises UserError."""
    try:
        schema = pq.read_schema(path)
        columns = _match_headings(schema.names, str(path), "columns", options)
        table = pq.read_table(path, columns=list(columns.used.values()))
        cells = {
            name: _cells(pc.fill_null(table.column(h).cast(pa.string()), "").dictionary_encode())
            for name, h in columns.used.items()
        }
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path}: not a Parquet file that can be read: {error}") from None
    if not table.num_rows:
        raise UserError(f"{path}: no rows, expected at least one patient")
    return RawTable(str(path), cells, np.arange(1, table.num_rows + 1), columns, "Parquet")


def listed(name: object, problems: list[str]) -> str:
    """The problems of a file, the first SHOWN of them, as one error's text."""
    lines = [f"{name}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    return "\n".join(lines)
