"""The tab for tables, as HTML: what a table looks like, what is wrong with one, and its scores."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heart.locale.language import Language, expected, number, of, percent, translate, value_of
from heart.schema import MEASUREMENTS, OUTCOME
from heart.web.markup import message_html, table_of
from serve.explain import BY_NAME
from serve.settings import MAX_BATCH
from serve.ui.table import ECHOED, Problem, Table, scored_csv

SHOWN = 20


def problems_html(problems: Sequence[Problem], language: Language) -> str:
    """What is wrong with a form."""
    items = "".join(f"<li>{escape(problem.text)}</li>" for problem in problems)
    title = escape(translate("check", language))
    return (
        f'<div class="message bad" role="alert" lang="{language}"><strong>{title}</strong>'
        f"<ul>{items}</ul></div>"
    )


def table_help_html(language: Language) -> str:
    """What a table of patients must look like."""
    intro = translate(
        "table_intro", language, rows=number(MAX_BATCH, language, ",d"), echoed=", ".join(ECHOED)
    )
    heading = [translate(key, language) for key in ("column", "meaning", "takes")]
    rows = [
        [m.name, of(m.label, language), expected(m, language, names=True)] for m in MEASUREMENTS
    ]
    summary = escape(translate("columns", language))
    return (
        f'<div class="help" lang="{language}"><p>{escape(intro)}</p><details><summary>{summary}'
        f"</summary>{table_of(heading, rows)}</details></div>"
    )


def table_problems_html(problems: Sequence[Problem], language: Language) -> str:
    """The first errors of a table, by line."""
    ordered = sorted(problems, key=lambda problem: problem.line)[:SHOWN]
    heading = [translate(key, language) for key in ("line", "column", "problem")]
    rows = [[str(problem.line), problem.name[:40], problem.text] for problem in ordered]
    message = message_html(translate("bad_table", language, errors=len(problems)), language, "bad")
    more = f"<p>{escape(translate('bad_first', language, shown=len(rows)))}</p>"
    return message + more * (len(problems) > len(rows)) + table_of(heading, rows)


def scored_html(table: Table, answers: Sequence[Mapping[str, Any]], language: Language) -> str:
    """The first scores of a table, and the rest as a file that lies in the page itself."""
    heading = [
        *table.echoed,
        of(BY_NAME["age"].label, language),
        of(BY_NAME["sex"].label, language),
        translate("risk", language),
        of(OUTCOME.label, language),
    ]
    shown = min(len(answers), SHOWN)
    rows = [_scored_row(table, answers[row], row, language) for row in range(shown)]
    # A file on the server would hold patients; this one is forgotten with the page.
    data = b64encode(scored_csv(table, answers).encode()).decode()
    link = (
        '<p><a class="download" download="scored.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{data}">{escape(translate("download", language))}</a></p>'
    )
    first = f"<p>{escape(translate('scored_first', language, shown=shown))}</p>" * (
        shown < len(answers)
    )
    done = message_html(translate("scored", language, rows=len(answers)), language, "good")
    return done + link + first + table_of(heading, rows)


def _scored_row(table: Table, answer: Mapping[str, Any], row: int, language: Language) -> list[str]:
    patient = table.patients[row]
    return [
        *(column[row] for column in table.echoed.values()),
        *(value_of(BY_NAME[name], patient[name], language) for name in ("age", "sex")),
        percent(answer["probability"]),
        value_of(OUTCOME, answer["prediction"], language),
    ]
