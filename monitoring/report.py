"""`python -m monitoring.report`: the drift of the champion's last patients as one HTML file, and in MLflow.

The content of the page's tab, for every feature; the file loads nothing from elsewhere.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heart import files
from heart.drift.snapshot import DriftSnapshot, narrowed, take_snapshot
from heart.errors import UserError, os_reason, run_main, store_reason
from heart.locale.language import LANGUAGES, Language
from heart.predictions.log import LogConfigurationError, LogUnavailable, PredictionLog
from heart.registry import local_store
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.loading import load
from heart.schema import SchemaError
from heart.settings import MODEL, SharedSettings, read
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
    try:
        model, _ = load(
            settings if drift.model_version is None else _of_version(settings, drift.model_version)
        )
    except (VersionRejected, RegistryUnavailable) as error:
        raise ReportError(str(error)) from error
    if model.reference is None:
        raise ReportError(f"version {model.version} has no drift baseline")
    reference = narrowed(model.reference, drift.window)
    try:
        rows, scores = last_patients(log, model.version, reference.policy)
    except LogUnavailable as error:
        raise ReportError(f"the prediction log cannot be read: {error}") from error
    except SchemaError:
        # Without its message and traceback, which contain the value of a patient.
        raise ReportError(
            f"the prediction log has a patient of version {model.version} whose values this schema "
            "does not allow: use the log that this version wrote"
        ) from None
    return take_snapshot(model.version, rows, scores, reference)


def _of_version(settings: SharedSettings, number: str) -> SharedSettings:
    parts = MODEL.fullmatch(settings.model)
    assert parts  # the settings checked it
    return settings.model_copy(update={"model": f"models:/{parts['name']}/{number}"})


def write(path: Path, text: str) -> None:
    """Write a file atomically. Raises ReportError."""
    try:
        with files.replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(os_reason(error)) from error


@dataclass(frozen=True)
class Tracking:
    """The MLflow server, or the project's own store."""

    uri: str

    def log(self, snapshot: DriftSnapshot, path: Path) -> str:
        """Log a report as a run of its own; returns the run's id. Raises ReportError."""
        try:
            return self._log(self._client(), snapshot, path)
        except local_store.StoreError as error:
            raise ReportError(str(error)) from error
        except Exception as error:
            # Each kind of store has exceptions of its own: one message for all.
            raise ReportError(f"MLflow cannot log {path}: {store_reason(error)}") from error

    def _client(self) -> Any:
        local_store.prepare(self.uri)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    def _log(self, client: Any, snapshot: DriftSnapshot, path: Path) -> str:
        report = snapshot.report
        tags = {"model_version": snapshot.version, "drifted": str(report.drifted).lower()}
        experiment = local_store.experiment(client, EXPERIMENT)
        run_id = str(client.create_run(experiment, tags=tags).info.run_id)
        status = "FAILED"
        try:
            client.log_metric(run_id, "window_rows", report.window_rows)
            for name, finding in report.features.items():
                client.log_metric(run_id, f"ratio.{name}", finding.ratio)
            client.log_artifact(run_id, str(path))
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
        return run_id


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m monitoring.report", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=PATH, help=f"default: {PATH}")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    options = parser.parse_args()
    settings, drift = read(SharedSettings), read(DriftSettings)
    snapshot = check(settings, drift)
    write(options.path, html(snapshot, options.language))
    print(f"{options.path}: version {snapshot.version}, {snapshot.report.summary}")
    run_id = Tracking(settings.tracking_uri).log(snapshot, options.path)
    print(f"MLflow: experiment {EXPERIMENT}, run {run_id}")


if __name__ == "__main__":
    run_main(main)
