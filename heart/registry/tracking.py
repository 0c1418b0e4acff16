"""Copies of runs for a server that keeps runs but no registered models.

The registry is then the project's own store; see docs/deployment.md.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from heart.errors import store_reason, without_password
from heart.registry.health import require_response
from heart.sqlite_path import registry_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI = "MLFLOW_TRACKING_URI"


def project_root(here: Path) -> Path:
    """The folder of the project, also from the copy that DVC makes of it for a queued experiment."""
    for parent in (here, *here.parents):
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def chosen_uri() -> str | None:
    """What MLFLOW_TRACKING_URI names, None if it is not set. Raises ValueError for a folder.

    The path of a SQLite file starts at the project: the copy of a queued experiment is deleted.
    """
    uri = os.environ.get(URI)
    return registry_uri(uri, project_root(Path.cwd())) if uri else None


def keeps_runs(client: "MlflowClient") -> bool:
    """Whether a server answers as a tracking server."""
    try:
        client.search_experiments(max_results=1)
    except Exception:  # noqa: BLE001  each kind of store has exceptions of its own
        return False
    return True


def copy(client: "MlflowClient", run_id: str) -> None:
    """Copy a finished run to the server that MLFLOW_TRACKING_URI names, unless it is there already.

    A failure is only printed: the registry already holds the run.
    """
    uri = chosen_uri()
    if not uri or client.tracking_uri == uri:
        return
    try:
        require_response(uri, URI)
        _copy(client, type(client)(tracking_uri=uri), run_id)
    except Exception as error:  # noqa: BLE001  as above
        message = f"run {run_id} was not copied to {without_password(uri)}: {store_reason(error)}"
        print(f"note: {message}", file=sys.stderr)


def _copy(client: "MlflowClient", server: "MlflowClient", run_id: str) -> None:
    run = client.get_run(run_id)
    name = client.get_experiment(run.info.experiment_id).name
    entry = server.get_experiment_by_name(name)
    experiment = entry.experiment_id if entry else server.create_experiment(name)
    tags = {**run.data.tags, "copied_from": run_id}
    copy_id = server.create_run(
        experiment, run.info.start_time, tags, run.info.run_name
    ).info.run_id
    for key, value in run.data.params.items():
        server.log_param(copy_id, key, value)
    for key, number in run.data.metrics.items():
        server.log_metric(copy_id, key, number)
    if run.inputs and run.inputs.dataset_inputs:
        server.log_inputs(copy_id, run.inputs.dataset_inputs)
    with TemporaryDirectory() as folder:
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", folder)
            server.log_artifacts(copy_id, folder)
    server.set_terminated(copy_id, run.info.status, run.info.end_time)
