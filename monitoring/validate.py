"""`make validate IN=labelled.csv`: how well a version of the model fits labelled patients of another place.

Writes reports/validation.html and reports/validation.json, which hold figures and no patient, logs both to MLflow
with the version, and prints a verdict: use as it is, recalibrate first, or do not use here.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heart import files
from heart.dataset import reader, translation
from heart.dataset.detection import Settings
from heart.dataset.frames import good_rows, inverted
from heart.dataset.label_check import check_both_outcomes, check_direction
from heart.drift.whole_table import count_measurements, evaluate_table
from heart.errors import UserError, run_main
from heart.locale.catalog import DEFAULT
from heart.locale.language import label
from heart.ml.curves import calibration, curve, decision
from heart.ml.groups import groups
from heart.ml.scores import all_scores
from heart.ml.validation import Validation, validate
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.health import SETTINGS, require_response, unavailable
from heart.registry.loading import load, of_version
from heart.registry.model_version import Model
from heart.registry.runs import Entry, log_run
from heart.schema import MEASUREMENTS, OUTCOME, Floats
from heart.settings import SharedSettings, read
from heart.web.charts import svg
from heart.web.markup import STYLE
from heart.web.templates import environment, render
from monitoring.check_data import Prepare, with_arguments

HTML, JSON = Path("reports/validation.html"), Path("reports/validation.json")
EXPERIMENT = "heart-disease-validation"
TEMPLATES = environment(Path(__file__).parent / "templates")
BINS = 8


@dataclass(frozen=True)
class Patients:
    """Labelled patients: their texts, encoded rows [n, 13], outcomes 0 or 1 [n], and those left out."""

    table: pd.DataFrame
    rows: Floats
    outcome: Any
    bad_rows: int
    duplicates: int
    of_training: int


@dataclass(frozen=True)
class Report:
    """All figures of a validation, as in the JSON file."""

    file: str
    file_sha256: str
    model: str
    version: str
    threshold: float
    bad_rows: int
    duplicates: int
    of_training: int
    validation: Validation
    groups: dict[str, dict[str, float | int | None]]
    missing: dict[str, dict[str, float]]
    drift: str
    drifted: dict[str, str]


def patients_of(path: Path, options: Prepare) -> Patients:
    """The labelled patients of a file, as stage prepare reads it. Raises UserError.

    Copies of rows count once, and patients whom the model of this checkout was trained on do not count.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    source = reader.read(
        path, reader.Options(keep=tuple(options.keep), ignore=tuple(options.ignore))
    )
    detected = translation.coding_of(source, Settings(options.format, options.codings))
    table, dropped = good_rows(source, detected, options.bad_rows, options.keep)
    table = table.astype(object).assign(source=files.RAW_SOURCE).reset_index(drop=True)
    if options.invert_label:
        table[OUTCOME.name] = inverted(table[OUTCOME.name])
    check_both_outcomes(table, source.columns[OUTCOME.name].texts, path)
    remedy = f"if the label means the opposite, set prepare.invert_label: {str(not options.invert_label).lower()}"
    check_direction(table, path, remedy)
    unique = table.drop_duplicates([m.name for m in (*MEASUREMENTS, OUTCOME)])
    rows, outcome = files.encoded(unique)
    known = _trained_on(rows)
    return Patients(
        unique[~known], rows[~known], outcome[~known].astype(float), int(dropped["rows"]),
        len(table) - len(unique), int(known.sum()),
    )  # fmt: skip


def _trained_on(rows: Floats) -> Any:
    """Which encoded rows [n] are those of training patients of this checkout, as far as it has them."""
    if not files.TRAIN.exists():
        return np.zeros(len(rows), dtype=bool)
    trained, _ = files.encoded(files.read_table(files.TRAIN))
    seen = {row.tobytes() for row in trained}
    return np.array([row.tobytes() in seen for row in rows], dtype=bool)


def report_on(path: Path, patients: Patients, model: Model, risks: Any) -> Report:
    """The figures of a version with these risks [n] of labelled patients."""
    drift, drifted = _drift(patients.rows, model)
    return Report(
        file=path.name,
        file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        model=model.name,
        version=model.version,
        threshold=model.threshold,
        bad_rows=patients.bad_rows,
        duplicates=patients.duplicates,
        of_training=patients.of_training,
        validation=validate(patients.outcome, risks, model.threshold),
        groups=_by_group(patients, risks, model.threshold),
        missing=_missing(patients.rows, model),
        drift=drift,
        drifted=drifted,
    )


def _by_group(
    patients: Patients, risks: Any, threshold: float
) -> dict[str, dict[str, float | int | None]]:
    """Each group's counts, expected and observed share of disease, ROC AUC and Brier score."""
    result = {}
    masks = {"all": np.ones(len(risks), dtype=bool), **groups(patients.table)}
    for name, which in masks.items():
        if not which.any():
            continue
        y, p = patients.outcome[which], risks[which]
        scores = all_scores(y, p, np.ones((1, len(y))), threshold, BINS)
        figures = {
            key: float(scores[key][0]) for key in ("roc_auc", "brier", "recall", "specificity")
        }
        result[name] = {
            "patients": len(y),
            "with_disease": int(y.sum()),
            "expected": float(p.mean()),
            "observed": float(y.mean()),
            **{key: None if np.isnan(value) else value for key, value in figures.items()},
        }
    return result


