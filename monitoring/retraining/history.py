"""The history of retrainings: one MLflow run for each, with those whose model was rejected."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from heart.registry import local_store, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNTIL = "outcomes_until"  # the tag with the time of the newest outcome that was used


class RetrainingHistory:
    """The experiment `NAME-retraining` of a registry."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        self._client = client
        self._experiment = local_store.experiment(client, f"{name}-retraining")

    def used_until(self) -> datetime | None:
        """The time of the newest outcome that a finished retraining has used; None before the first."""
        runs = self._client.search_runs(
            [self._experiment], "attributes.status = 'FINISHED'", max_results=1,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        until = runs[0].data.tags.get(UNTIL) if runs else None
        return datetime.fromisoformat(until) if until else None

    def begin(self, tags: Mapping[str, Any]) -> str:
        """Start a run; returns its id."""
        texts = {name: str(value) for name, value in tags.items()}
        return str(self._client.create_run(self._experiment, tags=texts).info.run_id)

    def finish(
        self, run_id: str, tags: Mapping[str, Any], metrics: Mapping[str, float], report: str
    ) -> None:
        """Complete a run with its results."""
        for name, value in tags.items():
            self._client.set_tag(run_id, name, str(value))
        for name, number in metrics.items():
            self._client.log_metric(run_id, name, number)
        self._client.log_text(run_id, report, "report.txt")
        self._end(run_id, "FINISHED")

    def fail(self, run_id: str, reason: str) -> None:
        """Close a run that failed."""
        self._client.set_tag(run_id, "reason", reason[:5000])
        self._end(run_id, "FAILED")

    def interrupted(self, run_id: str) -> None:
        """Close the run of a killed retraining, unless it is closed or deleted."""
        if any(
            run.info.run_id == run_id
            for run in self._client.search_runs([self._experiment], "attributes.status = 'RUNNING'")
        ):
            self._end(run_id, "KILLED")

    def _end(self, run_id: str, status: str) -> None:
        self._client.set_terminated(run_id, status)
        tracking.copy(self._client, run_id)
