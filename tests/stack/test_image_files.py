"""What gets into the images, as far as files tell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from requirements import install
from tests.stack.compose_file import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()

FOLDERS = {
    "deploy",
    "heart",
    "monitoring",
    "monitoring/retraining",
    "monitoring/retraining/webhook",
    "serve",
}


def in_context(root: Path) -> set[str]:
    """What a build in this folder sends to the engine."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return {str(path) for path in exclude_paths(str(root), patterns)}


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "deploy/.env",
        "serve/.env.local",
        "serve/__pycache__/api.pyc",
        "monitoring/retraining/webhook/runs.db",
        "registry/mlflow.db",
        "registry/cache/current.json",
        "data/raw/heart.csv",
        "data/production/labelled.csv",
        "models/model.onnx",
        "backups/2026/heart.dump",
        ".dvc/config.local",
        ".venv/bin/python",
        "id_rsa",
        "serve/id_rsa.pem",
        "deploy/server.key",
        "tests/conftest.py",
    ],
)
def test_image_contains_no_history_data_or_secret(path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True) if "/" in path else None
    (tmp_path / path).write_text("secret")
    (tmp_path / "heart").mkdir()
    (tmp_path / "heart/schema.py").write_text("")

    assert in_context(tmp_path) - FOLDERS == {"heart/schema.py"}


def test_build_context_contains_all_copied_files() -> None:
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE)
    sources = {source for line in copied for source in line.split()}

    assert {"heart", "serve", "monitoring", "requirements"} <= sources
    assert sources <= in_context(ROOT)


def test_what_serves_imports_nothing_that_is_not_copied(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    stage = DOCKERFILE.split("FROM runtime AS serve\n")[1].split("\nFROM ")[0]
    for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", stage):
        for source in line.split():
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
            copy(ROOT / source, tmp_path / source)

    program = "import serve.__main__, serve.ui.layout, monitoring.report"
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True
    )  # fmt: skip


def test_nothing_needs_buildkit() -> None:
    assert not re.search(r"(?m)^RUN --|^COPY --(?!from=)|<<|^# syntax", DOCKERFILE)


def test_every_package_comes_from_the_lock_by_its_hash() -> None:
    text = DOCKERFILE.replace("\\\n", "")
    installs = re.findall(r"(?m)/opt/venv/bin/python /requirements/install\.py ([a-z ]+\b)", text)
    sets = {name for line in installs for name in line.split()}

    assert "pip install" not in text
    assert sets == {"serve", "pipeline", "stack", "torch"}
    assert all((ROOT / f"requirements/{name}.txt").is_file() for name in sets - {"torch"})
    assert "torch" in install.locked()


@pytest.mark.parametrize("target", ["serve", "pipeline"])
def test_an_image_is_not_root_and_says_what_it_is(target: str) -> None:
    stage = DOCKERFILE.split(f"FROM runtime AS {target}\n")[1].split("\nFROM ")[0]

    assert "\nUSER 1000:1000\n" in stage
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in stage
