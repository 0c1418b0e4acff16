"""From outcomes in the service's log to an evaluated challenger, with the real DVC and MLflow."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from heart import files
from heart.predictions.log import PredictionLog, Record, new_ids
from heart.registry import publishing as registry
from heart.registry.aliases import SHA256, VERDICT
from heart.schema import MEASUREMENTS, NAMES
from stages.params import SECTIONS
from tests.conftest import copied
from tests.heart.predictions.logs import opened, until
from tests.processes import alive, children, command_line, seconds

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"
LOG = {"HEART_LOG_URL": "sqlite:///registry/predictions.db"}
RETRAIN = "python -m monitoring.retraining.run"

Command = Callable[..., Any]


def answered(log: PredictionLog, patients: pd.DataFrame, shuffled: bool = False) -> None:
    """Log patients who are a year older than the known ones, with their outcomes."""
    outcomes = patients["heart_disease"].tolist()
    if shuffled:
        outcomes = np.random.default_rng(0).permutation(outcomes).tolist()
    for row, outcome in zip(patients.to_dict("records"), outcomes, strict=True):
        measurements = [
            (row[m.name] if m.choices else float(row[m.name])) if row[m.name] else None
            for m in MEASUREMENTS
        ]
        measurements[NAMES.index("age")] = float(row["age"]) + 1
        (key,) = new_ids(1)
        log.append_sync([Record(key, "1", 0.5, measurements)])
        log.record_outcome(key, str(outcome), "registry")


@pytest.fixture
def client(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the project's registry, in the project's folder."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return registry.connect()


def history(client: Any) -> list[Any]:
    """All retrainings, newest first."""
    experiment = client.get_experiment_by_name(f"{NAME}-retraining")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def aliases(client: Any) -> dict[str, Any]:
    return dict(client.get_registered_model(NAME).aliases)


def test_outcomes_become_an_evaluated_challenger(
    project: Path, client: Any, command: Command, patients: pd.DataFrame
) -> None:
    with opened(f"sqlite:///{project}/registry/predictions.db") as log:
        answered(log, patients.head(12))
        first = command(RETRAIN, project, code=os.EX_TEMPFAIL, **LOG).stdout
        assert "No retraining: 8 more outcomes" in first
        assert history(client) == []

        answered(log, patients.iloc[12:140])
        output = command([*RETRAIN.split(), "--trigger", "age drifts"], project, **LOG).stdout
        again = command(RETRAIN, project, code=os.EX_TEMPFAIL, **LOG).stdout

    [run] = history(client)
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert (tags["trigger"], tags["rows"], tags["new_outcomes"]) == ("age drifts", "140", "140")
    assert (tags["version"], tags["champion"]) == ("2", "1")
    assert tags["verdict"] in {"passed", "rejected"}
    assert f"challenger version 2: {tags['verdict']}" in output
    assert {"source_raw", "source_production"} <= set(output.split())
    assert aliases(client)["champion"] == (2 if tags["verdict"] == "passed" else 1)
    pointer = yaml.safe_load((project / "data/production/labelled.csv.dvc").read_text())
    assert pointer["outs"][0]["md5"] == tags["labelled_md5"]
    test = pd.read_csv(project / "data/test.csv")
    assert set(test["source"]) == {"raw", "production"}
    assert "No retraining: 20 more outcomes, " in again
    assert (project / "registry/retrain.lock").read_text() == ""
    closed = [(project / folder).stat().st_mode & 0o777 for folder in (files.DATA, files.CACHE)]
    assert closed == [0o700, 0o700]


@pytest.mark.heavy
def test_shuffled_outcomes_are_quarantined(
    project: Path, client: Any, command: Command, patients: pd.DataFrame
) -> None:
    with opened(f"sqlite:///{project}/registry/predictions.db") as log:
        answered(log, patients, shuffled=True)

    output = command(RETRAIN, project, code=os.EX_TEMPFAIL, **LOG).stdout

    assert f"{len(patients)} outcomes are quarantined" in output
    assert history(client) == []
    assert aliases(client)["champion"] == 1
    assert not (project / files.PRODUCTION).exists()


def works(retraining: int, stage: str) -> bool:
    """Whether the process of a stage is there and has done some work."""
    processes = [pid for pid in children(retraining) if f"stages.{stage}" in command_line(pid)]
    return any(seconds(pid) > 0.3 for pid in processes)


@pytest.mark.heavy
@pytest.mark.parametrize("stage", SECTIONS)
def test_a_retraining_killed_in_any_stage_is_completed_by_the_next_call(
    stage: str,
    project: Path,
    client: Any,
    command: Command,
    environment: dict[str, str],
    patients: pd.DataFrame,
) -> None:
    with opened(f"sqlite:///{project}/registry/predictions.db") as log:
        answered(log, patients.head(140))
    out = project / "registry" / "out"
    with out.open("w") as file:
        retraining = subprocess.Popen(
            [sys.executable, "-m", "monitoring.retraining.run"], cwd=project, env=environment | LOG,
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: f"Running stage '{stage}'" in out.read_text(), 240)
        until(lambda: works(retraining.pid, stage), 60)
        started = children(retraining.pid)
    finally:
        os.kill(retraining.pid, signal.SIGKILL)
        retraining.wait()
    until(lambda: not any(map(alive, started)), 120)  # a running stage ends by itself
    assert client.get_model_version_by_alias(NAME, "champion").tags[SHA256]

    command(RETRAIN, project, **LOG)

    assert sorted(run.info.status for run in history(client)) == ["FINISHED", "KILLED"]
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert sorted(int(v.version) for v in versions) == [1, 2]
    assert all(VERDICT in v.tags for v in versions)
    assert "up to date" in command("dvc status", project).stdout


@pytest.mark.heavy
def test_a_copy_of_a_retrained_project_can_retrain(
    project: Path, client: Any, command: Command, patients: pd.DataFrame, tmp_path: Path
) -> None:
    with opened(f"sqlite:///{project}/registry/predictions.db") as log:
        answered(log, patients.head(140))
    command(RETRAIN, project, **LOG)
    store = tmp_path / "remote"
    other = copied(project, tmp_path / "other")
    command(f"dvc remote add -d store {store}", other)

    forced = command([*RETRAIN.split(), "--force"], other, **LOG).stdout

    assert "challenger version 2" in forced
    assert list(store.rglob("*"))
    assert len(history(client)) >= 1
