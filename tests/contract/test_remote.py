"""Data that lie elsewhere: a DVC remote by its S3 endpoint, and labelled answers behind a pointer."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.params import SECTIONS
from tests.conftest import copied
from tests.s3 import CREDENTIALS, s3_server

POINTER = "data/production/labelled.csv.dvc"

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server on the loopback with the bucket `heart`."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def dvc(command: Command) -> Command:
    """A dvc command with the credentials of the remote."""

    def run(line: str, folder: Path, code: int | None = 0) -> str:
        return str(command(f"dvc {line}", folder, code, **CREDENTIALS).stdout)

    return run


@pytest.fixture(scope="module")
def pushed(
    small_pipeline: Path,
    endpoint: str,
    dvc: Command,
    command: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A copy of the small pipeline whose outputs are also in the bucket."""
    project = tmp_path_factory.mktemp("remote") / "project"
    copied(small_pipeline, project)
    dvc("remote add -d s3 s3://heart/store", project)
    dvc(f"remote modify s3 endpointurl {endpoint}", project)
    dvc("push", project)
    command("git commit --quiet --all -m remote", project)
    return project


def outputs(project: Path) -> dict[str, bytes]:
    """What DVC keeps of the small pipeline."""
    return {
        str(path.relative_to(project)): path.read_bytes()
        for pattern in ("data/*.csv", "models/*", "plots/*")
        for path in project.glob(pattern)
        if path.name != ".gitignore"
    }


def test_all_outputs_come_back_from_the_remote(pushed: Path, tmp_path: Path, dvc: Command) -> None:
    project = Path(shutil.copytree(pushed, tmp_path / "project", symlinks=True))
    shutil.rmtree(project / ".dvc" / "cache")
    for path in outputs(pushed):
        (project / path).unlink()

    dvc("pull", project)

    assert outputs(project) == outputs(pushed)
    assert "Data and pipelines are up to date." in dvc("status", project)


def test_after_a_pull_a_clone_needs_only_to_register(
    pushed: Path, tmp_path: Path, dvc: Command, command: Command
) -> None:
    clone = tmp_path / "clone"
    command(f"git clone --quiet {pushed} {clone}", tmp_path)

    dvc("pull", clone)
    output = dvc("repro", clone)

    for stage in SECTIONS:
        skipped = f"Stage '{stage}' didn't change, skipping" in output
        assert skipped == (stage != "register")
    assert (clone / "registry" / "mlflow.db").is_file()
    assert command("git status --porcelain", clone).stdout == ""


# Labelled answers


@pytest.fixture(scope="module")
def answers(pushed: Path, dvc: Command, command: Command) -> Path:
    """The project after labelled answers were added, pushed and committed."""
    project = Path(shutil.copytree(pushed, pushed.parent / "answers", symlinks=True))
    older = pd.read_csv(project / "data" / "raw" / "heart.csv", dtype=str).head(30)
    older["age"] = (older["age"].astype(int) + 1).astype(str)
    older["patient_id"] = [f"answer-{i}" for i in range(len(older))]
    older.to_csv(project / "data" / "production" / "labelled.csv", index=False)
    dvc("add data/production/labelled.csv", project)
    dvc(f"push {POINTER}", project)
    for line in ("git add --all", "git commit --quiet -m answers"):
        command(line, project)
    return project


def test_a_pointer_without_content_stops_the_pipeline(
    answers: Path, tmp_path: Path, dvc: Command, command: Command
) -> None:
    clone = tmp_path / "clone"
    command(f"git clone --quiet {answers} {clone}", tmp_path)
    assert sorted(path.name for path in (clone / "data" / "production").iterdir()) == [
        ".gitignore", "README.md", "labelled.csv.dvc",
    ]  # fmt: skip

    repro = dvc("repro", clone, code=None)
    stage = command("python -m stages.prepare", clone, code=1).stdout

    # DVC finds the gap first, in words of its own; the stage says what to do.
    assert f"ERROR: failed to reproduce '{POINTER}': missing data 'source'" in repro
    assert stage.startswith(f"error: {POINTER} is here but data/production/labelled.csv is not")
    assert "run `dvc pull` first" in stage
    assert not (clone / "data" / "prepared.csv").exists()


def test_answers_join_the_patients_once_they_are_pulled(
    answers: Path, tmp_path: Path, dvc: Command, command: Command
) -> None:
    clone = tmp_path / "clone"
    command(f"git clone --quiet {answers} {clone}", tmp_path)

    dvc(f"pull {POINTER}", clone)
    dvc("repro prepare", clone)

    prepared = pd.read_csv(clone / "data" / "prepared.csv", dtype=str)
    assert prepared["source"].value_counts().to_dict() == {"raw": 303, "production": 30}
    assert "didn't change, skipping" in dvc("repro prepare", clone)
