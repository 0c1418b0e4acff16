"""What the page says about patients, as pure functions: numbers, a table of patients, drawings.

Drawings are HTML and SVG made of escaped text, each with a description for those who cannot see it.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from schema import MEASUREMENTS, NAMES, OUTCOME, Floats, Measurement, SchemaError
from serve.champion import Model
from serve.patients import MAX_BATCH, rows_of, shapley, unusual
from serve.texts import (
    FIGURES,
    GROUPS,
    Language,
    expected,
    label,
    number,
    of,
    percent,
    say,
    unit,
    value_of,
)

Patient = Mapping[str, Any]
BY_NAME = {measurement.name: measurement for measurement in MEASUREMENTS}
Z95 = 1.959964  # 95 % of a normal distribution lie within so many standard errors
ECHOED = ("patient_id", OUTCOME.name)  # columns of a table that are handed back unread
SHOWN = 20


# --- one patient ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unusual:
    """A number outside the `low` to `high` of the training patients."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Assessment:
    """All that is said about one patient.

    `low` and `high` are the 95 % interval of the risk, None if the model states none. `average` is
    the model's risk with only age and sex known, `start` with nothing known; `contributions` add up
    to `risk` - `start`. `could_be` is, for each missing measurement, the range of the risk over its
    categories or the middle 90 % of the training patients; empty where that is not known.
    """

    patient: dict[str, Any]
    version: str
    threshold: float
    risk: float
    low: float | None
    high: float | None
    average: float
    start: float
    contributions: dict[str, float]
    could_be: dict[str, tuple[float, float]]
    warnings: tuple[Unusual, ...]

    @property
    def given(self) -> int:
        """How many measurements are known."""
        return len(self.patient)

    @property
    def frequency(self) -> int:
        """Of 100 people like this, how many have the disease."""
        return round(100 * self.risk)

    @property
    def sentence(self) -> dict[Language, str]:
        """The answer in plain words, in each language."""
        return {"en": sentence(self, "en"), "id": sentence(self, "id")}


def assess(model: Model, patient: Patient) -> Assessment:
    """Everything about one valid patient, in two batches of the model. Raises SchemaError."""
    known = {name: patient[name] for name in NAMES if patient.get(name) is not None}
    row = rows_of([known])[0]
    numbers = model.training.get("numbers", {})
    owners, variants = _variants(row, numbers)
    risks = model.predict(np.vstack([row, _only(row, ("age", "sex")), *variants])).astype(float)
    contributions, start = shapley(row, model.predict)
    low, high = interval(float(risks[0]), model.standard_error(row[None]))
    return Assessment(
        patient=known,
        version=model.version,
        threshold=model.threshold,
        risk=float(risks[0]),
        low=low,
        high=high,
        average=float(risks[1]),
        start=start,
        contributions=contributions,
        could_be=_ranges(owners, risks[2:]),
        warnings=tuple(
            Unusual(name, known[name], numbers[name]["low"], numbers[name]["high"])
            for name in unusual(known, numbers)
        ),
    )


def interval(risk: float, standard_error: Floats | None) -> tuple[float | None, float | None]:
    """The 95 % interval of a risk by the standard error [1] of its logit; None if there is none.

    The uncertainty of the model's coefficients (Laplace approximation): how much the risk would vary
    had it learnt from other patients. What this patient has is another, larger uncertainty.
    """
    error = math.nan if standard_error is None else float(standard_error[0])
    if not math.isfinite(error):
        return None, None
    sure = min(max(risk, 1e-7), 1 - 1e-7)
    logit = math.log(sure / (1 - sure))
    return _expit(logit - Z95 * error), _expit(logit + Z95 * error)


def sentence(found: Assessment, language: Language) -> str:
    """The answer in plain words."""
    difference = round(100 * found.risk) - round(100 * found.average)
    direction = "same" if abs(difference) < 2 else "higher" if difference > 0 else "lower"
    text = say(
        f"sentence_{direction}",
        language,
        who=say(f"who_{found.patient['sex']}", language, age=f"{found.patient['age']:g}"),
        risk=percent(found.risk),
        average=percent(found.average),
    )
    others = {n: v for n, v in found.contributions.items() if n not in ("age", "sex")}
    for wanted, sign, key in (("higher", 1, "sentence_up"), ("lower", -1, "sentence_down")):
        top = max(others, key=lambda name: sign * others[name], default=None)
        if direction == wanted and top is not None and sign * others[top] >= 0.01:
            measurement = BY_NAME[top]
            value = value_of(measurement, found.patient[top], language)
            text += say(key, language, label=f"{of(measurement.label, language)} ({value})")
    return text + "."


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _only(row: Floats, names: Iterable[str]) -> Floats:
    kept = np.isin(NAMES, list(names))
    return np.where(kept, row, np.float32(np.nan)).astype(np.float32)


