"""From the cells of a file to the schema's texts, and what is wrong with them.

A cell is translated and checked once for each distinct text of its column, however many rows have it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from heart.dataset import codings, detection
from heart.dataset.codings import Coding
from heart.dataset.detection import Detected, Settings
from heart.dataset.likelihood import Cells
from heart.dataset.reader import Lines, RawTable
from heart.errors import UserError
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Measurement, SchemaError

SHOWN_LINES = 3


@dataclass(frozen=True)
class Problem:
    """What is wrong with the cell of a column in some rows [k], which are given by position."""

    rows: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    column: str
    cell: str
    text: str


def coding_of(table: RawTable, settings: Settings) -> Detected:
    """The coding of a table, also of its outcome. Raises UserError if it is in doubt."""
    measured = {name: cells for name, cells in table.columns.items() if name in NAMES}
    if settings.format == codings.AUTO:
        try:
            detected = detection.detect(measured, settings, table.headings)
        except SchemaError as error:
            raise UserError(f"{table.name}: {error}") from None
    else:
        detected = Detected(codings.named(settings.format, settings.columns), {})
    if OUTCOME.name not in table.columns:
        return detected
    labels = table.columns[OUTCOME.name].texts
    return Detected(codings.with_label_of(detected.coding, labels), detected.evidence)


def translate(
    table: RawTable,
    coding: Coding,
    measurements: Sequence[Measurement] = (*MEASUREMENTS, OUTCOME),
    max_bad_cells: int | None = None,
) -> tuple[dict[str, Cells], list[Problem]]:
    """The columns of a table as the schema's texts, and their problems; a bad cell is empty.

    With `max_bad_cells`, a column with so many different bad cells is not translated any further: its
    problems are those of its first lines.
    """
    problems: list[Problem] = []
    columns = {}
    for measurement in measurements:
        if measurement.name in table.columns:
            clean = partial(_measured, coding, measurement)
            cells = table.columns[measurement.name]
            columns[measurement.name] = _each(
                cells, clean, measurement.name, problems, max_bad_cells
            )
    return columns, problems


def words(table: RawTable) -> tuple[dict[str, Cells], list[Problem]]:
    """The other columns of a table, such as ids: texts that a CSV file would not have to quote."""
    problems: list[Problem] = []
    others = {n: c for n, c in table.columns.items() if n not in (*NAMES, OUTCOME.name)}
    columns = {name: _each(c, partial(_word, name), name, problems) for name, c in others.items()}
    return columns, problems


def _measured(coding: Coding, measurement: Measurement, cell: str) -> str:
    text = coding.translate(measurement.name, cell)
    if not text and measurement.required:
        raise SchemaError(f"{measurement.name} is missing, expected {measurement.expected}")
    return measurement.text(measurement.parse(text))


def _word(column: str, cell: str) -> str:
    """An id, a source or a date: nothing that would need quotes in a CSV file. Raises SchemaError."""
    text = " ".join(cell.split())
    if not re.fullmatch(r"[\w .:()/+-]{0,64}", text):
        expected = "letters, digits, spaces or any of _ . : ( ) / + -, at most 64"
        raise SchemaError(f"{column} is {cell.strip()!r}, expected {expected}")
    return text


def _each(
    cells: Cells,
    clean: Callable[[str], str],
    column: str,
    problems: list[Problem],
    max_bad_cells: int | None = None,
) -> Cells:
    """Apply `clean` to each distinct cell; what it refuses becomes a problem of all rows that have it."""
    texts = [""] * len(cells.texts)
    bad: list[tuple[int, str]] = []
    for position, cell in enumerate(cells.texts):  # in the order in which they occur
        try:
            texts[position] = clean(cell)
        except SchemaError as error:
            bad.append((position, str(error)))
            if len(bad) == max_bad_cells:
                break
    if bad:
        order = np.argsort(
            cells.positions, kind="stable"
        )  # the rows of each distinct cell together
        starts = np.searchsorted(cells.positions[order], np.arange(len(cells.texts) + 1))
        for position, reason in bad:
            rows = order[starts[position] : starts[position + 1]]
            if len(rows):
                problems.append(Problem(rows, column, cells.texts[position].strip(), reason))
    distinct = sorted(set(texts))
    place = {text: index for index, text in enumerate(distinct)}
    positions = np.array([place[text] for text in texts], dtype=np.int32)
    return Cells(distinct, positions[cells.positions])


def described(problems: Sequence[Problem], table: RawTable) -> list[str]:
    """A text for each problem, those of lines that are no row included, in the order of the lines."""
    texts = [
        (line, f"line {line}: {width} columns, expected {table.width}")
        for line, width in table.bad_lines
    ]
    for problem in problems:
        lines = table.lines[problem.rows]
        texts.append((int(lines[0]), f"{_lines(lines)}: {problem.text}"))
    return [text for _, text in sorted(texts, key=lambda pair: pair[0])]


def _lines(lines: Lines) -> str:
    shown = ", ".join(map(str, lines[:SHOWN_LINES].tolist()))
    more = f" and {len(lines) - SHOWN_LINES} more" if len(lines) > SHOWN_LINES else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
