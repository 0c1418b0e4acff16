"""`make check-data IN=file`: whether a file can be used to train or to score, and what is wrong with it.

It reads the file as stage `prepare` does with the parameters of params.yaml, but reports all problems
instead of the first. Writes reports/data.html and reports/data.json, which quote cells of the file, for
their owner only.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, ConfigDict

from heart import files
from heart.dataset import codings, headings, label_check, reader, translation
from heart.dataset.codings import parse_setting
from heart.dataset.detection import Settings
from heart.dataset.frames import frame_of, inverted, rows_with
from heart.dataset.reader import RawTable
from heart.drift.baseline import NotAReference, Reference
from heart.drift.whole_table import count_measurements, evaluate_table
from heart.errors import UserError, run_main
from heart.locale.catalog import DEFAULT
from heart.locale.language import label
from heart.params import Section
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Floats, SchemaError
from heart.web.markup import STYLE
from heart.web.templates import environment, render

HTML, JSON = Path("reports/data.html"), Path("reports/data.json")
SHOWN = 20
TEMPLATES = environment(Path(__file__).parent / "templates")


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return name

    return check


Coding = Annotated[str, AfterValidator(_one_of(codings.NAMES))]
Column = Annotated[str, AfterValidator(_one_of(codings.DECIDING))]


class Split(Section):
    """The parameters of stage split that say how many patients it needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    stage = "split"
    test_fraction: float
    folds: int


class Prepare(Section):
    """The parameters of stage prepare."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    stage = "prepare"
    format: Annotated[str, AfterValidator(_one_of((codings.AUTO, *codings.NAMES)))]
    codings: dict[Column, Coding]
    invert_label: bool
    keep: list[str]
    ignore: list[str]
    bad_rows: Literal["refuse", "drop"]


@dataclass
class Report:
    """What is known of a file; what could not be found out is empty.

    `problems` have a text and whether they are in the way of scoring too, not only of training.
    """

    file: str
    layout: str = ""
    coding: str = ""
    coding_by_column: dict[str, str] = field(default_factory=dict)
    coding_log10_odds: dict[str, float] = field(default_factory=dict)
    columns_missing: list[str] = field(default_factory=list)
    columns_ignored: list[str] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0
    bad_rows: int = 0
    bad_cells_by_column: dict[str, int] = field(default_factory=dict)
    bad_rows_shown: list[str] = field(default_factory=list)
    measurements: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcome: dict[str, int] = field(default_factory=dict)
    conflicting_outcomes: int = 0
    clinical_signs_z: dict[str, float] = field(default_factory=dict)
    contradicted_p: dict[str, float] = field(default_factory=dict)
    drift: str = ""
    drifted: dict[str, str] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    can_score: bool = True
    can_train: bool = True

    def add(self, text: str, *, scoring: bool = False) -> None:
        """Add a problem that is in the way of training, and perhaps of scoring."""
        self.problems.append({"text": text.removeprefix(f"{self.file}: "), "scoring": scoring})
        self.can_train = False
        self.can_score = self.can_score and not scoring

    def attempt(self, check: Callable[[], Any]) -> None:
        """Add the problem that a check of the labels raises, if any."""
        try:
            check()
        except UserError as error:
            self.add(str(error))


def check(path: Path, options: Prepare) -> Report:
    """The report on a file. Raises UserError if there is no such file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    report = Report(str(path))
    columns = reader.Options(
        reader.TO_SCORE.required, keep=tuple(options.keep), ignore=tuple(options.ignore)
    )
    try:
        table = reader.read(path, columns)
        report.layout, report.rows = table.layout, len(table.lines)
        report.columns_ignored = table.matched.ignored
        report.columns_missing = headings.missing_columns(table.columns)
        detected = translation.coding_of(table, Settings(options.format, options.codings))
    except UserError as error:
        report.add(str(error), scoring=True)
        return report
    report.coding = detected.coding.name
    report.coding_by_column = dict(detected.coding.columns)
    report.coding_log10_odds = dict(detected.evidence)
    frame, rows = _good_rows(table, detected.coding, options, report)
    if len(frame):
        _describe(frame, rows, report)
        _check_outcomes(frame, table, options, report)
        _check_drift(rows, report)
    return report