def _variants(row: Floats, numbers: Mapping[str, Any]) -> tuple[list[str], list[Floats]]:
    """The patient with one missing measurement told, for each value that it may have."""
    owners, variants = [], []
    for column, measurement in enumerate(MEASUREMENTS):
        if np.isnan(row[column]):
            for value in _possible(measurement, numbers):
                told = row.copy()
                told[column] = value
                owners.append(measurement.name)
                variants.append(told)
    return owners, variants


def _possible(measurement: Measurement, numbers: Mapping[str, Any]) -> Sequence[float]:
    if measurement.choices:
        return range(len(measurement.choices))
    quantiles: Sequence[float] = numbers.get(measurement.name, {}).get("quantiles", ())
    return quantiles


def _ranges(owners: Sequence[str], risks: Any) -> dict[str, tuple[float, float]]:
    """Lowest and highest risk for each measurement, the one that matters most first."""
    by_name: dict[str, list[float]] = {}
    for name, risk in zip(owners, risks, strict=True):
        by_name.setdefault(name, []).append(float(risk))
    ranges = {name: (min(found), max(found)) for name, found in by_name.items()}
    return dict(sorted(ranges.items(), key=lambda item: item[1][0] - item[1][1]))


# --- a form and a table of patients --------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value; `line` is that of a table, 0 for a form."""

    line: int
    name: str
    text: str


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
        found, problem = _read(measurement, None if value in ("", None) else value, language)
        patient[measurement.name] = found
        if problem:
            problems.append(Problem(0, measurement.name, problem))
    return patient, problems


def read_table(data: bytes, language: Language) -> tuple[Table, list[Problem]]:
    """The patients of a CSV file with the schema's columns, and what is wrong with each line.

    A file with semicolons, as spreadsheets write it where the decimal sign is a comma, is read too.
    """
    nothing = Table([], {})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return nothing, [Problem(1, "", say("not_text", language))]
    first = text.split("\n", 1)[0]
    semicolons = ";" in first and "," not in first
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
    try:
        heading = [cell.strip() for cell in next(lines, [])]
        if problems := _heading_problems(heading, language):
            return nothing, problems
        return _read_lines(lines, heading, semicolons, language)
    except csv.Error:
        return nothing, [Problem(lines.line_num, "", say("not_text", language))]


def _heading_problems(heading: Sequence[str], language: Language) -> list[Problem]:
    found = [("no_column", m.name) for m in MEASUREMENTS if m.required and m.name not in heading]
    known = (*NAMES, *ECHOED)
    found += [("unknown_column", name) for name in heading if name not in known]
    found += [("twice", name) for name in known if heading.count(name) > 1]
    return [Problem(1, name, say(key, language, column=name[:40])) for key, name in found]


def _read_lines(
    lines: Any, heading: Sequence[str], semicolons: bool, language: Language
) -> tuple[Table, list[Problem]]:
    problems: list[Problem] = []
    table = Table([], {name: [] for name in ECHOED if name in heading})
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(heading):
            text = say("width", language, found=len(cells), expected=len(heading))
            problems.append(Problem(lines.line_num, "", text))
            continue
        if len(table.patients) == MAX_BATCH:
            return table, [
                Problem(
                    lines.line_num,
                    "",
                    say("too_many", language, rows=number(MAX_BATCH, language, ",d")),
                )
            ]
        row = dict(zip(heading, (cell.strip() for cell in cells), strict=True))
        table.patients.append(_read_line(row, lines.line_num, semicolons, problems, language))
        for name, column in table.echoed.items():
            column.append(row[name])
    if not table.patients and not problems:
        problems.append(Problem(1, "", say("no_rows", language)))
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
            problems.append(Problem(line, measurement.name, problem))
    return patient


