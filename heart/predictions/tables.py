"""What the prediction log keeps: the record, the tables and their version, the errors.

The tables are the same on SQLite and PostgreSQL. A prediction has an id, a time, a model version, the
13 measurements as given and a probability: no name, no address, no free text. Outcomes have a table of
their own, so that a log row never changes once it is written; so have the probabilities that a
challenger gives beside the champion.
"""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from heart.predictions.sources import Source
from heart.schema import MEASUREMENTS, OUTCOME

# 1: predictions, outcomes, log_state; 2: shadow_predictions
SCHEMA_VERSION = 2
OUTCOMES = tuple(choice.name for choice in OUTCOME.choices)
SOURCES: tuple[str, ...] = get_args(Source)


class LogError(RuntimeError):
    """Something that the prediction log could not do; no text of it holds a measurement."""


class LogConfigurationError(LogError):
    """The log cannot be used with these settings or this database; waiting does not help."""


class LogRejected(LogError):
    """The records do not fit the table, so none of them was written; the caller has a mistake."""


class UnknownPrediction(LogError):
    """No prediction has this id (it never had, or it was erased)."""


class OutcomeConflict(LogError):
    """The prediction has another outcome already, and `replace` was not asked for."""


class LogUnavailable(LogError):
    """The database cannot be written now; it is worth trying again after `retry_after` seconds.

    Nothing was acknowledged. The records may be in the database all the same, if the connection broke
    after the server had committed them.
    """

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason, retry_after)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"the prediction log is unavailable: {self.reason}"


class LogQueueFull(LogUnavailable):
    """More records wait than the queue may hold; nothing was written."""


class Record(NamedTuple):
    """One prediction to keep. `measurements` are in the order of `schema.MEASUREMENTS`, as given:
    a category by its name, a number as it is, None where it was not measured.
    """

    id: str
    model_version: str
    probability: float
    measurements: Sequence[str | float | None]


class ShadowRecord(NamedTuple):
    """What a challenger said of a patient whose prediction, by the champion, is in the log."""

    prediction_id: str
    model_version: str
    probability: float


def new_ids(count: int) -> list[str]:
    """Ids for `count` records: 32 hexadecimal digits, UUIDs of version 7 with 72 random bits.

    They begin with the time, so that the index over them grows at its end. With wholly random ids a
    log of a million rows on SQLite takes a batch of 10,000 in 220 ms instead of 30.
    """
    start = f"{time.time_ns() // 1_000_000:012x}7"
    noise = os.urandom(9 * count).hex()
    return [
        f"{start}{noise[at : at + 3]}8{noise[at + 3 : at + 18]}" for at in range(0, 18 * count, 18)
    ]


def is_id(text: str) -> bool:
    """Whether the text can be the id of a prediction: 32 hexadecimal digits."""
    return _ID.fullmatch(text) is not None


_ID = re.compile("[0-9a-f]{32}")
_WORDS = [frozenset(choice.name for choice in m.choices) for m in MEASUREMENTS]
_LARGEST = sys.float_info.max


def check(records: Sequence[Record]) -> None:
    """Only what belongs into the log may reach the database, which quotes what it refuses in its logs.

    Raises LogRejected, which names the place and not the value.
    """
    for row, (key, _, probability, measurements) in enumerate(records):
        if not is_id(key) or not 0 <= probability <= 1:
            raise LogRejected(f"record {row}: the id or the probability is not one")
        if len(measurements) != len(MEASUREMENTS):
            raise LogRejected(f"record {row} has not the {len(MEASUREMENTS)} measurements")
        for measurement, words, value in zip(MEASUREMENTS, _WORDS, measurements, strict=True):
            if words:
                fits = value in words
            else:  # a tuple: `int | float` would take twice as long
                fits = isinstance(value, (int, float)) and -_LARGEST <= value <= _LARGEST
            if value is not None and not fits:
                name, expected = measurement.name, measurement.expected
                raise LogRejected(f"record {row}: {name} is not {expected}")


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC; on SQLite a text of fixed width, which sorts like the time."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        text = dialect.name == "sqlite"
        return dialect.type_descriptor(Text() if text else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return iso(value) if value and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        moment = datetime.fromisoformat(value) if value and dialect.name == "sqlite" else value
        return moment.astimezone(UTC) if moment else None


def iso(moment: datetime) -> str:
    """The text of an aware time on SQLite."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


# The types that a STRICT table of SQLite knows, and what PostgreSQL calls them.
_NUMBER: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
_WHOLE: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _one_of(column: str, values: Sequence[str]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})")


def _probability() -> Column[float]:
    fits = CheckConstraint("probability >= 0 AND probability <= 1")
    return Column("probability", _NUMBER, fits, nullable=False)


metadata = MetaData()

# `seq` counts the rows in the order in which they came: the newest are at its end, however long the
# log is. With the index on the version, that holds for the newest of one version too.
predictions = Table(
    "predictions",
    metadata,
    Column("seq", _WHOLE, Identity(), primary_key=True),
    Column("id", Text, CheckConstraint("length(id) = 32"), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("model_version", Text, nullable=False),
    _probability(),
    *(Column(m.name, Text() if m.choices else _NUMBER) for m in MEASUREMENTS),
    sqlite_strict=True,
)
Index("predictions_by_version", predictions.c.model_version, predictions.c.seq)

outcomes = Table(
    "outcomes",
    metadata,
    Column("prediction_id", Text, ForeignKey(predictions.c.id), primary_key=True),
    Column("outcome", Text, _one_of("outcome", OUTCOMES), nullable=False),
    Column("source", Text, _one_of("source", SOURCES), nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    sqlite_strict=True,
)

# They go with their prediction. Ids begin with the time, so that the newest of a challenger are at the
# end of the index.
shadows = Table(
    "shadow_predictions",
    metadata,
    Column(
        "prediction_id", Text, ForeignKey(predictions.c.id, ondelete="CASCADE"), primary_key=True
    ),
    Column("model_version", Text, primary_key=True),
    _probability(),
    sqlite_strict=True,
)
Index("shadow_predictions_by_version", shadows.c.model_version, shadows.c.prediction_id)

# The version of these tables, and the counts that outlive the rows which they count.
state = Table(
    "log_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", _WHOLE, nullable=False),
    sqlite_strict=True,
)

KEPT = tuple(column for column in predictions.columns if column.name != "seq")


def prepare(connection: Connection) -> None:
    """Make the tables in an empty database, or check those that are there, and bring old ones up to
    date. Raises LogConfigurationError.
    """
    if inspect(connection).has_table(state.name):
        _check(connection)
        return
    metadata.create_all(connection)
    start: list[Mapping[str, Any]] = [
        {"name": "schema_version", "value": SCHEMA_VERSION},
        {"name": "erased", "value": 0},
        {"name": "purged", "value": 0},
    ]
    connection.execute(insert(state), start)


def _check(connection: Connection) -> None:
    named = state.c.name == "schema_version"
    version = connection.scalar(select(state.c.value).where(named))
    if version is None or version > SCHEMA_VERSION:
        raise LogConfigurationError(
            f"the prediction log has version {version} of its tables, "
            f"this program knows {SCHEMA_VERSION}: use the newer program"
        )
    there = {column["name"] for column in inspect(connection).get_columns(predictions.name)}
    if other := there.symmetric_difference(predictions.columns.keys()):
        raise LogConfigurationError(
            f"the prediction log was made by another schema: {sorted(other)} differ"
        )
    if version < 2:
        shadows.create(connection)
        connection.execute(update(state).where(named).values(value=SCHEMA_VERSION))