def _good_rows(
    table: RawTable, coding: Any, options: Prepare, report: Report
) -> tuple[pd.DataFrame, Floats]:
    """The rows without a problem, as texts, with their lines, and encoded [n, 13]."""
    cells, problems = translation.translate(table, coding)
    bad = rows_with(problems, len(table.lines))
    not_scored = rows_with([p for p in problems if p.column != OUTCOME.name], len(bad))
    report.bad_rows = int(bad.sum()) + len(table.bad_lines)
    counts = Counter({problem.column: len(problem.rows) for problem in problems})
    report.bad_cells_by_column = dict(counts)
    report.bad_rows_shown = translation.described(problems, table)[:SHOWN]
    report.rows += len(table.bad_lines)
    shown = "\n".join(report.bad_rows_shown[:3])
    if bad.all():
        report.add(f"no row is without a problem\n{shown}", scoring=bool(not_scored.all()))
    elif report.bad_rows and options.bad_rows == "refuse":
        report.add(
            f"{report.bad_rows} of {report.rows} rows are bad: correct them, or leave them out with "
            f"prepare.bad_rows: drop\n{shown}"
        )
    encoded = np.full((len(bad), len(NAMES)), np.nan, dtype=np.float32)
    for number, measurement in enumerate(MEASUREMENTS):
        if measurement.name in cells:
            column = cells[measurement.name]
            values = [measurement.parse(text) for text in column.texts]
            encoded[:, number] = np.array(values, dtype=np.float32)[column.positions]
    frame = frame_of(cells, len(bad)).assign(line=table.lines, source=files.RAW_SOURCE)
    return frame[~bad].reset_index(drop=True), encoded[~bad]


def _describe(frame: pd.DataFrame, rows: Floats, report: Report) -> None:
    """Missing values, ranges, shares of categories, and copies of rows."""
    for number, measurement in enumerate(MEASUREMENTS):
        values = rows[:, number][~np.isnan(rows[:, number])]
        item: dict[str, Any] = {"missing": int(len(rows) - len(values))}
        if measurement.choices:
            shares = np.bincount(values.astype(int), minlength=len(measurement.choices))
            names = [choice.name for choice in measurement.choices]
            item["shares"] = dict(zip(names, (shares / max(len(values), 1)).round(4), strict=True))
        elif len(values):
            quartiles = np.percentile(values, [0, 25, 50, 75, 100]).round(4).tolist()
            item |= dict(zip(("min", "q1", "median", "q3", "max"), quartiles, strict=True))
        report.measurements[measurement.name] = item
    known = [name for name in (*NAMES, OUTCOME.name) if name in frame]
    report.duplicates = int(frame.duplicated(known).sum())


def _check_outcomes(frame: pd.DataFrame, table: RawTable, options: Prepare, report: Report) -> None:
    """The classes, the direction of the label, and rows with both outcomes."""
    if OUTCOME.name not in frame:
        report.add("there is no outcome: the file can be scored, but no model can learn from it")
        return
    if options.invert_label:
        frame[OUTCOME.name] = inverted(frame[OUTCOME.name])
    report.outcome = {
        choice.name: int((frame[OUTCOME.name] == choice.name).sum()) for choice in OUTCOME.choices
    }
    path, labels = Path(report.file), table.columns[OUTCOME.name].texts
    report.attempt(lambda: label_check.check_both_outcomes(frame, labels, path))
    _check_numbers(frame, report)
    report.clinical_signs_z = {
        name: round(z, 2) for name, z in label_check.associations(frame)[0].items()
    }
    report.contradicted_p = label_check.contradictions(frame)
    remedy = (
        "if the label means the opposite, set prepare.invert_label: "
        f"{str(not options.invert_label).lower()}"
    )
    report.attempt(lambda: label_check.check_direction(frame, path, remedy))
    hashes = pd.util.hash_pandas_object(frame[list(NAMES)].astype(str), index=False).to_numpy()
    report.attempt(lambda: label_check.check_conflicts(hashes, frame, [path]))