def _read(
    measurement: Measurement, value: Any, language: Language, *, names: bool = False
) -> tuple[Any, str]:
    """The value for the model and the log, and what is wrong with it if anything is."""
    name = measurement.name if names else of(measurement.label, language)
    if value is None:
        return None, say("required", language, label=name) if measurement.required else ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        value = "?"
    try:
        code = measurement.encode(value)
    except (SchemaError, OverflowError):
        short = isinstance(value, int | float) and abs(value) < 1e300
        text = number(value, language) if short else str(value)[:40]
        meant = expected(measurement, language, names=names)
        return None, say("refused", language, label=name, value=text, expected=meant)
    if math.isnan(code):
        return None, say("required", language, label=name) if measurement.required else ""
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
                *(_harmless(column[row]) for column in table.echoed.values()),
                *(_cell(patient[name]) for name in NAMES),
                f"{answer['probability']:.6f}",
                *(answer[name] for name in added[1:]),
            ]
        )
    return file.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


# --- drawings ------------------------------------------------------------------------------------


def answer_html(found: Assessment, prediction_id: str, language: Language) -> str:
    """The answer: number and interval, gauge, natural frequency, what moved it, what is missing."""
    parts = [
        _headline(found, language),
        gauge(found, language),
        f'<p class="sentence">{escape(sentence(found, language))}</p>',
        _warnings(found, language),
        _frequency(found, language),
        bars(found, language),
        _missing(found, language),
        f'<p class="small">{escape(say("interval_how", language))}</p>'
        if found.low is not None
        else "",
        f'<p class="small">{escape(say("id", language))} <code class="prediction-id">'
        f"{escape(prediction_id)}</code><br>{escape(say('id_use', language))}</p>",
    ]
    return _section(say("answer", language), "".join(parts), language, hide_title=True)


def message_html(text: str, language: Language, kind: str = "info") -> str:
    """A sentence instead of an answer; `kind` is info, good or bad."""
    role = "alert" if kind == "bad" else "status"
    return f'<p class="message {kind}" role="{role}" lang="{language}">{escape(text)}</p>'


def problems_html(problems: Sequence[Problem], language: Language) -> str:
    """What is wrong with a form."""
    items = "".join(f"<li>{escape(problem.text)}</li>" for problem in problems)
    title = escape(say("check", language))
    return (
        f'<div class="message bad" role="alert" lang="{language}"><strong>{title}</strong>'
        f"<ul>{items}</ul></div>"
    )


def _section(title: str, inside: str, language: Language, *, hide_title: bool = False) -> str:
    hidden = ' class="unseen"' if hide_title else ""
    return f'<section class="card" lang="{language}"><h2{hidden}>{escape(title)}</h2>{inside}</section>'


def _headline(found: Assessment, language: Language) -> str:
    if found.low is None or found.high is None:
        around = say("no_interval", language)
    else:
        around = say("interval", language, low=percent(found.low), high=percent(found.high))
    side = "presence" if found.risk >= found.threshold else "absence"
    verdict = say(side, language, threshold=percent(found.threshold))
    return (
        f'<p class="over">{escape(say("risk", language))}</p>'
        f'<p class="headline"><data class="risk" value="{found.risk:.6f}">{escape(percent(found.risk))}'
        f'</data> <span class="around">{escape(around)}<br>{escape(verdict)}</span></p>'
    )


def gauge(found: Assessment, language: Language) -> str:
    """The risk on a scale from 0 to 100 %, with its interval, the average and the threshold."""
    described = say(
        "gauge",
        language,
        risk=percent(found.risk),
        average=percent(found.average),
        threshold=percent(found.threshold),
    )
    at = {"risk": found.risk, "average": found.average, "threshold": found.threshold}
    x = {name: 8 + 384 * share for name, share in at.items()}
    band = ""
    if found.low is not None and found.high is not None:
        start, width = 8 + 384 * found.low, 384 * (found.high - found.low)
        band = f'<rect class="band" x="{start:.1f}" y="14" width="{width:.1f}" height="16" rx="3"/>'
    return (
        f'<svg class="gauge" viewBox="0 0 400 44" role="img"><title>{escape(described)}</title>'
        '<rect class="track" x="8" y="18" width="384" height="8" rx="4"/>'
        f'<rect class="fill" x="8" y="18" width="{384 * found.risk:.1f}" height="8" rx="4"/>{band}'
        f'<line class="cut" x1="{x["threshold"]:.1f}" x2="{x["threshold"]:.1f}" y1="8" y2="36"/>'
        f'<path class="mean" d="M{x["average"]:.1f} 30 l-6 10 h12 z"/>'
        f'<circle class="dot" cx="{x["risk"]:.1f}" cy="22" r="8"/></svg>{_legend(found, language)}'
    )


