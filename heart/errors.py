"""How a program fails: one line with the value, the place and the way out, and no stack trace.

`HEART_DEBUG=1` in the environment of any program shows the stack trace as well.
"""

import errno
import os
import re
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from heart.schema import SchemaError

DEBUG = "HEART_DEBUG"
INTERRUPTED = 130  # 128 + SIGINT, as of shells

OUTPUTS = (
    ("data",),
    ("models",),
    ("metrics",),
    ("plots",),
)  # folders of the stages, as they name them
OWN_PACKAGES = (
    "heart",
    "stages",
    "monitoring",
    "serve",
    "deploy",
    "docs",
    "examples",
    "benchmarks",
)
FREE_SPACE = "free some space, then run the command again; nothing is left half written"
RESTORE = "restore it from a backup (docs/upgrade_and_backup.md)"
# The way out of an error of a database or of MLflow, by a part of its message.
WAYS_OUT = (
    ("disk is full", FREE_SPACE),
    ("No space left on device", FREE_SPACE),
    ("disk I/O error", f"is the disk full or damaged? {FREE_SPACE}"),
    ("readonly database", "make its file and folder writable, or run the command in a copy"),
    ("unable to open database file", "expected a file in a folder that exists and is writable"),
    ("database is locked", "another process is writing to it: run the command again"),
    ("disk image is malformed", RESTORE),
    ("file is not a database", RESTORE),
    ("no such table", RESTORE),
    ("no such column", RESTORE),
    ("Current state is deleted", "restore it with `mlflow experiments restore`"),
)
SCHEMA_VERSIONS = re.compile(
    r"out-of-date database schema \(found version (\w+), but expected (\w+)"
)
STATEMENT = "\n[SQL:"  # with which SQLAlchemy appends the statement and its parameters
# The first line of an error that SQLAlchemy meets where a query has to write first.
AUTOFLUSH = "(raised as a result of"
# MLflow's error of a request that has no response, which quotes Python objects and the URL once more.
NO_RESPONSE = re.compile(
    r"API request to (?P<server>\w+://[^/\s]+)\S* failed with (timeout )?exception"
)


class ParamsError(ValueError):
    """params.yaml does not say what a stage needs; the message names the key and what is known."""


class UserError(ValueError):
    """The program cannot go on; the message names the value, the place and what was expected."""


class TryAgainLater(UserError):
    """Nothing is wrong, but another process must end first; the message says which."""

    code = 75  # EX_TEMPFAIL of sysexits.h


def run_main(main: Callable[[], object]) -> None:
    """Run a program's main; an error ends it with one line on the standard error."""
    try:
        main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # no stack trace reaches a user
        if debugging():
            traceback.print_exc()
        message = f"error: {explain(error)}"
        if not isinstance(error, TryAgainLater):
            sys.exit(message)
        print(message, file=sys.stderr)
        sys.exit(TryAgainLater.code)


def debugging() -> bool:
    """Whether HEART_DEBUG asks for stack traces."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def explain(error: Exception) -> str:
    """An error in one line, with the way out."""
    if isinstance(error, UserError | ParamsError | SchemaError):
        return str(error)
    if isinstance(error, OSError):
        return os_reason(error)
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, sqlite3.Error) or package in ("mlflow", "sqlalchemy", "alembic"):
        return f"{_mlflow_store() if package == 'mlflow' else ''}{store_reason(error)}"
    if isinstance(error, ModuleNotFoundError) and (package := _missing_package(error)):
        return (
            f"the Python package {package} is not installed in {sys.prefix}: run `make install`, or the "
            "command by its make target, which installs what it needs"
        )
    if isinstance(error, MemoryError):
        return "the memory is full: close other programs, or use a machine with more"
    return (
        f"unexpected {type(error).__name__} at {_place(error)}: {first_line(error)} "
        f"({DEBUG}=1 shows where; please report it)"
    )


def os_reason(error: OSError) -> str:
    """An error of the operating system: the file, the reason, the way out."""
    if error.errno is None or error.strerror is None:
        return first_line(error)
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reason}: {FREE_SPACE}"
    if error.errno == errno.EFBIG:
        return f"{reason}: raise the limit of the size of files (ulimit -f)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}: make it readable and writable, or run the command in a copy"
    if error.errno == errno.ENOENT and Path(str(error.filename)).parts[:1] in OUTPUTS:
        return f"{reason}: run `make repro`, which creates what the stages write"
    return reason


def store_reason(error: BaseException) -> str:
    """An error of MLflow or of a database in one line, without passwords, and the way out."""
    return ": ".join(filter(None, diagnosis(error)))


def diagnosis(error: BaseException) -> tuple[str, str]:
    """What is wrong with a database or MLflow, in one line, and the way out, empty if none is known."""
    text = without_password(str(error).partition(STATEMENT)[0])
    if match := SCHEMA_VERSIONS.search(text):
        return _other_schema(*match.groups())
    if match := NO_RESPONSE.match(text):
        return f"no response from {match['server']}: {network_reason(error)}", ""
    lines = [line for line in text.splitlines() if line and not line.startswith(AUTOFLUSH)]
    for part, way_out in WAYS_OUT:
        for line in lines:
            if part in line:
                return line, way_out
    return (lines or [first_line(error)])[0], ""


def network_reason(error: BaseException) -> str:
    """The error of the operating system below those of the libraries for HTTP."""
    reason, cause = "", error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, TimeoutError) or "timed out" in str(cause):
            return "no response in time"
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason or "the connection failed"


def _other_schema(version: str, expected: str) -> tuple[str, str]:
    """Which of the two is older, a store or the installed MLflow, and the command for it."""
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    text = f"the store has MLflow's schema {version}, MLflow {mlflow.__version__} has {expected}"
    if next(migrations.glob(f"{version}_*.py"), None):
        return text, "back the store up, then run `mlflow db upgrade` with its URI"
    return text, "a newer MLflow has written it, so install that one, or use another store"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type if it has none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def without_password(text: str) -> str:
    """The text without the users and passwords of the URIs in it, which MLflow repeats."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _mlflow_store() -> str:
    """The store that MLflow uses in this process, for the beginning of a message; empty if none was set."""
    import mlflow

    if not mlflow.is_tracking_uri_set():
        return ""
    return f"{without_password(mlflow.get_tracking_uri()).removeprefix('sqlite:///')}: "


def _missing_package(error: ModuleNotFoundError) -> str:
    """The package that an import did not find; empty for one of this project."""
    package = (error.name or "").partition(".")[0]
    return "" if package in OWN_PACKAGES else package


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    if not (own or frames):
        return "an unknown place"
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