def _check_numbers(frame: pd.DataFrame, report: Report) -> None:
    """Whether the patients of each outcome suffice for the folds and the held-out rows."""
    known = [*NAMES, OUTCOME.name]
    patients = frame.drop_duplicates(known)
    report.conflicting_outcomes = int(patients.duplicated(list(NAMES)).sum())
    split = Split.load()
    needed = round(split.folds / split.test_fraction)
    fewest = int(patients[OUTCOME.name].value_counts().min())
    if fewest < needed:
        report.add(
            f"{fewest} different patients of one outcome: about {needed} are needed, since "
            f"{split.folds} (split.folds) must be among the held-out patients"
        )


def _check_drift(rows: Floats, report: Report) -> None:
    """Compare the measurements with those of the training patients."""
    if not files.REFERENCE.exists():
        report.drift = f"not compared: there is no {files.REFERENCE} (make repro makes it)"
        return
    try:
        reference = Reference.from_json(files.REFERENCE.read_text())
    except (NotAReference, OSError) as error:
        report.drift = f"not compared: {files.REFERENCE}: {error}"
        return
    drift = evaluate_table(count_measurements(rows, reference), reference)
    report.drift = drift.summary
    report.drifted = {name: f.summary for name, f in drift.features.items() if f.drifted}


def html(report: Report) -> str:
    """The report as one page that loads nothing from elsewhere."""
    labels = {m.name: label(m, DEFAULT) for m in MEASUREMENTS}
    return render(TEMPLATES, "data.html", DEFAULT, style=STYLE, report=report, labels=labels)


def summary(report: Report) -> list[str]:
    """The report in some lines."""
    lines = [f"{report.file}: {report.layout or 'not read'}"]
    if report.coding:
        odds = ", ".join(f"{c} {value:.1f}" for c, value in report.coding_log10_odds.items())
        lines.append(f"  coding     {report.coding}{f' (log10 odds: {odds})' if odds else ''}")
    if report.rows:
        lines.append(
            f"  rows       {report.rows}, {report.bad_rows} bad, {report.duplicates} copies of others"
        )
    if report.columns_missing:
        lines.append(f"  no column  {', '.join(report.columns_missing)}")
    if report.columns_ignored:
        lines.append(f"  ignored    {', '.join(map(repr, report.columns_ignored))}")
    if report.outcome:
        counts = ", ".join(f"{count} {name}" for name, count in report.outcome.items())
        conflicts = report.conflicting_outcomes
        counts += f"; {conflicts} sets of equal measurements have both" if conflicts else ""
        lines.append(f"  outcome    {counts}")
    if report.drift:
        lines.append(f"  drift      {report.drift}")
    for problem in report.problems:
        first, *more = problem["text"].split("\n")
        lines += [f"  problem    {first}", *(f"             {line}" for line in more)]
    lines.append(f"  to train   {'yes' if report.can_train else 'no'}")
    lines.append(f"  to score   {'yes' if report.can_score else 'no'}")
    return lines


def with_arguments(options: Prepare, coding: str | None, ignore: str | None) -> Prepare:
    """The parameters with a coding and further ignored columns of the command line. Raises UserError."""
    if coding:
        try:
            name, columns = parse_setting(coding)
        except SchemaError as error:
            raise UserError(f"--coding: {error}") from None
        options = options.model_copy(update={"format": name, "codings": columns})
    if ignore:
        columns_ignored = [*options.ignore, *ignore.split(",")]
        options = options.model_copy(update={"ignore": columns_ignored})
    return options


def main(arguments: list[str] | None = None) -> None:
    """Write the report; exit with 1 if the file can neither be used to train nor to score."""
    parser = argparse.ArgumentParser(prog="make check-data", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--coding", help="instead of prepare.format and prepare.codings")
    parser.add_argument("--ignore", help="columns to ignore besides prepare.ignore: a,b")
    given = parser.parse_args(arguments)
    options = with_arguments(Prepare.load(), given.coding, given.ignore)
    report = check(given.file, options)
    for path, text in ((HTML, html(report)), (JSON, json.dumps(asdict(report), indent=2) + "\n")):
        try:
            with files.replacing(path, files.PRIVATE) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    print("\n".join([*summary(report), f"  report     {HTML}, {JSON}"]))
    if not report.can_score:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