def _legend(found: Assessment, language: Language) -> str:
    entries = [
        ('<circle class="dot" cx="8" cy="8" r="6"/>', "this_patient", found.risk),
        ('<path class="mean" d="M8 2 l-6 11 h12 z"/>', "average", found.average),
        ('<line class="cut" x1="8" x2="8" y1="0" y2="16"/>', "threshold", found.threshold),
    ]
    items = "".join(
        f'<span><svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">{mark}</svg>'
        f"{escape(say(key, language))} {escape(percent(share))}</span>"
        for mark, key, share in entries
    )
    return f'<p class="legend">{items}</p>'


def icons(count: int, language: Language) -> str:
    """One hundred people as circles, `count` of them filled."""
    circles = "".join(
        f'<circle class="{"sick" if person < count else "well"}" '
        f'cx="{6 + 12 * (person % 20)}" cy="{6 + 12 * (person // 20)}" r="4.4"/>'
        for person in range(100)
    )
    title = escape(say("icons", language, count=count))
    return (
        f'<svg class="icons" viewBox="0 0 240 60" role="img"><title>{title}</title>{circles}</svg>'
    )


def _frequency(found: Assessment, language: Language) -> str:
    count = found.frequency
    average = round(100 * found.average)
    rest = say("frequency_rest", language, rest=100 - count, average=average)
    title = escape(say("frequency", language, count=count))
    return f"<h3>{title}</h3>{icons(count, language)}<p>{escape(rest)}</p>"


def bars(found: Assessment, language: Language) -> str:
    """What each given measurement adds to or takes from the risk, the largest first."""
    longest = max((abs(moved) for moved in found.contributions.values()), default=0) or 1
    rows = "".join(
        _bar(BY_NAME[name], found.patient[name], moved, moved / longest, language)
        for name, moved in sorted(found.contributions.items(), key=lambda item: -abs(item[1]))
    )
    how = say("moved_how", language, average=percent(found.start), risk=percent(found.risk))
    title = escape(say("moved", language))
    return f'<h3>{title}</h3><p class="small">{escape(how)}</p><ul class="bars">{rows}</ul>'


def _bar(
    measurement: Measurement, value: Any, moved: float, length: float, language: Language
) -> str:
    direction = "raises" if moved >= 0 else "lowers"
    sign = "+" if moved >= 0 else "−"  # noqa: RUF001 - a minus sign, as wide as the plus
    points = f"{sign}{number(abs(100 * moved), language, '.1f')}"
    name, shown = of(measurement.label, language), value_of(measurement, value, language)
    start = 50 if moved >= 0 else 50 + 50 * length
    return (
        f'<li><span class="what">{escape(name)} <b>{escape(shown)}</b></span>'
        f'<span class="lane" aria-hidden="true"><i class="{direction}" '
        f'style="left:{start:.1f}%;width:{50 * abs(length):.1f}%"></i></span>'
        f'<span class="points"><span class="unseen">{escape(say(direction, language))} </span>'
        f"{points}</span></li>"
    )


def _missing(found: Assessment, language: Language) -> str:
    title = say("given", language, given=found.given, all=len(NAMES))
    if found.given == len(NAMES):
        return f'<h3 class="given">{escape(title)}</h3><p>{escape(say("all_given", language))}</p>'
    rows = "".join(
        f'<li><span class="what">{escape(of(BY_NAME[name].label, language))}</span>'
        f'<span class="lane" aria-hidden="true"><i class="span" '
        f'style="left:{100 * low:.1f}%;width:{max(100 * (high - low), 1):.1f}%"></i>'
        f'<b style="left:{100 * found.risk:.1f}%"></b></span><span class="points">'
        f"{escape(say('range', language, low=percent(low), high=percent(high)))}</span></li>"
        for name, (low, high) in found.could_be.items()
    )
    how = escape(say("missing_how", language))
    return (
        f'<h3 class="given">{escape(title)}</h3><p class="small">{how}</p>'
        f'<ul class="bars wide">{rows}</ul>'
    )


