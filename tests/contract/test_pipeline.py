"""The whole pipeline under DVC: what runs again, what does not, and what reaches the registry."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from heart.errors import run_main
from heart.registry import publishing as registry
from heart.registry.aliases import SHA256
from stages.params import SECTIONS
from stages.register import main
from tests.answering import answering
from tests.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"

Command = Callable[..., Any]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Enter a project; the client of its own registry."""

    def client(project: Path) -> Any:
        monkeypatch.chdir(project)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        return registry.connect()

    return client


def versions(client: Any) -> list[Any]:
    return sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda v: int(v.version))


def runs(client: Any, experiment: str = NAME) -> list[Any]:
    entry = client.get_experiment_by_name(experiment)
    return list(client.search_runs([entry.experiment_id])) if entry else []


def aliases(client: Any) -> dict[str, Any]:
    return dict(client.get_registered_model(NAME).aliases)


def ran(output: str) -> list[str]:
    """The stages that a `dvc repro` has run."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def set_parameter(project: Path, section: str, **values: Any) -> None:
    path = project / "params.yaml"
    document = yaml.safe_load(path.read_text())
    document[section] |= values
    path.write_text(yaml.safe_dump(document, sort_keys=False))


# A fresh clone


def test_a_fresh_clone_has_a_champion_after_one_command(
    small_pipeline: Path, project: Path, here: Any
) -> None:
    client = here(project)

    [version] = versions(client)

    assert aliases(client) == {"champion": int(version.version)}
    verdict = json.loads((small_pipeline / "metrics" / "register.json").read_text())
    assert (verdict["verdict"], verdict["version"]) == ("passed", 1)
    recorded = json.loads((small_pipeline / "registry" / "registered.json").read_text())
    assert recorded == {"model_sha256": version.tags[SHA256]}


def test_outputs_of_a_run_are_ignored_or_committed(small_pipeline: Path, command: Command) -> None:
    assert command("git status --porcelain", small_pipeline).stdout == ""
    changed = command("git diff --name-only HEAD~1", small_pipeline).stdout.splitlines()

    reports = {f"metrics/{name}.json" for name in (*SECTIONS, "headline")}
    assert set(changed) == {"dvc.lock", *reports}


def test_the_version_says_where_it_came_from(project: Path, here: Any, command: Command) -> None:
    client = here(project)
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    hashes = {d["path"]: d["md5"] for d in lock["register"]["deps"]}

    [version] = versions(client)
    run = client.get_run(version.run_id)

    # The commit before the one with the results, and the mark that results were in the making.
    commit = command("git rev-parse HEAD~1", project).stdout.strip()
    assert version.tags["git_commit"] == f"{commit}-dirty"
    assert version.tags["train_md5"] == hashes["data/train.csv"]
    assert version.tags["test_md5"] == hashes["data/test.csv"]
    assert version.tags["requirements_md5"] == hashes["requirements/lock.txt"]
    assert run.data.params == {
        f"{section}.{name}": str(value)
        for section, known in SECTIONS.items()
        for name, value in known.load().model_dump(mode="json").items()
    }
    figures = json.loads((project / "metrics" / "evaluate.json").read_text())
    assert run.data.metrics["evaluate.roc_auc"] == figures["roc_auc"]
    logged = {file.path for file in client.list_artifacts(run.info.run_id, "metrics")}
    assert logged == {f"metrics/{stage}.json" for stage in SECTIONS if stage != "register"}


def test_the_version_has_its_governance_documents(
    project: Path, here: Any, tmp_path: Path, command: Command
) -> None:
    client = here(project)
    [version] = versions(client)
    target = str(tmp_path)

    folder = Path(client.download_artifacts(version.run_id, "governance", target))

    checklist = json.loads((folder / "hti_1.json").read_text())
    assert len(checklist["items"]) == 31
    events = map(json.loads, (folder / "openlineage.ndjson").read_text().splitlines())
    assert {event["job"]["name"] for event in events} == set(SECTIONS)
    command("python -m heart.registry.governance", project)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (project / "reports/governance").iterdir()
    }


# Nothing changed


def test_a_second_run_does_nothing(project: Path, command: Command) -> None:
    output = command("dvc repro", project).stdout

    assert ran(output) == []
    assert "Data and pipelines are up to date." in output
    assert "up to date" in command("dvc status", project).stdout
    assert command("git status --porcelain", project).stdout == ""


def test_the_same_model_again_changes_nothing(project: Path, here: Any) -> None:
    client = here(project)
    records = [project / "metrics" / "register.json", project / "registry" / "registered.json"]
    before = [path.read_bytes() for path in records], str(versions(client)), len(runs(client))

    run_main(main)

    assert (
        [path.read_bytes() for path in records],
        str(versions(client)),
        len(runs(client)),
    ) == before


@pytest.mark.heavy
def test_forced_runs_give_an_identical_lock(project: Path, command: Command) -> None:
    locks = [(project / "dvc.lock").read_bytes()]

    for _ in range(2):
        command("dvc repro --force", project)
        locks.append((project / "dvc.lock").read_bytes())

    assert locks[0] == locks[1] == locks[2]


@pytest.mark.heavy
def test_a_clone_without_cache_runs_all_and_registers(
    small_pipeline: Path, tmp_path: Path, command: Command, here: Any
) -> None:
    command(f"git clone --quiet {small_pipeline} {tmp_path / 'clone'}", tmp_path)

    output = command("dvc repro", tmp_path / "clone").stdout

    assert ran(output) == list(SECTIONS)
    client = here(tmp_path / "clone")
    assert aliases(client) == {"champion": 1}
    model = (small_pipeline / "models" / "model.onnx").read_bytes()
    assert registry.load(versions(client)[0]) == model


# A registry that was lost


def test_a_deleted_registry_gets_the_model_again(
    project: Path, command: Command, here: Any
) -> None:
    shutil.rmtree(project / "registry")
    lock = (project / "dvc.lock").read_bytes()

    output = command("dvc repro", project).stdout

    assert ran(output) == ["register"]
    assert aliases(here(project)) == {"champion": 1}
    assert (project / "dvc.lock").read_bytes() == lock
    assert command("git status --porcelain", project).stdout == ""


def test_a_deleted_database_gets_the_model_again(
    project: Path, command: Command, here: Any
) -> None:
    (project / "registry" / "mlflow.db").unlink()
    client = here(project)
    assert not versions(client)

    run_main(main)

    assert aliases(client) == {"champion": 1}
    assert command("git status --porcelain", project).stdout == ""


# The gate, as the stage


def test_a_worse_model_is_rejected_without_an_error(
    project: Path, here: Any, model_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client = here(project)
    (project / "models" / "model.onnx").write_bytes(model_of(shuffled=True))

    run_main(main)

    verdict = json.loads((project / "metrics" / "register.json").read_text())
    assert (verdict["verdict"], verdict["version"]) == ("rejected", 2)
    assert f"{NAME}: version 2, rejected; roc_auc against the champion" in capsys.readouterr().out
    assert aliases(client) == {"champion": 1}
    assert SHA256 in versions(client)[1].tags


def test_a_registry_that_does_not_answer_fails_and_writes_nothing(
    project: Path, here: Any, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    here(project)
    shutil.rmtree(project / "registry")
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")

    start = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        run_main(main)

    assert time.monotonic() - start < 15
    assert str(stopped.value.code).startswith(f"error: the registry http://127.0.0.1:{port} does")
    assert not (project / "registry").exists()
    assert command("git status --porcelain", project).stdout == ""


# Experiments


def test_an_experiment_is_logged_and_never_registered(
    project: Path, command: Command, here: Any
) -> None:
    output = command("dvc exp run -S train.model=random_forest -n forest", project).stdout

    client = here(project)
    assert ran(output) == ["train", "reference", "evaluate", "register"]
    [run] = runs(client, f"{NAME}-experiments")
    assert run.data.tags["dvc_experiment"] == run.info.run_name == "forest"
    assert run.data.params["train.model"] == "random_forest"
    assert run.info.status == "FINISHED"
    assert len(versions(client)) == len(runs(client)) == 1
    assert aliases(client) == {"champion": 1}
    verdict = json.loads((project / "metrics" / "register.json").read_text())
    assert verdict["verdict"] == "experiment"


@pytest.mark.heavy
def test_queued_experiments_reach_the_registry_of_the_main_folder(
    project: Path, command: Command, here: Any
) -> None:
    command("dvc exp run --queue -S evaluate.threshold=0.4,0.6", project)

    command("dvc exp run --run-all", project)

    client = here(project)
    logged = runs(client, f"{NAME}-experiments")
    assert {run.data.params["evaluate.threshold"] for run in logged} == {"0.4", "0.6"}
    for run in logged:
        artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
        assert artifacts.is_relative_to(project / "registry" / "artifacts")
        assert (artifacts / "metrics" / "evaluate.json").is_file()
    assert len(versions(client)) == 1
    assert aliases(client) == {"champion": 1}
    # What was computed aside is back as experiments, and the workspace is as it was.
    assert len(command("dvc exp list --name-only", project).stdout.split()) == 2
    assert command("git status --porcelain", project).stdout == ""


# Parameters


def test_a_misspelt_parameter_is_refused_with_the_known_ones(
    project: Path, command: Command
) -> None:
    set_parameter(project, "train", modell="random_forest")

    output = command("dvc repro", project, code=None)

    assert output.returncode != 0
    known = ", ".join(SECTIONS["train"].model_fields)
    assert f"error: params.yaml: train.modell is unknown, known are {known}" in output.stdout
    assert "Traceback" not in output.stdout


def test_a_misspelled_parameter_of_an_experiment_is_rejected(
    project: Path, command: Command
) -> None:
    output = command("dvc exp run -S train.modell=x", project, code=None)

    assert output.returncode != 0
    assert "Could not override 'train.modell'" in output.stdout
    assert command("git status --porcelain", project).stdout == ""


# A tracking server


@pytest.fixture
def server(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of an MLflow server on the loopback, with a store and a folder of its own."""
    folder = tmp_path / "server"
    folder.mkdir()
    port = free_port()
    line = (
        f"mlflow server --host 127.0.0.1 --port {port} --workers 1 "
        "--backend-store-uri sqlite:///server.db --artifacts-destination ./artifacts"
    )
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            line.split(), cwd=folder, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{address}/health", process, folder / "log")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(address: str, process: Any, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.heavy
def test_tracking_uri_alone_replaces_the_projects_registry(
    project: Path, server: str, command: Command, model_of: Any
) -> None:
    import mlflow

    shutil.rmtree(project / "registry")
    for _ in range(2):
        output = command("python -m stages.register", project, MLFLOW_TRACKING_URI=server).stdout
        assert f"{NAME}: version 1, passed" in output
    (project / "models" / "model.onnx").write_bytes(model_of(shuffled=True))
    output = command("python -m stages.register", project, MLFLOW_TRACKING_URI=server).stdout

    assert f"{NAME}: version 2, rejected; roc_auc against the champion" in output
    client = mlflow.MlflowClient(server)
    assert len(versions(client)) == len(runs(client)) == 2
    assert aliases(client) == {"champion": "1"}
    own = {path.name for path in (project / "registry").iterdir() if path.suffix != ".pem"}
    assert own == {"registered.json"}
    assert list((project.parent / "server" / "artifacts").rglob("model.onnx"))


