"""`python -m monitoring.report`: the drift of the champion's last patients as one HTML file, and in MLflow.

The content of the page's tab, for every feature; the file loads nothing from elsewhere.
"""

import argparse
from pathlib import Path

from heart import files
from heart.addresses import server_of
from heart.drift.snapshot import DriftSnapshot, narrowed, take_snapshot
from heart.errors import UserError, os_reason, run_main
from heart.locale.language import LANGUAGES, Language
from heart.predictions.log import LogConfigurationError, LogUnavailable, PredictionLog
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.health import SETTINGS, require_response, unavailable
from heart.registry.loading import load, of_version
from heart.registry.runs import Entry, log_run
from heart.schema import SchemaError
from heart.settings import SharedSettings, read
from heart.web.drift import by_ratio, comparison_html, drift_html
from heart.web.markup import STYLE
from heart.web.templates import environment, render
from monitoring.monitor import last_patients
from monitoring.settings import DriftSettings

EXPERIMENT = "heart-disease-drift"
PATH = Path("reports/drift.html")  # not in plots/, whose files belong to a model version

TEMPLATES = environment(Path(__file__).parent / "templates")


class ReportError(UserError):
    """The report cannot be made; the message gives the reason."""


def html(snapshot: DriftSnapshot, language: Language) -> str:
    """The whole report: the verdict, then each feature compared, the most drifted first."""
    return render(
        TEMPLATES,
        "report.html",
        language,
        style=STYLE,
        verdict=drift_html(snapshot, language),
        features=[comparison_html(snapshot, name, language) for name in by_ratio(snapshot)],
    )


def check(settings: SharedSettings, drift: DriftSettings) -> DriftSnapshot:
    """Check the last patients in the log. Raises ReportError."""
    try:
        log = PredictionLog(settings.log_url)
    except LogConfigurationError as error:
        raise ReportError(f"HEART_LOG_URL: {error}") from error
    require_response(settings.tracking_uri, SETTINGS)
    try:
        model, _ = load(
            settings if drift.model_version is None else of_version(settings, drift.model_version)
        )
    except RegistryUnavailable as error:
        raise ReportError(unavailable(settings.tracking_uri, error)) from error
    except VersionRejected as error:
        raise ReportError(str(error)) from error
    if model.reference is None:
        raise ReportError(f"version {model.version} has no drift baseline")
    reference = narrowed(model.reference, drift.window)
    try:
        rows, scores = last_patients(log, model.version, reference.policy)
    except LogUnavailable as error:
        raise ReportError(
            f"{server_of(settings.log_url)}: {error}; check HEART_LOG_URL: the service must have run "
            "with it"
        ) from error
    except SchemaError:
        # Without its message and traceback, which contain the value of a patient.
        raise ReportError(
            f"the prediction log has a patient of version {model.version} whose values this schema "
            "does not allow: use the log that this version wrote"
        ) from None
    return take_snapshot(model.version, rows, scores, reference)


def write(path: Path, text: str) -> None:
    """Write a file atomically. Raises ReportError."""
    try:
        with files.replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(os_reason(error)) from error


def log_report(uri: str, snapshot: DriftSnapshot, path: Path) -> str:
    """Log a report as a run of its own; returns the run's id. Raises ReportError."""
    report = snapshot.report
    entry = Entry(
        f"drift of version {snapshot.version}",
        {"model_version": snapshot.version, "drifted": str(report.drifted).lower()},
        {
            "window_rows": report.window_rows,
            **{f"ratio.{name}": finding.ratio for name, finding in report.features.items()},
        },
        [path],
    )
    try:
        return log_run(uri, EXPERIMENT, entry)
    except RegistryUnavailable as error:
        raise ReportError(str(error)) from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m monitoring.report", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=PATH, help=f"default: {PATH}")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    options = parser.parse_args()
    settings, drift = read(SharedSettings), read(DriftSettings)
    snapshot = check(settings, drift)
    write(options.path, html(snapshot, options.language))
    print(f"{options.path}: version {snapshot.version}, {snapshot.report.summary}")
    run_id = log_report(settings.tracking_uri, snapshot, options.path)
    print(f"MLflow: experiment {EXPERIMENT}, run {run_id}")


if __name__ == "__main__":
    run_main(main)
