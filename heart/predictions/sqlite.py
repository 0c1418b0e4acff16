"""The prediction log in one SQLite file, for one process.

WAL with synchronous=FULL: a commit is on the disk when it returns. Each file has one writing connection,
because SQLite 3.7.0 to 3.51.2 can corrupt a file that two connections write and checkpoint at once.
"""

import functools
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from heart.predictions.inspection import WAY_OUT
from heart.predictions.sqlite_file import LogFile, last_row
from heart.predictions.tables import (
    KEPT,
    LogConfigurationError,
    Record,
    ShadowRecord,
    iso,
    predictions,
    shadows,
)
from heart.predictions.upgrade import prepare

logger = logging.getLogger(__name__)

BUSY_SECONDS = 2.0  # limit of the wait for a lock that another program holds on the file
# Settings of the writing connection; each is set and then read back.
PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "fullfsync": 1,  # on macOS a plain fsync leaves the data in the disk's cache
    "foreign_keys": 1,
    "secure_delete": 1,  # erased rows are overwritten
}
# Rows of one statement, which may have 32,766 values. Python releases the GIL once for each statement, and beside a
# busy event loop it takes milliseconds to get it back, so that the usual group of predictions should be one statement.
STEPS = (1900, 512, 64)
# Rows of the largest statement for shadow predictions. SQLite keeps compiled statements; to compile one
# for each number of rows takes longer than to run it.
SHADOW_ROWS = 1024

BAD_DATA = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    TypeError,
    ValueError,
    OverflowError,
)

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
STEPS_BETWEEN_LOOKS = (
    10_000  # of SQLite's virtual machine, some milliseconds, between two looks at the time
)

_VALUES = "(" + ", ".join("?" * len(KEPT)) + ")"
_INSERT = str(
    insert(predictions)
    .on_conflict_do_nothing(index_elements=["id"])
    .compile(dialect=dialect(), column_keys=[column.name for column in KEPT])
)


@functools.cache
def _insert(rows: int) -> str:
    head, _, tail = _INSERT.partition(_VALUES)
    return head + ", ".join([_VALUES] * rows) + tail


@functools.cache
def _insert_shadows(rows: int) -> str:
    """One statement; SQLite names the columns of VALUES column1, column2, ... A NULL id adds no row."""
    values = ", ".join(["(?, ?, ?)"] * rows)
    return (
        f"INSERT OR IGNORE INTO {shadows.name} SELECT * FROM (VALUES {values}) "  # noqa: S608
        f"WHERE EXISTS (SELECT 1 FROM {predictions.name} WHERE id = column1)"
    )


def capacity_of(rows: int) -> int:
    """The rows of the statement for so many shadow predictions: a power of two."""
    return max(64, 1 << (rows - 1).bit_length())


def _steps(rows: int) -> Iterator[int]:
    for step in STEPS:
        while rows >= step:
            yield step
            rows -= step
    if rows:
        yield rows


