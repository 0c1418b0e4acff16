"""What the tests of the service share: a real PostgreSQL, if it is installed, and a real registry."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.champion import Champion
from stages import registry
from tests.conftest import Require
from tests.serve.logs import Postgres
from tests.serve.registry_fixture import NAME, Shelf, publish


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
def published(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A registry with two versions, the first of them the champion, and a client of a copy of it."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(empty_store, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Set, then removed: MLflow sets it by itself, and only so it is forgotten afterwards.
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        client = registry.connect()
        for strength in (0.1, 1.0):
            publish(client, folder, strength)
        registry.promote(client, NAME, "1")
        # The copy is replaced for each test, under the same client: opening one takes long.
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        uri = f"sqlite:///{shutil.copyfile(folder / 'registry' / 'mlflow.db', folder / 'copy.db')}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models()
    return folder, client


@pytest.fixture
def shelf(published: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    # The champion sets it by itself; only so it is forgotten afterwards.
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "")
    monkeypatch.delenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS")
    folder, client = published
    shutil.copyfile(folder / "registry" / "mlflow.db", folder / "copy.db")
    return Shelf(tmp_path, folder / "copy.db", client)


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
