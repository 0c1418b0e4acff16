"""Publish to the registry (MLflow), the interface between the pipeline and the service.

Without MLFLOW_TRACKING_URI it is the checkout's own store (`heart/registry/local_store.py`).
"""

import contextlib
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from heart.errors import UserError, first_line, store_reason, without_password
from heart.ml.onnx_export import INPUT, OUTPUT, predict
from heart.registry import local_store, tracking
from heart.registry.aliases import (
    CHAMPION,
    PREVIOUS,
    SCHEMA,
    SELF_TEST,
    SHA256,
    THRESHOLD,
    aliases,
    hash_tag,
    set_up_client,
)
from heart.registry.errors import VersionRejected
from heart.registry.health import require_response
from heart.registry.onnx_graph import check_graph
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, fingerprint

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FOLDER = local_store.FOLDER
RESTORE = "restore the file from the registry's backup (docs/runbook.md)"

set_up_client()


@dataclass(frozen=True)
class Dataset:
    """A table of patients that a run used: its rows, `training` or `evaluation`, and its MD5 hash."""

    table: "pd.DataFrame"
    path: Path
    context: str
    md5: str


@dataclass(frozen=True)
class Package:
    """A version to publish: the model, the files beside it by name, and the description of the run.

    `threshold` is the probability from which the prediction is presence. `datasets` are tables of
    patients by name, each with its context and the hash by which DVC knows it; MLflow gets the columns and
    the number of rows, never a row.
    """

    model: bytes
    threshold: float
    beside: Mapping[str, bytes]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: list[Path]
    run_name: str = ""
    datasets: Mapping[str, "Dataset"] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The hash that identifies the model."""
        return hashlib.sha256(self.model).hexdigest()


def connect() -> "MlflowClient":
    """A client of the registry that has answered. Raises UserError within seconds if it does not.

    If the server has no registered models, it gets copies of the runs, and the registry is the
    checkout's own store.
    """
    own = local_store.uri_of(tracking.project_root(Path.cwd()))
    try:
        uri = tracking.chosen_uri() or own
    except ValueError as error:
        raise UserError(f"{tracking.URI}: {error}") from None
    require_response(uri, tracking.URI)
    client = _client(uri)
    try:
        client.search_registered_models(max_results=1)
    except Exception as error:
        # Each kind of store has exceptions of its own: one message for all.
        if local_store.own_database(uri) or not tracking.keeps_runs(client):
            raise _unusable(uri, error) from error
        print(
            f"note: the server {without_password(uri)} keeps runs but no registered models "
            f"({tracking.URI}): it gets a copy of each run, and the registry is {own}; see "
            "docs/deployment.md",
            file=sys.stderr,
        )
        client = _client(own)
    return client


def _unusable(uri: str, error: Exception) -> UserError:
    if database := local_store.sqlite_path(uri):
        return UserError(f"{database}: {local_store.reason_of(error)}")
    place = without_password(uri)
    return UserError(
        f"the registry {place} does not answer ({tracking.URI}): {store_reason(error)}"
    )


def _client(uri: str) -> "MlflowClient":
    local_store.prepare(uri)
    import mlflow

    variable = os.environ.get(tracking.URI)
    mlflow.set_tracking_uri(uri)
    # MLflow has set the variable too, which must keep the value that the user gave it.
    if variable is None:
        os.environ.pop(tracking.URI, None)
    else:
        os.environ[tracking.URI] = variable
    try:
        return mlflow.MlflowClient()
    except Exception as error:
        raise _unusable(uri, error) from error


@contextlib.contextmanager
def exclusive(client: "MlflowClient") -> Iterator[None]:
    """Wait for the lock of a checkout's own store, and hold it; there is none for a server."""
    with local_store.exclusive(client.tracking_uri):
        yield


def find(client: "MlflowClient", name: str, package: Package) -> "ModelVersion | None":
    """The version with this model, this threshold and these files beside it, by their hashes."""
    tags = identity(package).items()
    for version in client.search_model_versions(f"name = '{name}'"):
        if tags <= version.tags.items():
            return version
    return None


def version_to_beat(
    client: "MlflowClient", name: str, challenger: "ModelVersion | None"
) -> "ModelVersion | None":
    """The champion; if that is the challenger itself, whose promotion was interrupted, `previous`."""
    numbers = aliases(client, name)
    own = challenger is not None and numbers.get(CHAMPION) == str(challenger.version)
    alias = PREVIOUS if own else CHAMPION
    return client.get_model_version_by_alias(name, alias) if alias in numbers else None


def load(version: "ModelVersion") -> bytes:
    """The ONNX model of a version.

    Raises UserError if it is missing, has another hash than the registered one, or is hostile.
    """
    from mlflow import MlflowException
    from mlflow.artifacts import download_artifacts

    name = f"{version.name} version {version.version}"
    with TemporaryDirectory() as folder:
        try:
            path = download_artifacts(f"models:/{version.name}/{version.version}", dst_path=folder)
            model = (Path(path) / "model.onnx").read_bytes()
        except (MlflowException, OSError) as error:
            reason = without_password(first_line(error))
            raise UserError(f"{name}: model.onnx cannot be read ({reason}): {RESTORE}") from error
    actual, expected = hashlib.sha256(model).hexdigest(), version.tags.get(SHA256)
    if actual != expected:
        raise UserError(f"{name}: model.onnx has the hash {actual}, expected {expected}: {RESTORE}")
    _check_graph(name, model)
    return model


