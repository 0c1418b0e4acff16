"""The project's own registry: created once and complete; it works wherever the checkout is."""

import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from heart.errors import UserError
from heart.registry import local_store
from heart.registry import publishing as registry
from heart.registry.aliases import promote, roll_back
from monitoring.report import EXPERIMENT, ReportError, log_report
from serve.model_manager import ModelManager
from serve.settings import Settings
from tests.heart.registry.registry_fixture import NAME, ROOT, forget, publish, version_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

FORK = multiprocessing.get_context("fork")
SNAPSHOT: Any = SimpleNamespace(
    version="1", report=SimpleNamespace(drifted=False, window_rows=200, features={})
)

Enter = Callable[[Path], Any]


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Enter a checkout; a stage's client of its registry."""

    def client(checkout: Path) -> Any:
        monkeypatch.chdir(checkout)
        forget(monkeypatch, "MLFLOW_TRACKING_URI")
        return registry.connect()

    return client


@pytest.fixture
def original(watched: Path, tmp_path: Path, enter: Enter) -> Path:
    """A checkout with a registered champion."""
    shutil.copytree(watched, tmp_path / "original")
    enter(tmp_path / "original")
    return tmp_path / "original"


def settings(checkout: Path, **changes: Any) -> Settings:
    """As `make serve` in that checkout."""
    uri = f"sqlite:///{checkout}/registry/mlflow.db"
    values: dict[str, Any] = {
        "log_url": f"sqlite:///{checkout}/registry/predictions.db",
        "tracking_uri": uri,
        "cache_dir": checkout / "registry" / "cache",
        "_env_file": None,
    }
    return Settings(**(values | changes))


def served(checkout: Path) -> ModelManager:
    champion = ModelManager(settings(checkout))
    champion.refresh()
    return champion


def report(checkout: Path) -> Path:
    """Log a drift report as `make drift-report` does. Returns the file's name in the registry."""
    path = checkout / "drift.html"
    path.write_text("a report")
    run_id = log_report(settings(checkout).tracking_uri, SNAPSHOT, path)
    return Path(EXPERIMENT) / run_id / "artifacts" / path.name


