"""What the tests of the service share: a real PostgreSQL, if it is installed, and a real registry."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from serve.model_manager import Champion
from tests.conftest import Require
from tests.heart.predictions.logs import Postgres
from tests.heart.registry.registry_fixture import Shelf, fill, forget


@pytest.fixture(scope="session")
def postgres(require: Require) -> Iterator[Postgres]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    server = Postgres(require(programs[-1] if programs else None, "postgresql").parent)
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture(scope="session")
def published(empty_store: Path, made_once: Callable[..., Path]) -> Path:
    """A folder with a registry of two versions, the first of them the champion; only to read."""
    return made_once("registry-of-two", partial(fill, empty_store, (0.1, 1.0)))


@pytest.fixture(scope="session")
def client_of_copy(published: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A copy of the registry's database, and a client of it: opening one takes long."""
    from mlflow import MlflowClient

    copy = tmp_path_factory.mktemp("registry") / "copy.db"
    shutil.copyfile(published / "registry" / "mlflow.db", copy)
    with pytest.MonkeyPatch.context() as patch:
        forget(patch, "MLFLOW_TRACKING_URI")
        # The file is replaced for each test, under the same client.
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        client = MlflowClient(tracking_uri=f"sqlite:///{copy}", registry_uri=f"sqlite:///{copy}")
        client.search_registered_models()
    return copy, client


@pytest.fixture
def shelf(
    published: Path,
    client_of_copy: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shelf:
    forget(monkeypatch, "MLFLOW_SQLALCHEMYSTORE_POOLCLASS")  # the champion sets it
    copy, client = client_of_copy
    shutil.copyfile(published / "registry" / "mlflow.db", copy)
    return Shelf(tmp_path, copy, client)


@pytest.fixture
def started() -> Iterator[Callable[[Champion], Champion]]:
    """Start champions; they are stopped after the test."""
    running: list[Champion] = []

    def start(champion: Champion) -> Champion:
        running.append(champion)
        champion.start()
        return champion

    yield start
    for champion in running:
        champion.stop()