def _check_graph(name: str, model: bytes) -> None:
    """Raises UserError for a graph that the service would reject."""
    try:
        check_graph(model)
    except VersionRejected as error:
        raise UserError(f"{name}: {error}") from error


@contextlib.contextmanager
def run(experiment_id: str, package: Package) -> Iterator[str]:
    """An MLflow run with parameters, metrics, tags and artifacts; marked failed if the block fails."""
    import mlflow

    with mlflow.start_run(
        experiment_id=experiment_id, run_name=package.run_name or None, tags=dict(package.tags)
    ) as active:
        mlflow.log_params(dict(package.parameters))
        mlflow.log_metrics(dict(package.metrics))
        for path in package.artifacts:
            mlflow.log_artifact(str(path), path.parent.name)
        for name, dataset in package.datasets.items():
            with warnings.catch_warnings():
                # MLflow registers its class for local files twice, and warns of the choice.
                warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
                logged = mlflow.data.from_pandas(
                    dataset.table, source=str(dataset.path), name=name, digest=dataset.md5
                )
            mlflow.log_input(logged, context=dataset.context)
        yield active.info.run_id
    tracking.copy(mlflow.MlflowClient(), active.info.run_id)


def publish(
    client: "MlflowClient", name: str, experiment_id: str, package: Package, card: str
) -> "ModelVersion":
    """Log the model in a run of its own, then register it, so that no incomplete version exists.

    Raises UserError for a model that the service would reject.
    """
    models = {"model.onnx": package.model} | dict(package.beside)
    for file, content in models.items():
        if file.endswith(".onnx"):
            _check_graph(file, content)
    with run(experiment_id, package) as run_id:
        model_id = _log_model(package)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Risk of coronary artery disease")
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run_id,
        model_id=model_id,
        description=card,
        tags={**package.tags, **identity(package), SCHEMA: fingerprint()},
    )
    client.set_tag(run_id, "mlflow.runName", f"version {version.version}: {package.run_name}")
    client.set_tag(run_id, "mlflow.note.content", card)
    return version


def identity(package: Package) -> dict[str, str]:
    """The tags that identify a version: the hash of each file, and the threshold."""
    beside = {
        hash_tag(file): hashlib.sha256(content).hexdigest()
        for file, content in package.beside.items()
    }
    return {SHA256: package.sha256, THRESHOLD: f"{package.threshold:g}", **beside}


def _log_model(package: Package) -> str:
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    example = fictional_rows(1)
    tensors = [TensorSpec(np.dtype(np.float32), shape, name) for name, shape in _SHAPES]
    with TemporaryDirectory() as folder:
        beside = {
            **package.beside,
            "schema.json": as_json(schema_document()),
            SELF_TEST: as_json(self_test(package.model)),
        }
        for file, content in beside.items():
            (Path(folder) / file).write_bytes(content)
        info = mlflow.onnx.log_model(
            onnx.load_from_string(package.model),
            name="model",
            signature=ModelSignature(Schema(tensors[:1]), Schema(tensors[1:])),
            input_example=example,
            pip_requirements=["onnxruntime", "numpy"],
            metadata={SHA256: package.sha256, SCHEMA: fingerprint()},
            onnx_execution_providers=["CPUExecutionProvider"],
            # As in the service: a row takes microseconds, and more threads would only add overhead.
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
            # One file, so that one hash covers the whole model.
            save_as_external_data=False,
            extra_files=[str(Path(folder) / file) for file in beside],
        )
    return str(info.model_id)


_SHAPES = ((INPUT, (-1, len(NAMES))), (OUTPUT, (-1, 1)))


def fictional_rows(rows: int, seed: int = 0) -> Any:
    """Encoded random rows [n, 13]: uniform within the bounds, odd rows with missing values."""
    random = np.random.default_rng(seed)
    values = np.empty((rows, len(NAMES)), dtype=np.float32)
    for column, m in enumerate(MEASUREMENTS):
        if m.choices:
            values[:, column] = random.integers(len(m.choices), size=rows)
        else:
            steps = round((m.high - m.low) / m.step)
            values[:, column] = m.low + m.step * random.integers(steps + 1, size=rows)
    missing = random.random(values.shape) < 0.3
    missing[::2] = False
    missing[:, [m.required for m in MEASUREMENTS]] = False
    values[missing] = np.nan
    return values


def self_test(model: bytes) -> dict[str, Any]:
    """Rows and the probabilities that the model must give for them on every machine."""
    rows = fictional_rows(16)
    return {
        "rows": [[None if np.isnan(v) else float(v) for v in row] for row in rows],
        "probabilities": [float(p) for p in predict(model, rows)],
        "tolerance": 1e-6,
    }


def as_json(content: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def schema_document() -> dict[str, Any]:
    """The schema of the model, for a reader without this project."""
    return {
        "fingerprint": fingerprint(),
        "measurements": [
            {
                "name": m.name,
                "unit": m.unit,
                "low": m.low,
                "high": m.high,
                "choices": [choice.name for choice in m.choices],
            }
            for m in (*MEASUREMENTS, OUTCOME)
        ],
    }