def contents(folder: Path) -> dict[Path, str]:
    """The hash of every file in a folder."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def elsewhere(checkout: Path) -> list[str]:
    """Every location in the database that is not in the checkout."""
    with closing(sqlite3.connect(checkout / "registry" / "mlflow.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = [row for (name,) in tables for row in database.execute(f'SELECT * FROM "{name}"')]  # noqa: S608
    texts = [cell for row in rows for cell in row if isinstance(cell, str)]
    return [t for t in texts if t[:5] == "file:" and not t.startswith(f"{checkout.as_uri()}/")]


# A checkout that was moved or copied


def test_work_in_a_copy_changes_only_the_copy(original: Path, enter: Enter) -> None:
    before = contents(original)
    copy = Path(shutil.copytree(original, original.with_name("copy")))

    client = enter(copy)
    publish(client, copy, 0.3)
    client.set_model_version_tag(NAME, "2", "verdict", '{"verdict": "passed"}')
    promote(client, NAME, "2")
    assert version_of(served(copy)) == "2"
    roll_back(client, NAME)
    logged = report(copy)

    assert contents(original) == before
    assert version_of(served(copy)) == "1"
    artifacts = copy / "registry" / "artifacts"
    assert (artifacts / logged).is_file()
    model = client.get_model_version(NAME, "2").source.removeprefix("models:/")
    assert (artifacts / NAME / "models" / model / "artifacts" / "model.onnx").is_file()
    assert elsewhere(copy) == []


def test_a_drift_report_is_logged_in_the_copy_before_any_stage_has_run(original: Path) -> None:
    before = contents(original)
    copy = Path(shutil.copytree(original, original.with_name("copy")))
    report(copy)
    again = Path(shutil.copytree(copy, original.with_name("again")))
    copied = contents(copy)

    logged = report(again)

    assert (again / "registry" / "artifacts" / logged).is_file()
    assert (contents(original), contents(copy)) == (before, copied)


def test_a_service_serves_in_a_renamed_checkout_and_changes_no_registry(original: Path) -> None:
    moved = original.rename(original.with_name("moved"))
    before = contents(moved / "registry" / "artifacts"), (moved / "registry/mlflow.db").read_bytes()

    champion = served(moved)

    assert version_of(champion) == "1"
    assert champion.state().notes == ()
    assert (
        contents(moved / "registry" / "artifacts"),
        (moved / "registry/mlflow.db").read_bytes(),
    ) == before
    assert not original.exists()


def test_a_service_in_a_copy_never_reads_the_original(original: Path) -> None:
    copy = Path(shutil.copytree(original, original.with_name("copy")))
    shutil.rmtree(copy / "registry" / "artifacts")

    champion = served(copy)

    assert champion.current is None
    assert champion.registry_failures == 1


def test_a_rollback_works_before_any_stage_has_run_in_a_copy(original: Path, enter: Enter) -> None:
    client = enter(original)
    publish(client, original, 0.3)
    promote(client, NAME, "2")
    copy = Path(shutil.copytree(original, original.with_name("copy")))
    original.rename(original.with_name("away"))
    champion = served(copy)

    assert champion.current is not None
    assert champion.roll_back(champion.current)

    assert version_of(champion) == "1"


def test_a_checkout_may_have_an_unusual_name(original: Path, enter: Enter) -> None:
    name = """it's a "100%" #1 Zürich-心臓 \\ & co;"""
    moved = original.rename(original.with_name(name))

    assert version_of(served(moved)) == "1"
    client = enter(moved)
    publish(client, moved, 0.3)
    promote(client, NAME, "2")

    assert version_of(served(moved)) == "2"
    assert registry.load(client.get_model_version(NAME, "1"))
    assert {path.name for path in moved.parent.iterdir()} == {name}


@pytest.mark.parametrize("name", ["a%41b", "why?"])
def test_a_path_that_mlflow_cannot_open_is_an_error_in_one_line(
    original: Path, enter: Enter, name: str
) -> None:
    moved = original.rename(original.with_name(name))

    with pytest.raises(UserError) as error:
        enter(moved)

    assert str(moved) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ReportError, match=r"registry/mlflow\.db"):
        log_report(local_store.uri_of(moved), SNAPSHOT, moved / "drift.html")
    with pytest.raises(ValidationError, match=r"registry/mlflow\.db"):
        settings(moved)
    assert {path.name for path in moved.parent.iterdir()} == {name}


def test_a_link_to_the_checkout_is_the_same_checkout(original: Path) -> None:
    link = original.with_name("link")
    link.symlink_to(original)
    before = (original / "registry" / "mlflow.db").read_bytes()

    local_store.prepare(local_store.uri_of(link))

    assert (original / "registry" / "mlflow.db").read_bytes() == before


def test_a_copy_by_hard_links_shares_its_registry(original: Path) -> None:
    copy = Path(shutil.copytree(original, original.with_name("copy"), copy_function=os.link))
    before = (original / "registry" / "mlflow.db").read_bytes()

    local_store.prepare(local_store.uri_of(copy))

    assert (original / "registry" / "mlflow.db").read_bytes() == before


def test_another_database_is_left_as_it_is(original: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(original / "registry" / "mlflow.db", tmp_path / "other.db"))
    before = other.read_bytes()

    local_store.prepare(f"sqlite:///{other}")

    champion = ModelManager(settings(original, tracking_uri=f"sqlite:///{other}"))
    assert champion.refresh()
    assert version_of(champion) == "1"
    assert other.read_bytes() == before