def _missing(rows: Floats, model: Model) -> dict[str, dict[str, float]]:
    """The share of missing values of each measurement, here and among the training patients."""
    here = np.isnan(rows).mean(axis=0)
    result = {m.name: {"here": float(share)} for m, share in zip(MEASUREMENTS, here, strict=True)}
    if model.reference is not None:
        for column in model.reference.columns:
            if column.name in result:
                result[column.name]["training"] = column.missing / model.reference.rows
    return result


def _drift(rows: Floats, model: Model) -> tuple[str, dict[str, str]]:
    if model.reference is None:
        return "not compared: the version has no drift baseline", {}
    report = evaluate_table(count_measurements(rows, model.reference), model.reference)
    return report.summary, {n: f.summary for n, f in report.features.items() if f.drifted}


def html(report: Report, patients: Patients, risks: Any) -> str:
    """The report as one page that loads nothing from elsewhere."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(patients.outcome, risks)
    points = {
        "roc": curve({"false_positive_rate": fpr, "true_positive_rate": tpr}, "this model"),
        "calibration": calibration(patients.outcome, risks, BINS),
        "decision": decision(patients.outcome, risks),
    }
    titles = {"roc": "ROC curve", "calibration": "Predicted and observed risk (95 % intervals, patients)",
              "decision": "Net benefit by threshold"}  # fmt: skip
    pictures = [svg(name, titles[name], table, report.file) for name, table in points.items()]
    labels = {m.name: label(m, DEFAULT) for m in MEASUREMENTS}
    return render(
        TEMPLATES, "validation.html", DEFAULT,
        style=STYLE, report=report, v=report.validation, pictures=pictures, labels=labels,
    )  # fmt: skip


def summary(report: Report) -> list[str]:
    """The report in some lines."""
    v = report.validation
    lines = [
        f"{report.file}: {v.patients} patients, {v.with_disease} with disease; "
        f"{report.model} version {report.version}",
        *(f"  left out    {count} {what}" for count, what in (
            (report.bad_rows, "bad rows"), (report.duplicates, "copies of other rows"),
            (report.of_training, "patients whom the model was trained on"),
        ) if count),
    ]  # fmt: skip
    for name, estimate in (
        ("ROC AUC", v.roc_auc), ("intercept", v.intercept), ("slope", v.slope),
    ):  # fmt: skip
        if estimate:
            lines.append(
                f"  {name:<11} {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
            )
    if v.expected_share is not None:
        observed = v.with_disease / v.patients
        lines.append(f"  disease     {v.expected_share:.1%} expected, {observed:.1%} observed")
    lines.append(f"  drift       {report.drift}")
    return [*lines, f"  verdict     {v.verdict}", *(f"              {r}" for r in v.reasons)]


def metrics_of(report: Report) -> dict[str, float]:
    """The figures for MLflow."""
    v = report.validation
    figures = {"patients": float(v.patients), "with_disease": float(v.with_disease)}
    for name in ("roc_auc", "intercept", "slope", "net_benefit"):
        if estimate := getattr(v, name):
            figures |= {name: estimate.value, f"{name}_low": estimate.low}
            figures[f"{name}_high"] = estimate.high
    brier = report.groups["all"]["brier"]
    return figures | ({"brier": float(brier)} if brier is not None else {})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make validate", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--version", help="default: the version that HEART_MODEL names, the champion"
    )
    parser.add_argument("--coding", help="instead of prepare.format and prepare.codings")
    parser.add_argument("--ignore", help="columns to ignore besides prepare.ignore: a,b")
    given = parser.parse_args(arguments)
    patients = patients_of(given.file, with_arguments(Prepare.load(), given.coding, given.ignore))
    settings = read(SharedSettings)
    require_response(settings.tracking_uri, SETTINGS)
    try:
        model, _ = load(of_version(settings, given.version) if given.version else settings)
    except RegistryUnavailable as error:
        raise UserError(unavailable(settings.tracking_uri, error)) from None
    except VersionRejected as error:
        raise UserError(str(error)) from None
    risks = model.predict(patients.rows).astype(float)
    report = report_on(given.file, patients, model, risks)
    document = json.dumps(asdict(report), indent=2) + "\n"
    for path, text in ((HTML, html(report, patients, risks)), (JSON, document)):
        with files.replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    print("\n".join(summary(report)))
    entry = Entry(
        f"version {report.version} on {report.file}: {report.validation.verdict}",
        {"model_version": report.version, "file_sha256": report.file_sha256},
        metrics_of(report),
        [HTML, JSON],
    )
    print(f"  report      {HTML}, {JSON}")
    try:
        print(
            f"  MLflow      {EXPERIMENT}, run {log_run(settings.tracking_uri, EXPERIMENT, entry)}"
        )
    except RegistryUnavailable as error:
        print(f"note: the figures are not in MLflow: {error}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
