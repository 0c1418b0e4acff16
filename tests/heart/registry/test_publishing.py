import contextlib
import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from heart.errors import UserError
from heart.ml.onnx_export import predict
from heart.registry import local_store, tracking
from heart.registry import publishing as registry
from heart.registry.aliases import CHAMPION, PREVIOUS, SCHEMA, SHA256, VERDICT, set_champion
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, fingerprint
from monitoring.retraining.history import RetrainingHistory
from tests.answering import answering
from tests.heart.registry import hostile
from tests.heart.registry.registry_fixture import forget
from tests.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"

Publish = Callable[..., Any]


@pytest.fixture
def publish(store: Any, package_of: Any, model_of: Any) -> Publish:
    def published(card: str = "a card", **model: Any) -> Any:
        return registry.publish(
            store, NAME, local_store.experiment(store, NAME), package_of(model_of(**model)), card
        )

    return published


def files_of(version: Any) -> Path:
    """The folder with the files of a version."""
    model_id: str = version.source.removeprefix("models:/")
    return Path("registry") / "artifacts" / NAME / "models" / model_id / "artifacts"


# The location of the registry


def test_a_relative_registry_starts_at_the_project_also_in_a_queued_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpab12"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv(tracking.URI, "sqlite:///runs/x.db")

    assert tracking.chosen_uri() == f"sqlite:///{tmp_path}/runs/x.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_registry(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.URI, uri)

    with pytest.raises(UserError) as error:
        registry.connect()

    assert str(error.value).startswith(f"{tracking.URI}: {uri} ")


@pytest.mark.parametrize(("revision", "way_out"), [("0c779009ac13", "upgrade"), ("abc0", "newer")])
def test_a_store_of_another_mlflow_is_one_line(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str, way_out: str
) -> None:
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch, tracking.URI)
    database = tmp_path / "registry" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))

    with pytest.raises(UserError) as error:
        registry.connect()

    message = str(error.value)
    assert message.startswith(f"{database}: ")
    assert revision in message
    assert way_out in message
    assert "\n" not in message


def test_a_deleted_experiment_is_an_error_with_the_command_that_restores_it(store: Any) -> None:
    number = local_store.experiment(store, NAME)
    store.delete_experiment(number)

    with pytest.raises(UserError, match=f"restore --experiment-id {number}`") as error:
        local_store.experiment(store, NAME)

    assert NAME in str(error.value)


@pytest.mark.parametrize(
    ("here", "root"),
    [
        ("/home/me/project", "/home/me/project"),
        ("/home/me/project/.dvc/tmp/exps/tmpab12", "/home/me/project"),
        ("/home/me/project/.dvc/tmp/exps/tmpab12/deeper", "/home/me/project"),
        ("/home/me/.dvc/tmp/other", "/home/me/.dvc/tmp/other"),
    ],
)
def test_the_copy_of_a_queued_experiment_belongs_to_the_main_folder(here: str, root: str) -> None:
    assert tracking.project_root(Path(here)) == Path(root)


def test_without_a_uri_the_registry_is_in_the_project(store: Any, tmp_path: Path) -> None:
    assert store.tracking_uri == f"sqlite:///{tmp_path}/registry/mlflow.db"


