"""The tab for tables, as HTML: the format, the errors of a table, and its scores."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from heart.locale.language import Language, expected, label, number, percent, translate, value_of
from heart.schema import BY_NAME, MEASUREMENTS, OUTCOME
from serve.patient_table import ECHOED, PatientTable
from serve.settings import MAX_BATCH
from serve.ui.table import Problem, scored_csv, template_csv
from serve.ui.templates import page_html

MAX_ROWS = 20  # of a table on the page
# A prediction compares the risk with the threshold; it is no diagnosis.
PREDICTIONS = dict(
    zip((c.name for c in OUTCOME.choices), ("table.below", "table.above"), strict=True)
)


def problems_html(problems: Sequence[Problem], language: Language) -> Markup:
    """The errors of a form."""
    return page_html("problems", language, problems=problems)


def table_help_html(language: Language) -> Markup:
    """The format of a table of patients."""
    rows, echoed = number(MAX_BATCH, language, ",d"), ", ".join(ECHOED)
    return page_html(
        "table_help",
        language,
        intro=translate("table.intro", language, rows=rows, echoed=echoed),
        template=b64encode(template_csv().encode()).decode(),
        rows=[
            [m.name, label(m, language), expected(m, language, names=True)] for m in MEASUREMENTS
        ],
    )


def table_problems_html(problems: Sequence[Problem], language: Language) -> Markup:
    """The first errors of a table, by line."""
    ordered = sorted(problems, key=lambda problem: problem.line)[:MAX_ROWS]
    rows = [[str(problem.line), problem.name[:40], problem.text] for problem in ordered]
    return page_html("table_problems", language, errors=len(problems), rows=rows)


def unreadable_table_html(text: str, language: Language) -> Markup:
    """Why a table cannot be read, in the words of `make score`, which are English."""
    return page_html("unreadable_table", language, text=text)


def scored_html(
    table: PatientTable, answers: Sequence[Mapping[str, Any]], language: Language
) -> Markup:
    """The first scores of a table, and all scores as a file inside the page."""
    heading = [
        *table.echoed,
        label(BY_NAME["age"], language),
        label(BY_NAME["sex"], language),
        translate("table.risk", language),
        translate("table.prediction", language, threshold=percent(answers[0]["threshold"])),
    ]
    return page_html(
        "scored",
        language,
        patients=len(answers),
        read_as=table.read_as,
        ignored=[name for name in table.ignored if name],
        file=b64encode(scored_csv(table, answers).encode()).decode(),
        heading=heading,
        rows=[
            _scored_row(table, answer, row, language)
            for row, answer in enumerate(answers[:MAX_ROWS])
        ],
    )


def _scored_row(
    table: PatientTable, answer: Mapping[str, Any], row: int, language: Language
) -> list[str]:
    patient = table.patients[row]
    return [
        *(column[row] for column in table.echoed.values()),
        *(value_of(BY_NAME[name], patient[name], language) for name in ("age", "sex")),
        percent(answer["probability"]),
        translate(PREDICTIONS[answer["prediction"]], language),
    ]
