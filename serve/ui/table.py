"""Patients from a form or a CSV file, what is wrong with them, and a file of scores."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heart.locale.language import Language, expected, number, of, translate
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Measurement, SchemaError
from heart.spreadsheet import harmless
from serve.settings import MAX_BATCH

ECHOED = ("patient_id", OUTCOME.name)  # columns of a table that are handed back unread


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value; `line` is that of a table, 0 for a form.

    `refused` says that a value was given for a measurement, and the schema does not allow it.
    """

    line: int
    name: str
    text: str
    refused: bool = False


@dataclass(frozen=True)
class Table:
    """Patients as a table held them, and the columns that are handed back with their scores."""

    patients: list[dict[str, Any]]
    echoed: dict[str, list[str]]


def read_form(values: Sequence[Any], language: Language) -> tuple[dict[str, Any], list[Problem]]:
    """The patient of a form, None where nothing was measured, and what is wrong with it.

    `values` is whatever the browser sent, in the schema's order.
    """
    patient: dict[str, Any] = {}
    problems = []
    for measurement, value in zip(MEASUREMENTS, values, strict=True):
        given = None if value in ("", None) else value
        found, problem = _read(measurement, given, language)
        patient[measurement.name] = found
        if problem:
            problems.append(Problem(0, measurement.name, problem, given is not None))
    return patient, problems


def read_table(data: bytes, language: Language) -> tuple[Table, list[Problem]]:
    """The patients of a CSV file with the schema's columns, and what is wrong with each line.

    A file with semicolons, as spreadsheets write it where the decimal sign is a comma, is read too.
    """
    nothing = Table([], {})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return nothing, [Problem(1, "", translate("not_text", language))]
    first = text.split("\n", 1)[0]
    semicolons = ";" in first and "," not in first
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
    try:
        heading = [cell.strip() for cell in next(lines, [])]
        if problems := _heading_problems(heading, language):
            return nothing, problems
        return _read_lines(lines, heading, semicolons, language)
    except csv.Error:
        return nothing, [Problem(lines.line_num, "", translate("not_csv", language))]


def _heading_problems(heading: Sequence[str], language: Language) -> list[Problem]:
    found = [("no_column", m.name) for m in MEASUREMENTS if m.required and m.name not in heading]
    known = (*NAMES, *ECHOED)
    found += [("unknown_column", name) for name in heading if name not in known]
    found += [("twice", name) for name in known if heading.count(name) > 1]
    return [Problem(1, name, translate(key, language, column=name[:40])) for key, name in found]


def _read_lines(
    lines: Any, heading: Sequence[str], semicolons: bool, language: Language
) -> tuple[Table, list[Problem]]:
    problems: list[Problem] = []
    table = Table([], {name: [] for name in ECHOED if name in heading})
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(heading):
            text = translate("width", language, found=len(cells), expected=len(heading))
            problems.append(Problem(lines.line_num, "", text))
            continue
        if len(table.patients) == MAX_BATCH:
            return table, [
                Problem(
                    lines.line_num,
                    "",
                    translate("too_many", language, rows=number(MAX_BATCH, language, ",d")),
                )
            ]
        row = dict(zip(heading, (cell.strip() for cell in cells), strict=True))
        table.patients.append(_read_line(row, lines.line_num, semicolons, problems, language))
        for name, column in table.echoed.items():
            column.append(row[name])
    if not table.patients and not problems:
        problems.append(Problem(1, "", translate("no_rows", language)))
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
    """The value for the model and the log, and what is wrong with it if anything is."""
    name = measurement.name if names else of(measurement.label, language)
    if value is None:
        return None, translate("required", language, label=name) if measurement.required else ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        value = "?"
    try:
        code = measurement.encode(value)
    except (SchemaError, OverflowError):
        short = isinstance(value, int | float) and abs(value) < 1e300
        text = number(value, language) if short else str(value)[:40]
        meant = expected(measurement, language, names=names)
        return None, translate("refused", language, label=name, value=text, expected=meant)
    if math.isnan(code):
        return None, translate("required", language, label=name) if measurement.required else ""
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