def test_a_registry_that_cannot_be_written_is_still_served(
    original: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_store, "BUSY_SECONDS", 0)
    moved = original.rename(original.with_name("moved"))
    with closing(sqlite3.connect(moved / "registry" / "mlflow.db")) as holder:
        holder.execute(
            "BEGIN IMMEDIATE"
        )  # as on a read-only disk: root may write whatever the modes

        champion = served(moved)
        with pytest.raises(UserError) as error:
            enter(moved)

    assert version_of(champion) == "1"
    assert str(moved / "registry" / "mlflow.db") in str(error.value)
    assert str(original / "registry") in str(error.value)
    assert "\n" not in str(error.value)


def test_service_in_a_renamed_folder_names_the_missing_path(
    original: Path, caplog: pytest.LogCaptureFixture
) -> None:
    champion = served(original)
    original.rename(original.with_name("moved"))

    assert not champion.refresh()

    assert version_of(champion) == "1"
    assert f"{original}/registry/mlflow.db" in caplog.text
    assert not original.exists()


# Several at once, and interruptions


def in_processes(*targets: Callable[[], None]) -> list[int | None]:
    """Run each in a process of its own; their exit codes."""
    processes = [FORK.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def make_like(store: Path) -> Callable[[Path, str], None]:
    """A fast substitute for MLflow's creation of tables: a copy of a store."""

    def make(database: Path, artifacts: str) -> None:
        shutil.copyfile(store / "registry" / "mlflow.db", database)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", (f"{artifacts}/0",))

    return make


@pytest.fixture
def quick(empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    make = make_like(empty_store)
    monkeypatch.setattr(local_store, "make_tables", make)
    return make


def test_two_processes_make_one_store(
    quick: Callable[[Path, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = FORK.Barrier(2)

    def slowly(database: Path, artifacts: str) -> None:
        with (tmp_path / "made").open("a") as file:
            file.write("once\n")
        with pytest.raises(threading.BrokenBarrierError):
            started.wait(0.3)  # both arrive unless a lock keeps the second away
        quick(database, artifacts)

    monkeypatch.setattr(local_store, "make_tables", slowly)

    def prepare() -> None:
        local_store.prepare(local_store.uri_of(tmp_path))

    assert in_processes(prepare, prepare) == [0, 0]
    assert (tmp_path / "made").read_text() == "once\n"


def test_a_store_whose_creation_was_interrupted_is_created_again(
    quick: Callable[[Path, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    enter: Enter,
) -> None:
    def die(database: Path, _: str) -> None:
        database.write_bytes(b"SQLite format 3\0 and no more")
        database.with_name(f"{database.name}-journal").write_bytes(b"of another database")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(local_store, "make_tables", die)
    assert in_processes(lambda: local_store.prepare(local_store.uri_of(tmp_path))) == [-9]
    assert not (tmp_path / "registry" / "mlflow.db").exists()
    monkeypatch.setattr(local_store, "make_tables", quick)

    assert local_store.experiment(enter(tmp_path), NAME)

    assert {path.name for path in (tmp_path / "registry").iterdir()} == {"mlflow.db", "mlflow.lock"}


def test_a_store_that_mlflow_cannot_create_is_an_error_in_one_line(
    tmp_path: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    def refuse(*_: str) -> None:
        raise RuntimeError("database or disk is full\n[SQL: CREATE TABLE experiments]")

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", refuse)

    with pytest.raises(UserError, match=r"mlflow\.db: .*: database or disk is full: free [^\n]*$"):
        enter(tmp_path)

    assert not (tmp_path / "registry" / "mlflow.db").exists()


def test_a_lock_that_cannot_be_opened_is_an_error_that_names_it(
    tmp_path: Path, enter: Enter
) -> None:
    lock = tmp_path / "registry" / "mlflow.lock"
    lock.mkdir(parents=True)

    with pytest.raises(UserError, match=re.escape(str(lock))):
        enter(tmp_path)


def test_an_empty_file_becomes_a_store(
    quick: Callable[[Path, str], None], tmp_path: Path, enter: Enter
) -> None:
    del quick
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "mlflow.db").touch()

    assert local_store.experiment(enter(tmp_path), NAME)


DYING = """
import os, signal
from sqlalchemy import Engine, event
from heart.registry import publishing as registry

@event.listens_for(Engine, "after_cursor_execute")
def die(_, cursor, statement, *rest):
    if statement.strip().startswith("DROP TABLE"):
        os.kill(os.getpid(), signal.SIGKILL)

registry.connect()
"""


@pytest.mark.heavy
def test_a_stage_that_is_killed_during_mlflows_migrations_leaves_no_store(
    tmp_path: Path, environment: dict[str, str], enter: Enter
) -> None:
    environment |= {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", DYING], cwd=tmp_path, env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL

    client = enter(tmp_path)
    publish(client, tmp_path, 0.3)

    assert registry.load(client.get_model_version(NAME, "1"))


def test_concurrent_processes_change_the_locations_once(original: Path) -> None:
    moved = original.rename(original.with_name("moved"))
    started = FORK.Barrier(4)

    def prepare() -> None:
        started.wait(10)
        local_store.prepare(local_store.uri_of(moved))

    assert in_processes(*[prepare] * 4) == [0] * 4
    assert elsewhere(moved) == []
    assert version_of(served(moved)) == "1"


def test_an_interrupted_change_of_locations_is_rolled_back(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = original.rename(original.with_name("moved"))
    uri, places = local_store.uri_of(moved), local_store.LOCATIONS

    class Deadly:
        def __iter__(self) -> Any:
            yield from places[:2]
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(local_store, "LOCATIONS", Deadly())
    assert in_processes(lambda: local_store.prepare(uri)) == [-9]
    monkeypatch.setattr(local_store, "LOCATIONS", places)
    assert version_of(served(moved)) == "1"

    local_store.prepare(uri)

    assert elsewhere(moved) == []


def test_a_service_rolls_back_the_transaction_of_a_killed_stage(original: Path) -> None:
    path = original / "registry" / "mlflow.db"

    def die() -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA cache_size = 1")  # pages get to the disk before the commit
        database.execute("BEGIN")
        database.execute("UPDATE experiments SET name = hex(randomblob(100000))")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_processes(die) == [-9]
    assert path.with_name("mlflow.db-journal").stat().st_size

    assert version_of(served(original)) == "1"


@pytest.mark.parametrize("name", ["original", "moved"])
@pytest.mark.parametrize("table", ["experiments", "model_versions"])
def test_an_incomplete_store_is_an_error_with_the_way_out(
    original: Path, enter: Enter, table: str, name: str
) -> None:
    with closing(sqlite3.connect(original / "registry" / "mlflow.db")) as database:
        database.execute(f"DROP TABLE {table}")
    moved = original.rename(original.with_name(name))

    with pytest.raises(UserError) as error:
        enter(moved)

    assert f"{moved}/registry/mlflow.db" in str(error.value)
    assert "make register" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_copied_store_that_cannot_be_written_names_the_folders_and_no_other_command(
    original: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = original.rename(original.with_name("copy"))

    def read_only(path: Path, timeout: float) -> sqlite3.Connection:
        uri = f"file:{path}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout)

    monkeypatch.setattr(local_store, "open_database", read_only)

    with pytest.raises(UserError, match="writable") as error:
        enter(copy)

    assert f"{copy}/registry/mlflow.db" in str(error.value)
    assert str(original / "registry") in str(error.value)
    assert "make register" not in str(error.value)


def test_two_clients_that_create_an_experiment_at_once_get_the_same(
    original: Path, enter: Enter
) -> None:
    client = enter(original)
    experiment, absent = client.create_experiment("both"), iter([None])
    # The other client creates it just after this one has looked for it.
    late: Any = SimpleNamespace(
        tracking_uri=client.tracking_uri,
        create_experiment=client.create_experiment,
        get_experiment_by_name=lambda name: next(absent, client.get_experiment_by_name(name)),
    )

    assert local_store.experiment(late, "both") == experiment