class SqliteStore:
    """One file. Only the writing thread may call anything but `reading` and `reason`."""

    def __init__(self, url: URL) -> None:
        if url.database in (None, "", ":memory:"):
            raise LogConfigurationError(
                "the prediction log needs a file, a database in memory is not durable"
            )
        self._file = LogFile(Path(str(url.database)))
        self._writers = _engine(functools.partial(self._open, "rw"))
        self._readers = _engine(functools.partial(self._open, "ro"))
        event.listen(self._writers, "connect", _configure)
        event.listen(self._writers, "begin", _begin)
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection | None = None  # of the connection
        self._opened = False

    def connect(self) -> None:
        """Open the writing connection, unless it is open. Raises LogConfigurationError, OSError, DBAPIError."""
        if self._connection:
            return
        self._file.open(first=not self._opened)
        connection = self._writers.connect()
        try:
            with connection.begin():
                self._file.check_id(connection)
                prepare(connection)
                self._file.check_rows(connection)
                log_id, row = self._file.add_id(connection), last_row(connection)
            self._check_integrity(connection)
            self._file.mark(log_id, row)
        except BaseException:
            connection.close()
            raise
        self._connection, self._driver = connection, connection.connection.driver_connection
        self._opened = True

    def insert(self, records: Sequence[Record], now: datetime) -> None:
        """Write all records in one transaction that is durable on return; known ids stay as they are.

        Raises sqlite3.Error, OSError, and an error that `rejects` recognizes for records that do not fit.
        """
        steps, time = list(_steps(len(records))), iso(now)
        assert self._driver
        self._file.verify()
        done = row = 0
        with self._driver as driver:
            if len(steps) > 1:
                driver.execute("BEGIN IMMEDIATE")
            for step in steps:
                cursor = driver.execute(_insert(step), _values(records[done : done + step], time))
                row = cursor.lastrowid if cursor.rowcount else row  # type: ignore[assignment]
                done += step
        self._file.committed(row)

    def insert_shadows(self, rows: Sequence[ShadowRecord]) -> None:
        """Write rows whose prediction is in the log and that are new, durable on return.

        Raises sqlite3.Error, OSError.
        """
        assert self._driver
        self._file.verify()
        for start in range(0, len(rows), SHADOW_ROWS):
            part = rows[start : start + SHADOW_ROWS]
            capacity = capacity_of(len(part))
            values: list[str | float | None] = [value for row in part for value in row]
            values += [None] * (3 * capacity - len(values))
            self._driver.execute(_insert_shadows(capacity), values)
        self._file.committed(row=0)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The writing connection in a transaction that is durable once the block has ended."""
        assert self._connection
        self._file.verify()
        self._file.mark_row(0)  # the last row may be deleted
        with self._connection.begin():
            yield self._connection
            row = last_row(self._connection)
        self._file.committed(row)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A fresh read-only connection, for any thread."""
        with self._readers.connect() as connection:
            yield connection

    def scrub(self) -> bool:
        """Write the WAL into the file and empty it, so that erased rows are in neither.

        False if a reader prevented it.
        """
        assert self._driver
        self._file.verify()
        busy, *_ = self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._file.remember()
        return not busy

    def compact(self) -> bool:
        """Rewrite the file, and empty the WAL. False if a reader prevented it. Raises sqlite3.Error.

        `secure_delete` overwrites the rows that this program deletes. Free pages may still have others:
        of a program without it, such as the command sqlite3 or a recovery.
        """
        assert self._driver
        self._file.verify()
        self._driver.execute("VACUUM")
        return self.scrub()

    def inspect(self, seconds: float) -> tuple[str | None, bool]:
        """The damage that SQLite's quick check finds, and whether the check came to its end.

        Raises sqlite3.Error. For any thread; the event loop continues, since SQLite works without the GIL.
        """
        end = monotonic() + seconds
        with closing(self._open("ro")) as driver:
            driver.set_progress_handler(lambda: monotonic() > end, STEPS_BETWEEN_LOOKS)
            try:
                (result,) = driver.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.DatabaseError as error:
                if _code(error) == sqlite3.SQLITE_INTERRUPT:
                    return None, False
                if _code(error) not in DAMAGE:
                    raise
                return self.reason(error), True
        return (None if result == "ok" else self._damaged(result.splitlines()[-1])), True

    def file(self) -> tuple[int, int] | None:
        """Device and inode of the database, None without one."""
        try:
            return self._file.file()
        except OSError:
            return None

    def disconnect(self) -> None:
        """Close the writing connection in any state; `connect` opens another."""
        if self._connection:
            with suppress(DBAPIError, sqlite3.Error):
                self._connection.close()
        self._connection = self._driver = None

    def close(self) -> None:
        """Close the connection and release the lock on the file."""
        self.disconnect()
        self._file.release()

    def rejects(self, error: Exception) -> bool:
        """Whether `insert` failed because of the records, not because of the database."""
        return isinstance(error, BAD_DATA)

    def reason(self, error: Exception) -> str:
        """The reason of a failure without any value of a record."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, OSError):
            return f"{cause.strerror}: {Path(cause.filename or self._file.path).name}"
        if isinstance(cause, NoSuchTableError):
            return self._damaged(f"the table {cause} is missing")
        if not isinstance(cause, sqlite3.Error):
            return type(cause).__name__
        return self._damaged(str(cause)) if _code(cause) in DAMAGE else str(cause)

    def _damaged(self, finding: str) -> str:
        return f"{self._file.path.name} is damaged ({finding}): {WAY_OUT}"

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(self._file.path))}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _check_integrity(self, connection: Connection) -> None:
        """Check a database that another program has replaced or cut."""
        replaced = self._file.replaced()
        if replaced or self._file.cut():
            result = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
            connection.rollback()
            if result != "ok":
                raise OSError(0, "the restored file is damaged" if replaced else "damaged")
        if replaced:
            logger.warning(
                "The prediction log's file was replaced: rows that only the other had are missing"
            )
        self._file.remember()


def _code(error: sqlite3.Error) -> int | None:
    """The primary error code; None for an error of the driver itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _engine(opener: functools.partial[sqlite3.Connection]) -> Engine:
    return create_engine("sqlite://", creator=opener, poolclass=NullPool, hide_parameters=True)


def _configure(driver: sqlite3.Connection, _: object) -> None:
    for name, expected in PRAGMAS.items():
        driver.execute(f"PRAGMA {name}={expected}")
        actual = driver.execute(f"PRAGMA {name}").fetchone()[0]
        if actual != expected:
            raise LogConfigurationError(
                f"SQLite's {name} is {actual} here, the prediction log needs {expected}"
            )


def _begin(connection: Connection) -> None:
    # The driver's own BEGIN would start a read transaction, whose upgrade to writing can fail.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _values(records: Sequence[Record], now: str) -> list[str | float | None]:
    """The values of the records in the order of the table's columns, one record after the other."""
    values: list[str | float | None] = []
    for record in records:
        values += (record.id, now, record.model_version, record.probability, *record.measurements)
    return values