def test_a_uri_replaces_the_own_registry(
    store: Any, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    other.write_bytes((empty_store / "registry" / "mlflow.db").read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")

    client = registry.connect()
    local_store.experiment(client, "made-there")

    assert client.get_experiment_by_name("made-there") is not None
    assert store.get_experiment_by_name("made-there") is None


def test_a_queued_experiment_writes_to_the_main_folder(
    store: Any, tmp_path: Path, package_of: Any, model_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    client = registry.connect()
    experiment = local_store.experiment(client, "queued")
    with registry.run(experiment, package_of(model_of())) as run_id:
        pass

    assert store.get_run(run_id).info.experiment_id == experiment
    artifacts = Path(store.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "metrics" / "evaluate.json").is_file()
    assert artifacts.is_relative_to(tmp_path / "registry" / "artifacts" / "queued")
    assert not list(queued.iterdir())


@pytest.mark.usefixtures("store")
def test_a_registry_that_does_not_answer_is_a_clear_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    start = time.monotonic()
    with pytest.raises(UserError) as error:
        registry.connect()

    assert time.monotonic() - start < 15
    message = str(error.value)
    assert message.startswith(f"the registry {uri} does not answer (MLFLOW_TRACKING_URI): ")
    assert "refused" in message
    assert "\n" not in message


@pytest.mark.usefixtures("store")
def test_the_error_does_not_contain_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:p@s3cret@127.0.0.1:{free_port()}")

    with pytest.raises(UserError) as error:
        registry.connect()

    assert "127.0.0.1" in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.fixture(params=["<h1>Not here</h1>", '{"message": "Not here"}'], ids=["html", "json"])
def tracking_only(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URI of a server that answers for experiments and with 404 for everything else."""

    def answer(request_handler: BaseHTTPRequestHandler, _: bytes) -> tuple[int, bytes]:
        known = "/experiments/search" in request_handler.path
        return (200, b'{"experiments": []}') if known else (404, str(request.param).encode())

    with answering(answer) as address:
        yield address


def test_for_a_server_without_registered_models_the_registry_is_the_own_store(
    tracking_only: str, store: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_only.replace("//", "//me:s3cret@"))

    client = registry.connect()

    assert client.tracking_uri == store.tracking_uri
    note = capsys.readouterr().err
    assert f" {tracking_only} " in note
    assert "MLFLOW_TRACKING_URI" in note
    assert "docs/deployment.md" in note
    assert "s3cret" not in note


def test_a_failed_copy_of_a_run_is_printed_and_no_error(
    tracking_only: str, publish: Publish, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_only.replace("//", "//me:s3cret@"))

    version = publish()

    assert version.version in (1, "1")
    note = capsys.readouterr().err
    assert tracking_only in note
    assert version.run_id in note
    assert "s3cret" not in note


def test_retrainings_with_any_end_are_copied_too(
    store: Any, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    # Another store stands for a server: the client is the same.
    uri = f"sqlite:///{shutil.copy(empty_store / 'registry/mlflow.db', tmp_path / 'server.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    history = RetrainingHistory(store, NAME)
    done, failed, killed = (history.begin({"trigger": name}) for name in ("a", "b", "c"))

    history.finish(done, {"verdict": "rejected"}, {"all.brier.high": 0.01}, "the report")
    history.fail(failed, "no space left")
    history.interrupted(killed)

    server = MlflowClient(tracking_uri=uri)
    experiment = server.get_experiment_by_name(f"{NAME}-retraining")
    copies = {
        run.data.tags["copied_from"]: run for run in server.search_runs([experiment.experiment_id])
    }
    status = {own: run.info.status for own, run in copies.items()}
    assert status == {done: "FINISHED", failed: "FAILED", killed: "KILLED"}
    assert copies[failed].data.tags["reason"] == "no space left"
    copy = copies[done]
    assert (copy.data.tags["verdict"], copy.data.metrics) == ("rejected", {"all.brier.high": 0.01})
    assert [file.path for file in server.list_artifacts(copy.info.run_id)] == ["report.txt"]


# The content of a version


def test_a_version_holds_one_input_and_one_output(publish: Publish) -> None:
    version = publish()

    graph = onnx.load(files_of(version) / "model.onnx").graph

    def described(value: Any) -> tuple[Any, ...]:
        tensor = value.type.tensor_type
        return tensor.elem_type, [dim.dim_value or dim.dim_param for dim in tensor.shape.dim]

    assert [described(value) for value in graph.input] == [(onnx.TensorProto.FLOAT, ["n", 13])]
    assert [described(value) for value in graph.output] == [(onnx.TensorProto.FLOAT, ["n", 1])]


def test_a_version_has_a_signature_and_an_example(publish: Publish) -> None:
    from mlflow.models import get_model_info

    publish()

    info = get_model_info(f"models:/{NAME}/1")

    [argument], [result] = info.signature.inputs.inputs, info.signature.outputs.inputs
    assert (argument.name, argument.type, argument.shape) == ("measurements", np.float32, (-1, 13))
    assert (result.name, result.type, result.shape) == ("probability", np.float32, (-1, 1))
    assert info.saved_input_example_info is not None


def test_a_version_holds_its_schema(publish: Publish) -> None:
    version = publish()

    document = json.loads((files_of(version) / "extra_files" / "schema.json").read_text())

    assert document["fingerprint"] == fingerprint() == version.tags[SCHEMA]
    assert [m["name"] for m in document["measurements"]] == [*NAMES, OUTCOME.name]
    assert document["measurements"][1]["choices"] == ["female", "male"]
    assert (document["measurements"][0]["low"], document["measurements"][0]["high"]) == (18, 110)


def test_a_version_holds_a_self_test_that_it_passes(publish: Publish) -> None:
    version = publish()
    folder = files_of(version)

    test = json.loads((folder / "extra_files" / "self_test.json").read_text())

    rows = np.array([[np.nan if v is None else v for v in row] for row in test["rows"]])
    assert np.isnan(rows).any()
    probabilities = predict((folder / "model.onnx").read_bytes(), rows)
    assert np.abs(probabilities - test["probabilities"]).max() <= test["tolerance"] <= 1e-6
    assert np.ptp(test["probabilities"]) > 0.1


def test_a_version_holds_the_files_beside_the_model_with_their_hashes(
    publish: Publish, package_of: Any, model_of: Any
) -> None:
    version = publish(card="a description")
    package = package_of(model_of())

    for name, content in package.beside.items():
        assert (files_of(version) / "extra_files" / name).read_bytes() == content
    assert registry.identity(package).items() <= version.tags.items()
    assert version.tags["threshold"] == "0.5"
    assert package.tags.items() <= version.tags.items()
    assert version.tags[SHA256] == package.sha256
    assert version.description == "a description"
    assert VERDICT not in version.tags


def test_the_run_of_a_version_has_parameters_figures_and_files(
    publish: Publish, store: Any
) -> None:
    version = publish()

    run = store.get_run(version.run_id)

    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.seed": "0"}
    assert run.data.metrics == {"evaluate.roc_auc": 0.9}
    assert run.data.tags["git_commit"] == "abc"
    assert [f.path for f in store.list_artifacts(run.info.run_id, "metrics")] == [
        "metrics/evaluate.json"
    ]


def test_all_of_the_own_registry_lies_in_its_folder(publish: Publish, tmp_path: Path) -> None:
    before = {path for path in tmp_path.iterdir() if path.name != "registry"}

    publish()

    assert set(tmp_path.iterdir()) - {tmp_path / "registry"} == before


def test_a_run_that_raises_is_marked_failed(store: Any, package_of: Any, model_of: Any) -> None:
    experiment = local_store.experiment(store, NAME)

    with (
        pytest.raises(RuntimeError, match="stop"),
        registry.run(experiment, package_of(model_of())) as run_id,
    ):
        raise RuntimeError("stop")

    assert store.get_run(run_id).info.status == "FAILED"


def test_an_experiment_is_made_once(store: Any) -> None:
    assert local_store.experiment(store, NAME) == local_store.experiment(store, NAME)


# Finding and loading


def test_a_version_is_identified_by_the_hash_of_its_model(
    publish: Publish, store: Any, package_of: Any, model_of: Any
) -> None:
    version = publish()

    package = package_of(model_of())
    match = registry.find(store, NAME, package)

    assert match is not None
    assert match.version == version.version
    assert registry.find(store, NAME, package_of(model_of(strength=0.2))) is None
    assert registry.find(store, "another-name", package) is None


def test_a_model_with_another_threshold_is_another_version(
    publish: Publish, store: Any, package_of: Any, model_of: Any
) -> None:
    version = publish()
    package = package_of(model_of())

    assert registry.find(store, version.name, package) is not None
    assert registry.find(store, version.name, replace(package, threshold=0.4)) is None


def test_a_model_with_another_drift_reference_is_another_version(
    publish: Publish, store: Any, package_of: Any, model_of: Any
) -> None:
    publish()
    package = package_of(model_of())
    beside = {**package.beside, "reference.json": b"{}"}

    assert registry.find(store, NAME, replace(package, beside=beside)) is None


def test_the_model_of_a_version_comes_back_byte_for_byte(publish: Publish, model_of: Any) -> None:
    assert registry.load(publish()) == model_of()


@pytest.mark.security
def test_the_promotion_gate_gets_no_hostile_champion(publish: Publish, store: Any) -> None:
    version = publish()
    model = hostile.large_tensor()
    (files_of(version) / "model.onnx").write_bytes(model)
    digest = hashlib.sha256(model).hexdigest()
    store.set_model_version_tag(NAME, version.version, SHA256, digest)

    with pytest.raises(UserError, match="ConstantOfShape"):
        registry.load(store.get_model_version(NAME, version.version))


def test_a_model_that_the_service_would_reject_is_not_registered(
    store: Any, package_of: Any, model_of: Any
) -> None:
    good = package_of(model_of())
    for bad in (
        replace(good, model=hostile.large_tensor()),
        replace(good, beside={"standard_error.onnx": hostile.large_tensor()}),
    ):
        with pytest.raises(UserError, match="ConstantOfShape"):
            registry.publish(store, NAME, local_store.experiment(store, NAME), bad, "a card")

    assert not store.search_model_versions(f"name = '{NAME}'")


def test_a_changed_model_is_rejected(publish: Publish, model_of: Any) -> None:
    version = publish()
    (files_of(version) / "model.onnx").write_bytes(model_of(shuffled=True))

    with pytest.raises(UserError, match=r"heart-disease version 1: model\.onnx has the hash"):
        registry.load(version)


def test_the_champion_predicts_for_anyone_with_mlflow(
    publish: Publish, store: Any, model_of: Any
) -> None:
    import mlflow

    set_champion(store, NAME, publish().version)
    rows = registry.fictional_rows(7)

    results = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict(rows)

    assert list(results) == ["probability"]
    assert results["probability"].shape == (7, 1)
    assert np.array_equal(results["probability"][:, 0], predict(model_of(), rows))


# Aliases


def test_before_a_promotion_there_is_no_version_to_beat(publish: Publish, store: Any) -> None:
    assert registry.version_to_beat(store, NAME, None) is None

    version = publish()

    assert registry.version_to_beat(store, NAME, version) is None


def test_the_old_champion_becomes_the_previous_one(publish: Publish, store: Any) -> None:
    first, second = publish(), publish(strength=0.3)

    for version in (first, second):
        set_champion(store, NAME, version.version)

    versions = [registry.version_to_beat(store, NAME, challenger) for challenger in (None, second)]
    assert [version and version.version for version in versions] == [second.version, first.version]
    assert store.get_model_version_by_alias(NAME, PREVIOUS).version == first.version


def test_promoting_the_champion_again_changes_nothing(publish: Publish, store: Any) -> None:
    first, second = publish(), publish(strength=0.3)
    for version in (first, second, second):
        set_champion(store, NAME, version.version)

    assert store.get_registered_model(NAME).aliases == {
        CHAMPION: second.version,
        PREVIOUS: first.version,
    }


# Fictional patients


def test_fictional_patients_are_the_same_every_time() -> None:
    assert np.array_equal(registry.fictional_rows(9), registry.fictional_rows(9), equal_nan=True)
    assert not np.array_equal(
        registry.fictional_rows(9, seed=1), registry.fictional_rows(9), equal_nan=True
    )


def test_fictional_patients_are_valid_and_every_second_one_is_complete() -> None:
    rows = registry.fictional_rows(200)

    assert rows.dtype == np.float32
    for column, measurement in enumerate(MEASUREMENTS):
        known = rows[~np.isnan(rows[:, column]), column]
        high = len(measurement.choices) - 1 if measurement.choices else measurement.high
        assert measurement.low <= known.min() < known.max() <= high + 1e-6
        assert np.isnan(rows[1::2, column]).any() != measurement.required
    assert not np.isnan(rows[::2]).any()
