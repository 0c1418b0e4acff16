"""A server that keeps runs but no registered models: it gets a copy of every run.

The registry is the project's own store then; see docs/deployment.md.
"""

import os
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from heart.registry.aliases import first_line, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI = "MLFLOW_TRACKING_URI"


def keeps_runs(client: "MlflowClient") -> bool:
    """Whether the tracking half of a server answers."""
    try:
        client.search_experiments(max_results=1)
    except Exception:  # noqa: BLE001  whatever store it is, its client has an exception of its own
        return False
    return True


def copy(client: "MlflowClient", run_id: str) -> None:
    """Copy a run that has ended to the server that MLFLOW_TRACKING_URI names, if it is not there.

    It is told and no failure if the server takes no more: what counts is in the registry.
    """
    uri = os.environ.get(URI)
    if not uri or client.tracking_uri == uri:
        return
    try:
        _copy(client, type(client)(tracking_uri=uri), run_id)
    except Exception as error:  # noqa: BLE001  as above
        told = without_password(f"{uri} has not taken the run {run_id}: {first_line(error)}")
        print(f"note: {told}", file=sys.stderr)


def _copy(client: "MlflowClient", server: "MlflowClient", run_id: str) -> None:
    found = client.get_run(run_id)
    name = client.get_experiment(found.info.experiment_id).name
    there = server.get_experiment_by_name(name)
    experiment = there.experiment_id if there else server.create_experiment(name)
    tags = {**found.data.tags, "copied_from": run_id}
    copied = server.create_run(experiment, found.info.start_time, tags, found.info.run_name)
    to = copied.info.run_id
    for key, value in found.data.params.items():
        server.log_param(to, key, value)
    for key, number in found.data.metrics.items():
        server.log_metric(to, key, number)
    with TemporaryDirectory() as folder:
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", folder)
            server.log_artifacts(to, folder)
    server.set_terminated(to, found.info.status, found.info.end_time)
