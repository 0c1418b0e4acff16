"""The project's own MLflow store: `registry/mlflow.db` and, beside it, the folder of artifacts.

MLflow records the locations of files as absolute paths. In a checkout that was moved or copied they name
the original folder, so that MLflow would read and write there. A program that writes therefore calls
`prepare` first, which replaces the recorded locations; one that only reads translates each with `resolve`.
"""

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from filelock import FileLock

from heart.errors import RESTORE, UserError, diagnosis, store_reason, without_password
from heart.sqlite_path import SQLITE, check_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = Path("registry")
DATABASE, ARTIFACTS, LOCK = "mlflow.db", "artifacts", "mlflow.lock"
BUSY_SECONDS = 30  # limit of the wait for a lock that another process holds on the database

# The columns of MLflow's database that hold locations.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
# The artifact location of an experiment in the store of any checkout.
_RECORDED = re.compile(f"(file://.*/{FOLDER})/{ARTIFACTS}/[^/]+")

# An interrupted `mlflow` command, or an earlier version of this project, leaves a half-migrated store.
WAY_OUT = f"{RESTORE}; if it was never completed, move it away, then run `make register`"


class StoreError(UserError):
    """The store cannot be used; the message gives the reason and the way out."""


def uri_of(checkout: Path) -> str:
    """The tracking URI of a checkout's own store."""
    return f"{SQLITE}{checkout / FOLDER / DATABASE}"


def sqlite_path(uri: str) -> Path | None:
    """The file that a tracking URI names; None for a server. Raises StoreError for one MLflow cannot open."""
    if not uri.startswith(SQLITE):
        return None
    path = Path(uri.removeprefix(SQLITE)).absolute()
    try:
        check_path(path)
    except ValueError as error:
        raise StoreError(str(error)) from None
    return path


def own_database(uri: str) -> Path | None:
    """The database of a checkout's own store; None for a server or any other database.

    Raises StoreError.
    """
    path = sqlite_path(uri)
    return path if path and path.parts[-2:] == (FOLDER.name, DATABASE) else None


def prepare(uri: str) -> None:
    """Create the store if there is none, and make its locations name the folder in which it is now.

    Call it before MLflow opens the store for writing. Servers and other databases are not changed.
    Raises StoreError.
    """
    database = own_database(uri)
    if database is None:
        return
    try:
        if _is_missing(database):
            _create(database)
    except OSError as error:
        raise StoreError(f"{database} cannot be created: {error.strerror or error}") from error
    _relocate(database)


def resolve(location: str, uri: str) -> str:
    """A location that a store has recorded, translated to the folder in which the store is now.

    Nothing is written. Raises StoreError.
    """
    database = own_database(uri)
    if database is None:
        return location
    with _connected(database) as connection:
        for other in _other_folders(connection, database.parent):
            if location.startswith(f"{other}/"):
                return database.parent.as_uri() + location.removeprefix(other)
    return location


def experiment(client: "MlflowClient", name: str) -> str:
    """The id of an experiment, created if need be; a SQLite file keeps the artifacts beside it.

    Raises StoreError for one that was deleted, in which MLflow begins no run.
    """
    from mlflow.exceptions import MlflowException

    entry = client.get_experiment_by_name(name)
    if entry is None:
        database = sqlite_path(client.tracking_uri)
        location = (database.parent / ARTIFACTS / name).as_uri() if database else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process may have created it meanwhile.
            if (entry := client.get_experiment_by_name(name)) is None:
                raise
    number = str(entry.experiment_id)
    if entry.lifecycle_stage == "deleted":
        uri = without_password(client.tracking_uri)
        raise StoreError(
            f"the experiment {name} (id {number}) of {uri} is deleted: restore it with "
            f"`MLFLOW_TRACKING_URI='{uri}' mlflow experiments restore --experiment-id {number}`"
        )
    return number


@contextlib.contextmanager
def exclusive(uri: str) -> Iterator[None]:
    """Wait for the lock of a checkout's own store, and hold it; there is none for other stores.

    Raises StoreError.
    """
    database = own_database(uri)
    if database is None:
        yield
        return
    # No lock by the file's existence as a fallback: that of a killed process would stay.
    lock = FileLock(database.with_name(LOCK), fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        raise StoreError(f"{lock.lock_file}: {error.strerror}, expected a writable file") from error
    try:
        yield
    finally:
        lock.release()


def _is_missing(database: Path) -> bool:
    return not database.exists() or database.stat().st_size == 0


def _create(database: Path) -> None:
    """Create the store in a temporary folder, so that no other process sees it half-migrated."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(f"{SQLITE}{database}"):
        if not _is_missing(database):
            return  # another process has created it
        part = database.with_name(f"{DATABASE}.part")
        shutil.rmtree(part, ignore_errors=True)  # a killed process may have left it
        part.mkdir()
        make_tables(part / DATABASE, (database.parent / ARTIFACTS).as_uri())
        # SQLite would apply the journal of a deleted database to this one.
        database.with_name(f"{DATABASE}-journal").unlink(missing_ok=True)
        (part / DATABASE).replace(database)
        shutil.rmtree(part)


def make_tables(database: Path, artifacts: str) -> None:
    """Have MLflow create its tables, by some dozens of migrations that take seconds."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        store = SqlAlchemyStore(f"{SQLITE}{database}", artifacts)
    except Exception as error:
        # SQLAlchemy, alembic and MLflow have exceptions of their own: one message for all.
        raise StoreError(
            f"{database}: MLflow cannot create its tables: {store_reason(error)}"
        ) from error
    store.engine.dispose()  # no connection stays open under the old name


def _relocate(database: Path) -> None:
    """Make all locations name the folder of the database, in one transaction."""
    with _connected(database) as connection:
        others = _other_folders(connection, database.parent)
        if not others:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            # Read again: another process may have replaced them.
            for other in _other_folders(connection, database.parent):
                _replace(connection, other, database.parent.as_uri())
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise
            folders = ", ".join(str(_path(uri)) for uri in others)
            raise StoreError(
                f"{database} was copied or moved from {folders}, and its locations cannot be changed: "
                f"{store_reason(error)}"
            ) from error


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608
            f"WHERE substr({column}, 1, length(:old) + 1) = :old || '/'",
            {"old": old, "new": new},
        )


def _other_folders(connection: sqlite3.Connection, folder: Path) -> list[str]:
    """The folders other than `folder`, as URIs, that experiments of the store in `folder` name."""
    rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    uris = {match[1] for (location,) in rows if (match := _RECORDED.fullmatch(location or ""))}
    return sorted(uri for uri in uris if not _is_same_store(uri, folder))


def _is_same_store(uri: str, folder: Path) -> bool:
    """Whether the store in a folder is the one at a URI, by another path: a link or a mount."""
    try:
        return (_path(uri) / DATABASE).samefile(folder / DATABASE)
    except OSError:
        return False


def _path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))


def open_database(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection to a file that exists; it waits `timeout` seconds for locks of other processes.

    It is not read-only: only a connection that may write rolls back the transaction of a killed process.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout)


@contextlib.contextmanager
def _connected(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database that exists. Raises StoreError if it cannot be used."""
    try:
        with contextlib.closing(open_database(database, BUSY_SECONDS)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{database}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What is wrong with the store of a checkout, and the way out."""
    reason, way_out = diagnosis(error)
    # Not for a busy file or a full disk, of which nothing is lost.
    return f"{reason}: {WAY_OUT if way_out in ('', RESTORE) else way_out}"
