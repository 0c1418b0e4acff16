"""Runs in MLflow that belong to no training: a drift report, an external validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heart.errors import store_reason
from heart.registry import local_store
from heart.registry.aliases import set_up_client
from heart.registry.errors import RegistryUnavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Entry:
    """What a run holds, and its name."""

    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Sequence[Path]


def log_run(uri: str, experiment: str, entry: Entry) -> str:
    """Log a run of an experiment; returns its id. Raises RegistryUnavailable."""
    set_up_client()
    try:
        local_store.prepare(uri)
        from mlflow import MlflowClient

        return _log(MlflowClient(tracking_uri=uri), experiment, entry)
    except local_store.StoreError as error:
        raise RegistryUnavailable(str(error)) from error
    except Exception as error:
        # Each kind of store has exceptions of its own: one message for all.
        files = ", ".join(map(str, entry.artifacts))
        raise RegistryUnavailable(f"MLflow cannot log {files}: {store_reason(error)}") from error


def _log(client: "MlflowClient", experiment: str, entry: Entry) -> str:
    number = local_store.experiment(client, experiment)
    run = client.create_run(number, tags=dict(entry.tags), run_name=entry.name)
    run_id, status = str(run.info.run_id), "FAILED"
    try:
        for name, value in entry.metrics.items():
            client.log_metric(run_id, name, value)
        for path in entry.artifacts:
            client.log_artifact(run_id, str(path))
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id
