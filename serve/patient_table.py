"""A file of patients as the API and the page take it: read as in stage `prepare` and batch scoring.

`heart.dataset` imports Arrow, which takes time and memory, and so only with the first table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heart.dataset.codings import parse_setting
from heart.dataset.words import is_missing
from heart.errors import UserError
from heart.schema import BY_NAME, MEASUREMENTS, OUTCOME, SchemaError
from serve.settings import MAX_BATCH

ECHOED = ("patient_id", OUTCOME.name)  # columns that are returned unchanged
MAX_PROBLEMS = 20
# Blank lines are no patients. More are rejected before they are read.
MAX_LINES = 2 * MAX_BATCH


@dataclass(frozen=True)
class TableProblem:
    """What is wrong with a line, or with the cell of a column in it.

    `cell` is None for a line with `width` cells instead of the expected number; `missing` says that the
    cell has no value, but must have one.
    """

    line: int
    column: str = ""
    cell: str | None = None
    text: str = ""
    missing: bool = False
    width: int = 0
    expected_width: int = 0


class InvalidTable(ValueError):
    """A table with bad rows: the first MAX_PROBLEMS problems, in the order of the lines."""

    def __init__(self, problems: list[TableProblem], *, complete: bool) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems
        self.complete = complete


@dataclass(frozen=True)
class PatientTable:
    """The valid patients of a table, with None for what is missing, and how it was read."""

    patients: list[dict[str, Any]]
    echoed: dict[str, list[str]]
    read_as: str
    evidence: dict[str, float]
    ignored: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """The patients, as of `serve.api.models.Batch`."""
        return self.patients

    def reading(self) -> dict[str, Any]:
        """How the table was read."""
        return {"read_as": self.read_as, "coding_log10_odds": self.evidence}


def read_table(data: bytes, coding: str, settings: tuple[str, str, str]) -> PatientTable:
    """The patients of a text file.

    `coding` is "auto", a coding, or the codings of single columns; `settings` are what a user sets it
    with: its name, and the formats of `heart.dataset.detection.Settings`. Raises UserError for a file that
    cannot be read or whose coding is in doubt, InvalidTable for bad rows.
    """
    from heart.dataset import reader, translation
    from heart.dataset.detection import Settings

    try:
        format_, columns = parse_setting(coding)
    except SchemaError as error:
        raise UserError(str(error)) from None
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_LINES:
        raise UserError(_too_many(f"more than {MAX_LINES:,} lines"))
    options = reader.Options(required=reader.TO_SCORE.required, settings=("", ""))
    table = reader.read_text(data, "the table", options)
    if len(table.lines) > MAX_BATCH:
        raise UserError(_too_many(f"{len(table.lines):,} patients"))
    detected = translation.coding_of(table, Settings(format_, columns, *settings))
    cells, problems = translation.translate(
        table, detected.coding, MEASUREMENTS, max_bad_cells=MAX_PROBLEMS
    )
    if problems or table.bad_lines:
        raise _invalid(table, problems)
    values = [_values(m.name, cells) for m in MEASUREMENTS]
    names = [m.name for m in MEASUREMENTS]
    return PatientTable(
        patients=[dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)],
        echoed={name: _texts(table.columns[name]) for name in ECHOED if name in table.columns},
        read_as=f"{table.layout}; coding {detected.coding.name}",
        evidence=dict(detected.evidence),
        ignored=table.matched.ignored,
    )


def _texts(cells: Any) -> list[str]:
    texts = [text.strip() for text in cells.texts]
    return [texts[position] for position in cells.positions.tolist()]


def _too_many(what: str) -> str:
    return f"the table has {what}, expected at most {MAX_BATCH:,} patients: use `make score`"


def _values(name: str, cells: Any) -> Iterator[Any]:
    """The values of a measurement: the names of categories, numbers, None for missing ones."""
    measurement = BY_NAME[name]
    if name not in cells:
        rows = len(next(iter(cells.values())).positions)
        return iter([None] * rows)
    texts = cells[name].texts
    known = [None if not t else t if measurement.choices else float(t) for t in texts]
    return (known[position] for position in cells[name].positions.tolist())


def _invalid(table: Any, problems: Any) -> InvalidTable:
    items = [
        TableProblem(line, width=width, expected_width=table.width)
        for line, width in table.bad_lines[:MAX_PROBLEMS]
    ]
    items += [
        TableProblem(
            int(table.lines[row]),
            problem.column,
            problem.cell,
            problem.text,
            is_missing(problem.cell),
        )
        for problem in problems
        for row in problem.rows[:MAX_PROBLEMS]
    ]
    count = len(table.bad_lines) + sum(len(problem.rows) for problem in problems)
    items.sort(key=lambda item: item.line)
    return InvalidTable(items[:MAX_PROBLEMS], complete=count <= MAX_PROBLEMS)