def _warnings(found: Assessment, language: Language) -> str:
    return "".join(
        message_html(_warning(warning, language), language, "warn") for warning in found.warnings
    )


def _warning(warning: Unusual, language: Language) -> str:
    measurement = BY_NAME[warning.name]
    return say(
        "unusual",
        language,
        label=of(measurement.label, language),
        value=value_of(measurement, warning.value, language),
        low=number(warning.low, language),
        high=f"{number(warning.high, language)} {unit(measurement, language)}".strip(),
    )


def table_of(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table that scrolls by itself where it is too wide."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    body = "".join("<tr>" + "".join(_table_cell(cell) for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _table_cell(text: str) -> str:
    short = ' class="short"' if len(text) < 20 else ""
    return f"<td{short}>{escape(text)}</td>"


def table_help_html(language: Language) -> str:
    """What a table of patients must look like."""
    intro = say(
        "table_intro", language, rows=number(MAX_BATCH, language, ",d"), echoed=", ".join(ECHOED)
    )
    heading = [say(key, language) for key in ("column", "meaning", "takes")]
    rows = [
        [m.name, of(m.label, language), expected(m, language, names=True)] for m in MEASUREMENTS
    ]
    summary = escape(say("columns", language))
    return (
        f'<div class="help" lang="{language}"><p>{escape(intro)}</p><details><summary>{summary}'
        f"</summary>{table_of(heading, rows)}</details></div>"
    )


def table_problems_html(problems: Sequence[Problem], language: Language) -> str:
    """The first errors of a table, by line."""
    ordered = sorted(problems, key=lambda problem: problem.line)[:SHOWN]
    heading = [say(key, language) for key in ("line", "column", "problem")]
    rows = [[str(problem.line), problem.name[:40], problem.text] for problem in ordered]
    message = message_html(say("bad_table", language, errors=len(problems)), language, "bad")
    more = f"<p>{escape(say('bad_first', language, shown=len(rows)))}</p>"
    return message + more * (len(problems) > len(rows)) + table_of(heading, rows)


def scored_html(table: Table, answers: Sequence[Mapping[str, Any]], language: Language) -> str:
    """The first scores of a table, and the rest as a file that lies in the page itself."""
    from base64 import b64encode

    heading = [
        *table.echoed,
        of(BY_NAME["age"].label, language),
        of(BY_NAME["sex"].label, language),
        say("risk", language),
        of(OUTCOME.label, language),
    ]
    shown = min(len(answers), SHOWN)
    rows = [_scored_row(table, answers[row], row, language) for row in range(shown)]
    # A file on the server would hold patients; this one is forgotten with the page.
    data = b64encode(scored_csv(table, answers).encode()).decode()
    link = (
        '<p><a class="download" download="scored.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{data}">{escape(say("download", language))}</a></p>'
    )
    first = f"<p>{escape(say('scored_first', language, shown=shown))}</p>" * (shown < len(answers))
    done = message_html(say("scored", language, rows=len(answers)), language, "good")
    return done + link + first + table_of(heading, rows)


def _scored_row(table: Table, answer: Mapping[str, Any], row: int, language: Language) -> list[str]:
    patient = table.patients[row]
    return [
        *(column[row] for column in table.echoed.values()),
        *(value_of(BY_NAME[name], patient[name], language) for name in ("age", "sex")),
        percent(answer["probability"]),
        value_of(OUTCOME, answer["prediction"], language),
    ]


# --- about the model -----------------------------------------------------------------------------


def about_html(model: Model, language: Language) -> str:
    """What the model is made of and how good it is: figures with intervals, calibration, groups."""
    card = [
        [say("version", language), f"{model.name} {model.version}"],
        [say("run", language), model.run_id],
        ["SHA-256", model.sha256],
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in card)
    parts = [f"<p>{escape(say('made_of', language))}</p><dl>{rows}</dl>"]
    if model.figures:
        parts.append(_figures(model.figures, language))
    else:
        parts.append(message_html(say("no_figures", language), language))
    if model.calibration:
        title, how = escape(say("calibration", language)), escape(say("calibration_how", language))
        drawing = calibration(model.calibration, language)
        parts.append(f'<h3>{title}</h3><p class="small">{how}</p>{drawing}')
    if model.figures.get("groups"):
        parts.append(_groups(model.figures["groups"], language))
    return _section(say("tab_about", language), "".join(parts), language)


def _figures(figures: Mapping[str, Any], language: Language) -> str:
    rows = [
        [of(text, language), _with_interval(figures, name, language)]
        for name, text in FIGURES.items()
        if figures.get(name) is not None
    ]
    title = say("figures", language, rows=figures.get("rows", "?"))
    how = say("figures_how", language, presence=figures.get("presence", "?"))
    heading = [say("figure", language), say("value", language)]
    return f'<h3>{escape(title)}</h3><p class="small">{escape(how)}</p>{table_of(heading, rows)}'


def _groups(groups: Mapping[str, Any], language: Language) -> str:
    names = ("roc_auc", "accuracy", "recall", "brier")
    heading = [say("group", language), say("patients", language)]
    heading += [of(FIGURES[name], language).split(" (")[0] for name in names]
    order = [*GROUPS, *(name for name in groups if name not in GROUPS)]
    rows = [
        [
            of(GROUPS[name], language) if name in GROUPS else name,
            str(groups[name].get("rows", "")),
            *(_with_interval(groups[name], figure, language) for figure in names),
        ]
        for name in order
        if name in groups
    ]
    title, how = escape(say("groups", language)), escape(say("groups_how", language))
    return f'<h3>{title}</h3><p class="small">{how}</p>{table_of(heading, rows)}'


def _with_interval(figures: Mapping[str, Any], name: str, language: Language) -> str:
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"  # noqa: RUF001 - nothing to say
    text = number(value, language, ".2f")
    if low is None or high is None:
        return text
    return f"{text} ({number(low, language, '.2f')}–{number(high, language, '.2f')})"  # noqa: RUF001


def calibration(points: Sequence[Mapping[str, float]], language: Language) -> str:
    """Predicted risk against the share that has the disease, by groups of patients."""
    most = max(point["patients"] for point in points) or 1
    circles = "".join(
        f'<circle class="sick" cx="{50 + 240 * p["predicted"]:.1f}" '
        f'cy="{250 - 240 * p["observed"]:.1f}" r="{3 + 5 * p["patients"] / most:.1f}"/>'
        for p in points
    )
    ticks = "".join(
        f'<line class="grid" x1="{50 + 240 * s}" x2="{50 + 240 * s}" y1="10" y2="250"/>'
        f'<line class="grid" x1="50" x2="290" y1="{250 - 240 * s}" y2="{250 - 240 * s}"/>'
        f'<text x="{50 + 240 * s}" y="266" text-anchor="middle">{s:.0%}</text>'
        f'<text x="44" y="{254 - 240 * s}" text-anchor="end">{s:.0%}</text>'
        for s in (0, 0.25, 0.5, 0.75, 1)
    )
    across, up = escape(say("predicted", language)), escape(say("observed", language))
    told = "; ".join(f"{p['predicted']:.0%}: {p['observed']:.0%}" for p in points)
    return (
        '<svg class="plot" viewBox="0 0 310 290" role="img">'
        f"<title>{escape(say('calibration', language))}</title><desc>{escape(told)}</desc>{ticks}"
        f'<line class="ideal" x1="50" y1="250" x2="290" y2="10"/>{circles}'
        f'<text x="170" y="284" text-anchor="middle">{across}</text>'
        f'<text transform="translate(12 130) rotate(-90)" text-anchor="middle">{up}</text></svg>'
    )


def note_html(version: str | None, language: Language) -> str:
    """The permanent note."""
    model = (
        say("no_model", language)
        if version is None
        else say("model_version", language, version=version)
    )
    text = f"<strong>{escape(say('note', language))}</strong> {escape(model)}"
    return f'<p class="note" role="note" lang="{language}">{text}</p>'


def field_labels(language: Language) -> list[str]:
    """The labels of the form's fields, in the schema's order."""
    return [label(measurement, language) for measurement in MEASUREMENTS]
