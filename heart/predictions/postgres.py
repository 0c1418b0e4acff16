"""The prediction log in PostgreSQL, for any number of processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg.adapt import PyFormat
from psycopg.sql import SQL, Identifier, Placeholder
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from heart.predictions.tables import (
    KEPT,
    Record,
    ShadowRecord,
    metadata,
    predictions,
    shadows,
)
from heart.predictions.upgrade import prepare
from heart.schema import MEASUREMENTS

# A server that does not answer is an error after these times, whatever the network does.
CONNECT = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "heart"}

BAD_DATA = (psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError, OverflowError)

_TYPES = ["text" if measurement.choices else "float8" for measurement in MEASUREMENTS]


def _column(values: tuple[Any, ...], kind: str) -> list[Any]:
    if kind == "text":
        return list(values)
    return [None if value is None else float(value) for value in values]


def _insert() -> Any:
    """One statement for any number of rows: each column is one array, in PostgreSQL's binary form."""
    value = Placeholder(format=PyFormat.BINARY)
    arrays = [
        SQL("{}::{}[]").format(value, SQL(kind)) for kind in ("text", "text", "float8", *_TYPES)
    ]
    statement = SQL(
        "INSERT INTO {table} ({columns}) SELECT id, {now}, {others} "
        "FROM unnest({arrays}) AS records (id, {others}) ON CONFLICT (id) DO NOTHING"
    )
    names = [Identifier(column.name) for column in KEPT]
    comma = SQL(", ")
    return statement.format(
        table=Identifier(predictions.name),
        columns=comma.join(names),
        now=value,
        others=comma.join(names[2:]),
        arrays=comma.join(arrays),
    )


# Only rows whose prediction was not erased meanwhile.
_INSERT_SHADOWS = SQL(
    "INSERT INTO {shadows} (prediction_id, model_version, probability) "
    "SELECT records.* FROM unnest({value}::text[], {value}::text[], {value}::float8[]) "
    "AS records (prediction_id, model_version, probability) "
    "JOIN {predictions} ON {predictions}.id = records.prediction_id ON CONFLICT DO NOTHING"
).format(
    shadows=Identifier(shadows.name),
    predictions=Identifier(predictions.name),
    value=Placeholder(format=PyFormat.BINARY),
)


class PostgresStore:
    """One server. Only the writing thread may call anything but `reading` and `reason`."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args=CONNECT,
            hide_parameters=True,
            pool_pre_ping=True,
        )
        event.listen(self._engine, "connect", _configure)
        self._connection: Connection | None = None
        self._insert = _insert()

    def connect(self) -> None:
        """Open the writing connection, unless it is open. Raises LogConfigurationError, DBAPIError."""
        if self._connection:
            return
        with self._engine.begin() as connection:
            # If another process creates the tables at this moment, this fails; the next attempt finds them.
            prepare(connection)
        # The statement of a commit is a transaction by itself: one round trip.
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def insert(self, records: Sequence[Record], now: datetime) -> None:
        """Write all records in one transaction that is durable on return; known ids stay as they are.

        Raises psycopg.Error, and an error that `rejects` recognizes for records that do not fit.
        """
        ids, versions, probabilities, measurements = zip(*records, strict=True)
        columns = zip(zip(*measurements, strict=True), _TYPES, strict=True)
        values = [list(ids), list(versions), _column(probabilities, "float8")]
        values += [_column(column, kind) for column, kind in columns]
        self._driver().execute(self._insert, [now, *values])

    def insert_shadows(self, rows: Sequence[ShadowRecord]) -> None:
        """Write rows whose prediction is in the log and that are new, durable on return.

        Raises psycopg.Error.
        """
        self._driver().execute(
            _INSERT_SHADOWS, [list(column) for column in zip(*rows, strict=True)]
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that is durable once the block has ended."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for any thread."""
        with self._engine.connect() as connection:
            yield connection

    def scrub(self) -> bool:
        """Nothing to do: PostgreSQL's own vacuum removes erased rows from the files."""
        return True

    def compact(self) -> bool:
        """Rewrite all tables without deleted rows. Others wait meanwhile. Raises DBAPIError."""
        assert self._connection
        names = ", ".join(table.name for table in metadata.sorted_tables)
        self._connection.exec_driver_sql(f"VACUUM (FULL) {names}")
        return True

    def inspect(self, _seconds: float) -> tuple[str | None, bool]:
        """Nothing to do: the server's checksums find damage in its files."""
        return None, True

    def file(self) -> None:
        """There is no file of its own."""

    def _driver(self) -> psycopg.Connection[Any]:
        assert self._connection
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return driver

    def disconnect(self) -> None:
        """Drop the writing connection in any state; `connect` opens another."""
        if self._connection:
            with suppress(DBAPIError, psycopg.Error):
                self._connection.invalidate()
                self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Close all connections."""
        self.disconnect()
        self._engine.dispose()

    def rejects(self, error: Exception) -> bool:
        """Whether `insert` failed because of the records, not because of the database."""
        unsent = isinstance(error, psycopg.ProgrammingError) and not error.sqlstate
        return unsent or isinstance(error, BAD_DATA)

    def reason(self, error: Exception) -> str:
        """The reason of a failure without any value of a record, which PostgreSQL's details contain."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.Error) and cause.sqlstate:
            return f"PostgreSQL: {type(cause).__name__} ({cause.sqlstate})"
        if isinstance(cause, psycopg.OperationalError):
            return str(cause).partition("\n")[0]
        return type(cause).__name__


def _configure(driver: psycopg.Connection[Any], _: object) -> None:
    # A server may be configured to answer before the row is on its disk; a stricter setting is kept.
    driver.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    driver.commit()
