"""A registry that is silent or damaged ends every command soon, with one line."""

import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from mlflow.utils.logging_utils import get_mlflow_log_level

from heart.errors import UserError, run_main
from heart.registry import compare, health, promote
from heart.registry import publishing as registry
from heart.registry.health import require_response
from monitoring import report
from serve.batch.__main__ import main as score
from tests.answering import answering, silent
from tests.heart.registry.registry_fixture import ROOT, forget
from tests.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

Main = Callable[[], object]
COMMANDS: dict[str, Main] = {
    "promote": lambda: promote.main(["1"]),
    "rollback": lambda: promote.main(["--rollback"]),
    "compare": lambda: compare.load("version:1"),
    "report": report.main,
    "score": lambda: score(["patients.csv", "scores.csv"]),
}


def end_of(main: Main) -> str:
    with pytest.raises(SystemExit) as end:
        run_main(main)
    return str(end.value.code)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters and without a registry."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program"])
    forget(monkeypatch, "MLFLOW_TRACKING_URI")
    return tmp_path


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_silent_registry_ends_a_command_soon_with_address_and_setting(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "RESPONSE_SECONDS", 0.2)
    with silent() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        start = time.monotonic()

        message = end_of(COMMANDS[command])

        assert time.monotonic() - start < 10
    assert address in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "\n" not in message
    assert "Max retries" not in message
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_server_that_sends_any_response_answers(status: int) -> None:
    def answer(_: BaseHTTPRequestHandler, __: bytes) -> tuple[int, bytes]:
        return status, b""

    with answering(answer) as address:
        require_response(address, "X")


@pytest.fixture
def first_levels() -> Iterator[None]:
    """The levels of MLflow's loggers as in a new process, where no other test has changed them."""
    loggers = {name: logging.getLogger(name) for name in ("mlflow", "mlflow.store.db.utils")}
    before = {name: logger.level for name, logger in loggers.items()}
    loggers["mlflow"].setLevel(get_mlflow_log_level())
    loggers["mlflow.store.db.utils"].setLevel(logging.NOTSET)
    yield
    for name, logger in loggers.items():
        logger.setLevel(before[name])


def test_a_database_that_is_down_is_an_error_soon_without_the_password() -> None:
    database = f"127.0.0.1:{free_port()}"
    start = time.monotonic()

    with pytest.raises(UserError, match="refused") as error:
        require_response(f"postgresql+psycopg://me:s3/cret@{database}/mlflow", "X")

    assert time.monotonic() - start < 10
    assert f"//{database} " in str(error.value)
    assert "cret" not in str(error.value)


def drop_a_table(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DROP TABLE model_version_tags")


def truncate(database: Path) -> None:
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])


def replace_by_a_folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


@pytest.mark.usefixtures("first_levels")
@pytest.mark.parametrize("damage", [drop_a_table, truncate, replace_by_a_folder])
def test_a_damaged_store_is_one_line_with_file_and_way_out(
    damage: Callable[[Path], None], watched: Path, checkout: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(watched / "registry", checkout / "registry")
    database = checkout / "registry" / "mlflow.db"
    damage(database)

    message = end_of(lambda: promote.main(["--approve=1", "--by=me"]))

    assert str(database) in message
    assert "\n" not in message
    assert "backup" in message or "expected a file" in message
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["report", "score"])
def test_a_damaged_store_is_named_by_commands_that_only_read(
    command: str, watched: Path, checkout: Path
) -> None:
    shutil.copytree(watched / "registry", checkout / "registry")
    database = checkout / "registry" / "mlflow.db"
    replace_by_a_folder(database)

    message = end_of(COMMANDS[command])

    assert str(database) in message
    assert "expected a file" in message


@pytest.mark.usefixtures("first_levels")
def test_a_store_that_fails_within_a_command_is_one_line(
    watched: Path, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    shutil.copytree(watched / "registry", checkout / "registry")
    connect = registry.connect

    def damaged() -> Any:
        client = connect()
        drop_a_table(checkout / "registry" / "mlflow.db")
        return client

    monkeypatch.setattr(registry, "connect", damaged)

    message = end_of(lambda: promote.main(["--approve=1", "--by=me"]))

    assert message.startswith(f"error: {checkout / 'registry' / 'mlflow.db'}: ")
    assert "model_version_tags" in message
    assert "backup" in message
    assert "\n" not in message
    assert capsys.readouterr().err == ""
