"""A table of patients as it came: in any known layout, cell by cell, not yet judged.

Its columns are held by their distinct cells (Arrow dictionaries), so that a million rows cost little
more than their reading.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from heart import files
from heart.dataset import formats
from heart.errors import UserError

SHOWN = 20

Lines = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class RawTable:
    """A file as it was read: cells as text, and the line on which each row stands."""

    path: Path
    columns: dict[str, "pd.Categorical[str]"]
    lines: Lines


def read(path: Path) -> RawTable:
    """Read a CSV file in any known layout, with or without a heading. Raises UserError."""
    heading, width = _heading(path)
    names = heading or list(formats.COLUMNS)
    table, lines, bad = _parse(path, names)
    if bad:
        found = [f"line {line}: {columns} columns, expected {width}" for line, columns in bad]
        raise UserError(listed(path, found))
    columns = {name: _cells(table.column(name)) for name in names}
    patients = ~np.all([_blank(cells) for cells in columns.values()], axis=0)
    patients[: 1 if heading else 0] = False
    if not patients.any():
        raise UserError(f"{path}: no rows, expected at least one patient")
    kept = {name: cells[patients].remove_unused_categories() for name, cells in columns.items()}
    return RawTable(path, kept, lines[patients])


def _parse(path: Path, names: list[str]) -> tuple[pa.Table, Lines, list[tuple[int, int]]]:
    """All lines as text, the line of each row, and line and width of those of another width."""
    bad: list[tuple[int, int]] = []
    skipped: list[int] = []

    def odd_row(row: pa.csv.InvalidRow) -> str:
        if row.text.strip():
            bad.append((row.number, row.actual_columns))
        skipped.append(row.number)
        return "skip"

    try:
        table = pa.csv.read_csv(
            path,
            # One thread: only then does Arrow know the number of the line.
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False),
            # An empty line is kept as a row of empty cells: it counts as a line.
            parse_options=pa.csv.ParseOptions(
                invalid_row_handler=odd_row, ignore_empty_lines=False
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.dictionary(pa.int32(), pa.string())),
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8: {error}") from None
    lines = np.arange(1, 1 + table.num_rows + len(skipped))
    return table, lines[~np.isin(lines, skipped)], bad


def _cells(column: pa.ChunkedArray) -> "pd.Categorical[str]":
    whole = column.unify_dictionaries().combine_chunks()
    return pd.Categorical.from_codes(
        whole.indices.to_numpy(), categories=pd.Index(whole.dictionary.to_pylist(), dtype=object)
    )


def _blank(cells: "pd.Categorical[str]") -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which cells [n] hold nothing."""
    blank = np.array([not str(text).strip() for text in cells.categories], dtype=bool)
    return np.asarray(blank[cells.codes])


def _heading(path: Path) -> tuple[list[str] | None, int]:
    """The project's names for the columns (None in a file without heading) and their number."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise UserError(f"{path}: the file is empty, expected a table of patients")
    if b"\0" in start:
        position = start.index(b"\0")
        raise UserError(f"{path}: binary data (a NUL at byte {position}), expected a CSV file")
    try:
        first = start.split(b"\n", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line 1: not UTF-8 text: {error}") from None
    cells = [cell.strip().strip('"') for cell in first.strip().split(",")]
    if _headless(cells):
        return None, len(formats.COLUMNS)
    names = [formats.ALIASES.get(cell.lower()) for cell in cells]
    unknown = [cell for cell, name in zip(cells, names, strict=True) if name is None]
    missing = [column for column in formats.COLUMNS if column not in names]
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    problems = [
        *(f"column {cell!r} is unknown" for cell in unknown),
        *(f"column {name} is missing" for name in missing),
        *(f"column {name} occurs more than once" for name in twice),
    ]
    if problems:
        expected = f"expected {', '.join(formats.COLUMNS)} (or the UCI names for them)"
        raise UserError(listed(path, [f"line 1: {p}" for p in problems]) + f"\n{expected}")
    return [name for name in names if name], len(names)


def _headless(cells: list[str]) -> bool:
    """UCI's own files start with a patient: numbers and question marks only."""
    return any(cells) and all(
        cell in ("", "?") or cell.replace(".", "").lstrip("-").isdigit() for cell in cells
    )


def listed(path: Path, problems: list[str]) -> str:
    """The problems of a file, the first SHOWN of them, as one error's text."""
    lines = [f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def input_files() -> list[Path]:
    """The files to read. Raises UserError when labelled answers are known but not here."""
    if files.PRODUCTION.exists():
        return [files.RAW, files.PRODUCTION]
    if files.POINTER.exists():
        raise UserError(
            f"{files.POINTER} is here but {files.PRODUCTION} is not: run `dvc pull` first"
        )
    return [files.RAW]
