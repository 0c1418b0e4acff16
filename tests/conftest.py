"""Shared fixtures: commands in a folder, a registry, and a small pipeline."""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from heart import files
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export
from heart.registry.publishing import Package, connect
from tests.heart.drift.snapshots import reference
from tests.heart.registry.registry_fixture import fill

pytest_plugins = [
    f"tests.fixtures.{name}" for name in ("browser", "databases", "drift", "security")
]

ROOT = Path(__file__).parents[1]
# Fixtures that start a real system: a test that needs one of them, even indirectly, is an integration test.
INTEGRATION_FIXTURES = frozenset({"browser", "nginx", "postgres", "small_pipeline"})
Require = Callable[[str | Path | None, str], Path]

# A generator of one epoch, a small number of rows and one kind of model: every stage takes seconds.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "split": {"folds": 3},
    "synthesize": {"epochs": 1, "rows": 60, "batch_size": 100},
    "merge": {"rows": 60},
    "train": {
        "model": "logistic_regression",
        "logistic_c": [0.1],
        "trees": 5,
        "synthetic_weights": [0, 0.5],
    },
    "reference": {"stream": 1000, "simulations": 2000, "check_streams": 5},
    "evaluate": {"bootstrap": 50},
    "register": {"bootstrap": 50},
}


# A shell starts commands in the background with SIGINT ignored, which programs of the tests would inherit, and
# tests interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEGRATION_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of commands: the programs of this Python, without settings of the caller."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "MLFLOW_", "DVC_", "GIT_", "AWS_", "MAKE"))
    }
    return {
        **others,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("dvc")),
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{role}_NAME": "Tester" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "tester@example.org" for role in ("AUTHOR", "COMMITTER")},
    }


@pytest.fixture(scope="session")
def require() -> Require:
    """The path of a program; without it a skip, or a failure if programs are required."""

    def path_of(program: str | Path | None, package: str) -> Path:
        if program:
            return Path(program)
        reason = f"a program is not installed: apt-get install {package}"
        if os.environ.get("HEART_TEST_REQUIRE_PROGRAMS"):
            pytest.fail(reason)
        pytest.skip(reason)

    return path_of


@pytest.fixture(scope="session")
def command(environment: dict[str, str]) -> Callable[..., Any]:
    """Run a program in a folder and check its exit code, unless `code` is None.

    The timeout only ends what hangs: on a busy machine a pipeline takes many minutes.
    """

    def run(
        line: str | list[str], folder: Path, code: int | None = 0, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            line.split() if isinstance(line, str) else line,
            cwd=folder, env=environment | settings, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800,
        )  # fmt: skip
        assert code in (None, done.returncode), f"{line}: {done.returncode}\n{done.stdout}"
        return done

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder that one test process creates for all of them; only to read."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        base = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not (base / "done").exists():
                shutil.rmtree(base, ignore_errors=True)
                base.mkdir()
                make(base)
                (base / "done").touch()
        return base

    return folder


@pytest.fixture(scope="session")
def small_pipeline(command: Callable[..., Any], made_once: Callable[..., Path]) -> Path:
    """A fresh clone of this working tree with small parameters, reproduced and committed; only to read."""

    def make(base: Path) -> None:
        _reproduce(base / "source", base / "clone", command)

    return made_once("small-pipeline", make) / "clone"


def small_source(source: Path, command: Callable[..., Any]) -> None:
    """Make a repository of this working tree with small parameters."""
    for name in command("git ls-files -co --exclude-standard", ROOT).stdout.splitlines():
        if not name.startswith(("tests/", "metrics/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    document = yaml.safe_load((source / "params.yaml").read_text())
    for section, values in SMALL.items():
        document[section] |= values
    (source / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    for line in ("git init --quiet", "git add --all", "git commit --quiet -m source"):
        command(line, source)


def _reproduce(source: Path, clone: Path, command: Callable[..., Any]) -> None:
    small_source(source, command)
    command(f"git clone --quiet {source} {clone}", source)
    for line in ("dvc repro", "git add --all", "git commit --quiet -m reproduced"):
        command(line, clone)


@pytest.fixture
def project(small_pipeline: Path, tmp_path: Path) -> Path:
    """A copy of the small pipeline, cache and registry included, for one test to change."""
    return copied(small_pipeline, tmp_path / "project")


def copied(clone: Path, target: Path) -> Path:
    """A copy of a clone, while another process may run git in it."""
    ignored = shutil.ignore_patterns("index.lock")
    return Path(shutil.copytree(clone, target, symlinks=True, ignore=ignored))


@pytest.fixture(scope="session")
def patients() -> pd.DataFrame:
    """The real patients as a stage reads them."""
    return files.read_table(ROOT / files.RAW).assign(source="raw")


@pytest.fixture(scope="session")
def model_of(patients: pd.DataFrame) -> Callable[..., bytes]:
    """ONNX models of two thirds of the patients; with `shuffled` outcomes they are useless."""

    @cache
    def fit(strength: float = 0.1, shuffled: bool = False) -> bytes:
        rows, outcome = files.encoded(patients[patients.index % 3 != 0])
        if shuffled:
            outcome = np.random.default_rng(0).permutation(outcome)
        model = export(ChainedLogisticRegression(C=strength).fit(rows, outcome))
        return bytes(model.SerializeToString(deterministic=True))

    return fit


@pytest.fixture(scope="session")
def empty_store(made_once: Callable[..., Path]) -> Path:
    """A folder with an empty registry, whose tables are created once for all tests."""

    def make(base: Path) -> None:
        (base / "store").mkdir()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="mlflow")
            _own_store(patch, base / "store")
            connect()

    return made_once("empty-registry", make) / "store"


@pytest.fixture(scope="session")
def watched(empty_store: Path, made_once: Callable[..., Path]) -> Path:
    """A folder with a registry whose champion has a drift baseline; only to read."""
    content = reference().to_json().encode()
    return made_once("watched-registry", partial(fill, empty_store, (0.1,), reference=content))


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an empty registry in the current folder, which is a new one."""
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    _own_store(monkeypatch, tmp_path)
    return connect()


def _own_store(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    # Set, then removed, so that the patch also removes the value that MLflow sets.
    patch.setenv("MLFLOW_TRACKING_URI", "")
    patch.delenv("MLFLOW_TRACKING_URI")


@pytest.fixture
def package_of(tmp_path: Path) -> Callable[[bytes], Package]:
    """Packages as in stage register, with any model."""
    (tmp_path / "metrics").mkdir()
    figures = tmp_path / "metrics" / "evaluate.json"
    figures.write_text("{}\n")

    def package(model: bytes) -> Package:
        return Package(
            model=model,
            threshold=0.5,
            beside={"training.json": b'{"rows": 230}\n'},
            parameters={"train.seed": 0},
            metrics={"evaluate.roc_auc": 0.9},
            tags={"git_commit": "abc"},
            artifacts=[figures],
        )

    return package
