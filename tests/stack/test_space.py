"""The folder of a Hugging Face Space: what is in it, and that it runs by itself."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.space import build
from heart.ml.onnx_export import predict
from heart.registry.aliases import CHAMPION
from heart.schema import encode
from tests.heart.registry.registry_fixture import forget
from tests.processes import free_port
from tests.stack.compose_file import ROOT
from tests.stack.space_process import PATIENT

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

TOKEN = "a-token-of-the-space"
NAME = "heart-disease"


def refusal(folder: Path, registry: Path, patch: pytest.MonkeyPatch) -> str:
    """Why no Space can be written in a folder with the registry in a database file."""
    patch.chdir(folder)
    patch.setenv("HEART_TRACKING_URI", f"sqlite:///{registry}")
    forget(patch, "MLFLOW_SQLALCHEMYSTORE_POOLCLASS")  # loading a version sets it
    with pytest.raises(SystemExit) as refused:
        build.main()
    return str(refused.value)


@pytest.fixture(scope="session")
def registered(watched: Path) -> bytes:
    """The only model in the registry."""
    (result,) = (watched / "registry" / "artifacts").rglob("model.onnx")
    return result.read_bytes()


@pytest.fixture(scope="session")
def space(watched: Path, command: Callable[..., Any]) -> Iterator[Path]:
    """The folder of a Space, where any user may read it; only to read."""
    with tempfile.TemporaryDirectory() as work:
        Path(work).chmod(0o755)
        registry = watched / "registry" / "mlflow.db"
        settings = {"HEART_TRACKING_URI": f"sqlite:///{registry}", "PYTHONPATH": str(ROOT)}
        command([sys.executable, "-m", "deploy.space.build"], Path(work), **settings)
        yield Path(work) / "space"


def test_the_front_matter_is_of_a_docker_space_on_the_port_of_the_service(space: Path) -> None:
    _, front, text = (space / "README.md").read_text().split("---\n", 2)

    described = yaml.safe_load(front)

    assert described["sdk"] == "docker"
    assert described["license"] == "apache-2.0"
    assert len(described["short_description"]) <= 60
    assert described["app_port"] == int(image(space)["HEART_PORT"])
    assert f"EXPOSE {described['app_port']}\n" in (space / "Dockerfile").read_text()
    assert "HEART_API_TOKEN" in text
    assert "Not a medical device" in text


def test_the_model_is_named_by_its_hash(space: Path, registered: bytes) -> None:
    sha256 = hashlib.sha256(registered).hexdigest()

    (line,) = re.findall(r'echo "(.*)" \| sha256sum --check', (space / "Dockerfile").read_text())

    given, path = line.split("  /app/")
    assert given == sha256
    assert (space / path).read_bytes() == registered
    assert f"`{sha256}`" in (space / "README.md").read_text()


def test_all_that_is_copied_is_there_and_nothing_else(space: Path) -> None:
    copied = build.sources((space / "Dockerfile").read_text())

    there = {path.relative_to(space) for path in space.rglob("*") if path.is_file()}
    of_copies = {p for p in there if any(p.is_relative_to(source) for source in copied)}
    assert [source for source in copied if not (space / source).exists()] == []
    assert {str(path) for path in there - of_copies} == {
        "README.md",
        "Dockerfile",
        ".gitattributes",
    }


def test_what_is_served_is_that_of_the_image(space: Path) -> None:
    serve = (ROOT / "Dockerfile").read_text().split("FROM runtime AS serve\n")[1].split("\nFROM")[0]
    text = (space / "Dockerfile").read_text()

    assert serve.strip() in text
    assert "AS pipeline" not in text
    assert text.index("USER 1000:1000") < text.index("FROM serve\n")
    assert "USER" not in text.split("FROM serve\n")[1]


def test_space_contains_no_secret_and_no_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"serve/app.py", "monitoring/rules.yml", "requirements/x"}
    given |= {"heart/schema.py", "heart/registry/aliases.py", "heart/registry/local_store.py"}
    secret = {"serve/.env", "serve/log.db", "monitoring/a.pem", "serve/__pycache__/api.pyc", ".env"}
    sets = {"requirements/serve.txt", "requirements/fhir.txt"}
    for path in given | secret | sets | {"data/raw/heart.csv"}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    copied = {f"requirements/{name}" for name in ("lock.txt", "install.py", "hashes/packages.txt")}
    for path in copied:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy2(ROOT / name, tmp_path / name)
    monkeypatch.setattr(build, "ROOT", tmp_path)

    build.write_code(tmp_path / "made")

    made = {str(p.relative_to(tmp_path / "made")) for p in (tmp_path / "made").rglob("*.*")}
    assert made == given - {"requirements/x"} | sets | copied


# Without network


def image(space: Path) -> dict[str, str]:
    """The environment of the image, as far as its Dockerfile tells."""
    text = (space / "Dockerfile").read_text().replace("\\\n", "")
    lines = re.findall(r"(?m)^ENV (.*)$", text)
    return dict(re.findall(r'(\w+)="?([^\s"]*)"?', " ".join(lines)))


def laid_out(space: Path, root: Path) -> None:
    """Put into a folder what the image has in /app."""
    text = (space / "Dockerfile").read_text()
    for names, to in re.findall(r"(?m)^COPY (?!--from)(.*) /app/(\S*)$", text):
        for name in names.split():
            target = root / (to or name)
            copy = shutil.copytree if (space / name).is_dir() else shutil.copy2
            copy(space / name, target)


def succeeds(*line: str) -> bool:
    return bool(shutil.which(line[0])) and subprocess.run(line, check=False).returncode == 0


def alone() -> list[str]:
    """What runs a program without any network, as far as this machine allows it."""
    for line in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if succeeds(*line, "true"):
            return line
    return []


def as_user() -> list[str]:
    """What runs a program as the image's user; nothing for who is not root anyway."""
    if os.geteuid() != 0:
        return []
    line = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    if succeeds(*line, "test", "-x", str(Path(sys.executable).resolve())):
        return line
    # A Python in root's home: the user may read it there, and still write nowhere.
    return [*line, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def run(space: Path, folder: Path, path: str, port: int) -> subprocess.CompletedProcess[str]:
    """Run the command of the image in its environment, with an empty home, and ask it."""
    app, home = folder / "app", folder / "home"
    for made in (app, home):
        made.mkdir()
    laid_out(space, app)
    if os.geteuid() == 0:
        os.chown(home, 1000, 1000)
    given = {name: value.replace("/app", str(app)) for name, value in image(space).items()}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    own = {"HOME": home, "TMPDIR": home, "HEART_PORT": port, "HEART_API_TOKEN": TOKEN}
    command = re.findall(r"(?m)^CMD (.*)$", (space / "Dockerfile").read_text())[-1]
    line = [*as_user(), *json.loads(command.replace("/app", str(app)))]
    driver = [sys.executable, str(ROOT / "tests/stack/space_process.py")]
    return subprocess.run(
        [*alone(), *driver, json.dumps(line), str(port), TOKEN],
        cwd=home, check=False, timeout=200, capture_output=True, text=True,
        env={**given, **nowhere, **{n: str(v) for n, v in own.items()}, "PATH": path},
    )  # fmt: skip


@pytest.mark.integration
def test_space_runs_offline_as_its_user_and_serves_the_registered_model(
    space: Path, registered: bytes, environment: dict[str, str]
) -> None:
    done = run(space, space.parent, environment["PATH"], free_port())

    message = done.stdout + done.stderr
    assert done.returncode == 0, message
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ready"][0] == 200, message
    assert "is served from the local cache" in result["ready"][1]
    assert result["user"] == 1000 or os.geteuid() != 0
    assert result["interfaces"] == ["lo"] or not alone()
    status, answer = result["predicted"]
    (expected,) = predict(registered, encode({name: [value] for name, value in PATIENT.items()}))
    assert status == 200
    assert json.loads(answer)["probability"] == pytest.approx(float(expected), abs=1e-7)
    assert result["stranger"][0] == 401
    assert (result["owner-name.hf.space"][0], result["evil.example"][0]) == (200, 421)
    assert (space.parent / "home" / "predictions.db").stat().st_size > 0


def test_without_its_secret_it_does_not_start(space: Path, environment: dict[str, str]) -> None:
    given = {**image(space), "PATH": environment["PATH"], "PYTHONPATH": str(space)}

    done = subprocess.run(
        ["sh", str(space / "start.sh")],
        env=given, check=False, timeout=60, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode != 0
    assert "HEART_API_TOKEN" in done.stderr


# Where it cannot be written


def test_without_a_champion_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(tmp_path, tmp_path / "none.db", monkeypatch)

    assert message.startswith(f"error: models:/{NAME}@{CHAMPION} gives no model (")
    assert "make repro" in message
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_was_changed_is_refused_and_the_folder_stays(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(watched / "registry", tmp_path / "registry")
    database = tmp_path / "registry" / "mlflow.db"
    text = "UPDATE model_version_tags SET value = ? WHERE key = 'model_sha256'"
    with sqlite3.connect(database) as file:
        file.execute(text, ("0" * 64,))
    file.close()
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "README.md").write_text("of before")

    message = refusal(tmp_path, database, monkeypatch)

    assert message.startswith(f"error: models:/{NAME}@{CHAMPION} cannot be served (hash): ")
    assert {path.name for path in tmp_path.iterdir()} == {"registry", "space"}
    assert (tmp_path / "space" / "README.md").read_text() == "of before"


def test_an_earlier_space_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "space"
    for folder, text in ((made, "new"), (target, "old")):
        folder.mkdir()
        (folder / "README.md").write_text(text)
    (target / ".git").mkdir()

    with pytest.raises(SystemExit, match=r"space/\.git is not of a Space"):
        build.replace(target, made, tmp_path / "old")
    assert (target / "README.md").read_text() == "old"

    (target / ".git").rmdir()
    build.replace(target, made, tmp_path / "old")
    assert (target / "README.md").read_text() == "new"
