"""Patients from a form or a CSV file, their errors, and the file of scores."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heart.locale.language import Language, expected, label, number, translate
from heart.schema import BY_NAME, MEASUREMENTS, NAMES, Measurement, SchemaError
from heart.spreadsheet import harmless
from serve import patient_table
from serve.patient_table import InvalidTable, PatientTable, TableProblem
from serve.ui.examples import EXAMPLES
from serve.ui.units import UNIT, entered, in_schema_unit

CODING = "the coding above"
INPUTS = (*NAMES, UNIT)  # of the form, by the ids of their elements


@dataclass(frozen=True)
class Problem:
    """An error in a value; `line` is the line of a table, 0 for a form.

    `invalid` says that there is a value, which the schema does not allow; otherwise it is missing.
    """

    line: int
    name: str
    text: str
    invalid: bool = False


def read_form(values: Sequence[Any], language: Language) -> tuple[dict[str, Any], list[Problem]]:
    """The patient of a form in the schema's units, None for what was not measured, and its errors.

    `values` is what the browser sent, unchecked, in the order of INPUTS.
    """
    patient: dict[str, Any] = {}
    problems = []
    *contents, unit = values
    for measurement, value in zip(MEASUREMENTS, contents, strict=True):
        content = None if value in ("", None) else value
        as_entered = entered(measurement, unit)
        code, problem = _read(as_entered, content, language)
        patient[measurement.name] = in_schema_unit(as_entered, code)
        if problem:
            problems.append(Problem(0, measurement.name, problem, content is not None))
    return patient, problems


def read_table(data: bytes, coding: str, language: Language) -> tuple[PatientTable, list[Problem]]:
    """The patients of a text file, and the errors by line: then there are no patients.

    `coding` is "auto" or one that the visitor has chosen. Raises UserError for a file that cannot be read,
    or whose coding is in doubt.
    """
    try:
        return patient_table.read_table(data, coding, (CODING, "", "")), []
    except InvalidTable as error:
        nothing = PatientTable([], {}, "", {}, [])
        return nothing, [_problem(problem, language) for problem in error.problems]


def _problem(problem: TableProblem, language: Language) -> Problem:
    if problem.cell is None:
        text = translate(
            "table.cell_count", language, cells=problem.width, expected=problem.expected_width
        )
        return Problem(problem.line, "", text)
    measurement = BY_NAME[problem.column]
    if problem.missing:
        text = translate("input.required", language, label=problem.column)
    else:
        valid, value = expected(measurement, language, names=True), problem.cell[:40]
        text = translate(
            "input.invalid", language, label=problem.column, value=value, expected=valid
        )
    return Problem(problem.line, problem.column, text, not problem.missing)


def _read(measurement: Measurement, value: Any, language: Language) -> tuple[Any, str]:
    """The value for the model and the log, and its error, empty if it is valid."""
    name = label(measurement, language)
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
        valid = expected(measurement, language)
        return None, translate("input.invalid", language, label=name, value=text, expected=valid)
    if math.isnan(code):
        return None, required
    return (measurement.choices[int(code)].name if measurement.choices else code), ""


def template_csv() -> str:
    """A table to fill in: all columns, and the example patients as rows to replace."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["patient_id", *NAMES])
    for name, patient in EXAMPLES.items():
        out.writerow([name, *(patient.get(column, "") for column in NAMES)])
    return file.getvalue()


def scored_csv(table: PatientTable, answers: Sequence[Mapping[str, Any]]) -> str:
    """The table with the answers behind the measurements, in the order of the lines."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    added = ("probability", "prediction", "model_version", "prediction_id")
    threshold = f"{100 * answers[0]['threshold']:g} %"
    heading = {"prediction": f"prediction (threshold {threshold})"}
    out.writerow([*table.echoed, *NAMES, *(heading.get(name, name) for name in added)])
    for row, (patient, answer) in enumerate(zip(table.patients, answers, strict=True)):
        out.writerow(
            [
                *(harmless(column[row]) for column in table.echoed.values()),
                *(_cell(patient[name]) for name in NAMES),
                f"{answer['probability']:.6f}",
                *(harmless(answer[name]) for name in added[1:]),
            ]
        )
    return file.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
