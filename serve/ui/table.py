"""Patients from a form or a CSV file, their errors, and the file of scores."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heart.locale.language import Language, expected, label, number, translate
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Measurement, SchemaError
from heart.spreadsheet import harmless
from serve.settings import MAX_BATCH

ECHOED = ("patient_id", OUTCOME.name)  # columns that are returned unchanged


@dataclass(frozen=True)
class Problem:
    """An error in a value; `line` is the line of a table, 0 for a form.

    `invalid` says that there is a value, which the schema does not allow; otherwise it is missing.
    """

    line: int
    name: str
    text: str
    invalid: bool = False


@dataclass(frozen=True)
class Table:
    """Patients of a table, and the columns that are returned unchanged with the scores."""

    patients: list[dict[str, Any]]
    echoed: dict[str, list[str]]


def read_form(values: Sequence[Any], language: Language) -> tuple[dict[str, Any], list[Problem]]:
    """The patient of a form, None for what was not measured, and its errors.

    `values` is what the browser sent, unchecked, in the schema's order.
    """
    patient: dict[str, Any] = {}
    problems = []
    for measurement, value in zip(MEASUREMENTS, values, strict=True):
        content = None if value in ("", None) else value
        patient[measurement.name], problem = _read(measurement, content, language)
        if problem:
            problems.append(Problem(0, measurement.name, problem, content is not None))
    return patient, problems


def read_table(data: bytes, language: Language) -> tuple[Table, list[Problem]]:
    """The patients of a CSV file with the schema's columns, and the errors by line.

    Spreadsheets separate by semicolons where the decimal sign is a comma: such files are read too.
    """
    nothing = Table([], {})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return nothing, [Problem(1, "", translate("table.not_text", language))]
    first = text.split("\n", 1)[0]
    semicolons = ";" in first and "," not in first
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
    try:
        heading = [cell.strip() for cell in next(lines, [])]
        if problems := _heading_problems(heading, language):
            return nothing, problems
        return _read_lines(lines, heading, semicolons, language)
    except csv.Error:
        return nothing, [Problem(lines.line_num, "", translate("table.not_csv", language))]


def _heading_problems(heading: Sequence[str], language: Language) -> list[Problem]:
    errors = [
        ("table.missing_column", m.name)
        for m in MEASUREMENTS
        if m.required and m.name not in heading
    ]
    columns = (*NAMES, *ECHOED)
    errors += [("table.unknown_column", name) for name in heading if name not in columns]
    errors += [("table.duplicate_column", name) for name in columns if heading.count(name) > 1]
    return [Problem(1, name, translate(key, language, column=name[:40])) for key, name in errors]


def _read_lines(
    lines: Any, heading: Sequence[str], semicolons: bool, language: Language
) -> tuple[Table, list[Problem]]:
    problems: list[Problem] = []
    table = Table([], {name: [] for name in ECHOED if name in heading})
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(heading):
            text = translate("table.cell_count", language, cells=len(cells), expected=len(heading))
            problems.append(Problem(lines.line_num, "", text))
            continue
        if len(table.patients) == MAX_BATCH:
            limit = number(MAX_BATCH, language, ",d")
            text = translate("table.too_many", language, rows=limit)
            return table, [Problem(lines.line_num, "", text)]
        row = dict(zip(heading, (cell.strip() for cell in cells), strict=True))
        table.patients.append(_read_line(row, lines.line_num, semicolons, problems, language))
        for name, column in table.echoed.items():
            column.append(row[name])
    if not table.patients and not problems:
        problems.append(Problem(1, "", translate("table.no_rows", language)))
    return table, problems


def _read_line(
    row: Mapping[str, str],
    line: int,
    semicolons: bool,
    problems: list[Problem],
    language: Language,
) -> dict[str, Any]:
    patient: dict[str, Any] = {}
    for measurement in MEASUREMENTS:
        cell = row.get(measurement.name, "")
        if semicolons and not measurement.choices:
            cell = cell.replace(",", ".")
        patient[measurement.name], problem = _read(measurement, cell or None, language, names=True)
        if problem:
            problems.append(Problem(line, measurement.name, problem, cell != ""))
    return patient


def _read(
    measurement: Measurement, value: Any, language: Language, *, names: bool = False
) -> tuple[Any, str]:
    """The value for the model and the log, and its error, empty if it is valid."""
    name = measurement.name if names else label(measurement, language)
    required = translate("input.required", language, label=name) if measurement.required else ""
    if value is None:
        return None, required
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        value = "?"
    try:
        code = measurement.encode(value)
    except (SchemaError, OverflowError):
        short = isinstance(value, int | float) and abs(value) < 1e300
        text = number(value, language) if short else str(value)[:40]
        valid = expected(measurement, language, names=names)
        return None, translate("input.invalid", language, label=name, value=text, expected=valid)
    if math.isnan(code):
        return None, required
    return (measurement.choices[int(code)].name if measurement.choices else code), ""


def scored_csv(table: Table, answers: Sequence[Mapping[str, Any]]) -> str:
    """The table with the answers behind the measurements, in the order of the lines."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    added = ("probability", "prediction", "model_version", "prediction_id")
    out.writerow([*table.echoed, *NAMES, *added])
    for row, (patient, answer) in enumerate(zip(table.patients, answers, strict=True)):
        out.writerow(
            [
                *(harmless(column[row]) for column in table.echoed.values()),
                *(_cell(patient[name]) for name in NAMES),
                f"{answer['probability']:.6f}",
                *(answer[name] for name in added[1:]),
            ]
        )
    return file.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