@pytest.fixture
def tracking_only(server: str) -> Iterator[str]:
    """The address of that server without its half for registered and logged models."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        if re.search("/(registered-models|model-versions|logged-models)/", handler.path):
            return 404, b""
        passed_on = urllib.request.Request(  # noqa: S310
            server + handler.path, body or None, dict(handler.headers), method=handler.command
        )
        try:
            with urllib.request.urlopen(passed_on, timeout=30) as response:  # noqa: S310
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    with answering(answer) as address:
        yield address


@pytest.mark.heavy
def test_server_without_a_model_registry_gets_runs_only(
    project: Path, server: str, tracking_only: str, command: Command, tmp_path: Path
) -> None:
    import mlflow

    store = tmp_path / "remote"
    command(f"dvc remote add -d store {store}", project)
    command("dvc push", project)
    command("git commit --quiet -am remote", project)
    command(f"git clone --quiet {project} {tmp_path / 'clone'}", project)
    command("dvc pull", tmp_path / "clone")

    output = command(
        "python -m stages.register", tmp_path / "clone", MLFLOW_TRACKING_URI=tracking_only
    ).stdout

    assert f"the server {tracking_only} keeps runs but no registered models" in output
    assert f"{NAME}: version 1, passed" in output
    [run] = runs(mlflow.MlflowClient(server))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["evaluate.roc_auc"] > 0.8
    assert run.data.params["register.model_name"] == NAME
    files = mlflow.MlflowClient(server).list_artifacts(run.info.run_id, "metrics")
    assert "metrics/evaluate.json" in {file.path for file in files}
    own = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'clone/registry/mlflow.db'}")
    assert {alias: str(n) for alias, n in aliases(own).items()} == {"champion": "1"}
