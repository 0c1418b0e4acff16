"""How a program fails: one line with the way out, no stack trace, nothing half written."""

import ast
import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy.exc import OperationalError

from heart import files
from heart.errors import DEBUG, UserError, explain, run_main, store_reason
from tests.fixtures.security import SecurityFigure
from tests.processes import ROOT

PATIENTS = pd.DataFrame({"age": [str(age) for age in range(1000)]})
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def end_of(main: Callable[[], object]) -> str:
    """The message with which a program ends."""
    with pytest.raises(SystemExit) as end:
        run_main(main)
    return str(end.value.code)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process become larger, as on a disk without space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flush_failed(reason: str) -> OperationalError:
    """SQLAlchemy's error of a query that had to write first."""
    error = OperationalError(
        "INSERT INTO tags", {"value": "locked"}, sqlite3.OperationalError(reason)
    )
    error.add_detail("raised as a result of Query-invoked autoflush; consider a no_autoflush block")
    return error


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (UserError("params.yaml: a is 1, expected 2"), ["params.yaml: a is 1, expected 2"]),
        (OSError(errno.ENOSPC, "No space left on device", "data/x.csv"), ["data/x.csv", "free"]),
        (PermissionError(errno.EACCES, "Permission denied", "data"), ["data: ", "writable"]),
        (OSError(errno.EROFS, "Read-only file system", "metrics"), ["metrics: ", "copy"]),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "data/a.csv"),
            ["data/a.csv", "make repro"],
        ),
        (sqlite3.OperationalError("database or disk is full"), ["free some space"]),
        (sqlite3.OperationalError("attempt to write a readonly database"), ["writable"]),
        (sqlite3.OperationalError("database is locked"), ["again"]),
        (sqlite3.DatabaseError("database disk image is malformed"), ["backup"]),
        (sqlite3.OperationalError("no such table: runs"), ["runs", "backup"]),
        (flush_failed("database or disk is full"), ["disk is full", "free some space"]),
        (ModuleNotFoundError("No module named 'absent'", name="absent.parts"), ["absent", "make"]),
        (KeyError("age"), ["KeyError", "test_errors.py", DEBUG]),
        (MemoryError(), ["memory"]),
    ],
)
def test_an_error_is_one_line_with_the_way_out(
    error: Exception, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = end_of(failing(error))

    assert message.startswith("error: ")
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []
    assert "Traceback" not in capsys.readouterr().err


def no_response() -> Exception:
    """MLflow's error of a request without a response, which quotes the URL and Python objects."""
    error = Exception(
        "API request to http://mlflow:5000/api/2.0/mlflow/runs/create failed with exception "
        "HTTPConnectionPool(host='mlflow', port=5000): Max retries exceeded with url: /api/2.0"
    )
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (flush_failed("near tags: syntax error"), "(sqlite3.OperationalError) near tags: syntax error"),
        (no_response(), "no response from http://mlflow:5000: Connection refused"),
        (
            OperationalError("SELECT 'disk is full'", {}, sqlite3.OperationalError("cannot read")),
            "(sqlite3.OperationalError) cannot read",
        ),
    ],
    ids=["autoflush", "no response", "words of the statement"],
)  # fmt: skip
def test_the_reason_of_a_store_is_the_line_that_says_it(error: Exception, expected: str) -> None:
    assert store_reason(error) == expected


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_stack_trace_is_shown_on_request(
    value: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG, value)

    end_of(failing(UserError("no")))

    assert ("Traceback" in capsys.readouterr().err) is shown


def test_an_interrupted_program_has_no_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(failing(KeyboardInterrupt())) == "130"
    assert capsys.readouterr().err == "stopped\n"


# A full disk


def write_rows(path: Path) -> None:
    files.write_table(path, PATIENTS)


def write_figures(path: Path) -> None:
    files.write_json(path, {str(n): n for n in range(1000)})


def write_model(path: Path) -> None:
    with files.replacing(path) as part:
        part.write_bytes(bytes(5000))


@pytest.mark.security
@pytest.mark.parametrize("write", [write_rows, write_figures, write_model])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    write: Callable[[Path], None], tmp_path: Path, security_figure: SecurityFigure
) -> None:
    path = tmp_path / "output"
    path.write_text("old")

    with largest_file(1000):
        message = end_of(lambda: write(path))

    assert str(path) in message
    assert [file.name for file in tmp_path.iterdir()] == ["output"]
    assert path.read_text() == "old"
    security_figure("disk full while a stage writes", "old file whole, one line", "nothing half")


def test_the_error_of_a_full_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: failing(FULL)())

    message = end_of(lambda: write_rows(tmp_path / "rows.csv"))

    assert str(tmp_path / "rows.csv") in message
    assert list(tmp_path.iterdir()) == []


WRITING = {"write_text", "write_bytes", "to_csv", "savefig", "open"}


@pytest.mark.parametrize("stage", sorted((ROOT / "stages").glob("*.py")), ids=lambda p: p.stem)
def test_a_stage_writes_only_files_that_appear_whole(stage: Path) -> None:
    """Each call that writes concerns the path `part` of `files.replacing`."""
    calls = [
        node
        for node in ast.walk(ast.parse(stage.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in WRITING
    ]
    direct = [
        ast.unparse(call)
        for call in calls
        if not any(
            isinstance(name, ast.Name) and name.id == "part"
            for name in (call.func.value, *call.args)  # type: ignore[attr-defined]
        )
    ]

    assert direct == []


@pytest.mark.integration
def test_a_stage_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / files.RAW).write_bytes((ROOT / files.RAW).read_bytes())

    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {files.PREPARED}: ")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["raw"]


# Every program


def programs() -> list[str]:
    """The modules that are run, as files; without those that another program starts, those of containers,
    which have no heart/ beside them, and those that run before anything is installed."""
    modules = subprocess.run(
        ["git", "grep", "-l", '__name__ == "__main__"', "--", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    alone = ("tests/", "benchmarks/", "deploy/buckets.py", "deploy/mlflow/", "deploy/make_secrets.py",
             "deploy/pin_images.py", "heart/registry/trial_process.py", "requirements/", ".ci/")  # fmt: skip
    return [path for path in modules if not path.startswith(alone)]


@pytest.mark.parametrize("path", programs())
def test_every_program_ends_with_one_line(path: str) -> None:
    assert "run_main(" in (ROOT / path).read_text().partition('__name__ == "__main__"')[2]


def test_a_missing_file_of_the_user_is_not_blamed_on_the_pipeline() -> None:
    for name in ("ids.txt", "/data/ids.txt"):
        text = explain(FileNotFoundError(errno.ENOENT, "No such file", name))
        assert text == f"{name}: No such file"


def test_a_missing_module_of_the_project_is_reported_as_a_fault_of_it() -> None:
    name = "heart.absent"

    assert "please report" in explain(ModuleNotFoundError(f"No module named '{name}'", name=name))


def test_an_unexpected_error_names_its_place_in_the_project() -> None:
    with pytest.raises(AttributeError) as error:
        files.md5(None)  # type: ignore[arg-type]

    assert "heart/files.py:" in explain(error.value)


@pytest.mark.parametrize(("version", "older"), [("0584bdc529eb", True), ("ffffffffffff", False)])
def test_a_store_of_another_mlflow_is_upgraded_only_if_it_is_older(
    version: str, older: bool
) -> None:
    message = (
        f"Detected out-of-date database schema (found version {version}, but expected 1bd49d398cd2)"
    )

    text = explain(sqlite3.OperationalError(message))

    assert version in text
    assert ("mlflow db upgrade" in text) == older
