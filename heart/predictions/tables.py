"""The record, the tables and the errors of the prediction log.

The tables are the same on SQLite and PostgreSQL. A prediction has an id, a time, a model version, the
13 measurements as given and a probability: no name, no address, no free text. Outcomes have a table of
their own, so that a written row never changes; so have the probabilities of a challenger. Every change of
an outcome is an entry of its history, which is only appended to.
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

from heart.predictions.sources import UNKNOWN, Source
from heart.schema import MEASUREMENTS, OUTCOME

# 1: predictions, outcomes, log_state; 2: shadow_predictions; 3: outcome_history, outcomes.sender; 4: answers
SCHEMA_VERSION = 4
OUTCOMES = tuple(choice.name for choice in OUTCOME.choices)
SOURCES: tuple[str, ...] = get_args(Source)


class LogError(RuntimeError):
    """An error of the prediction log; its text contains no measurement."""


class LogConfigurationError(LogError):
    """The log cannot be used with these settings or this database; waiting cannot help."""


class LogRejected(LogError):
    """The records do not fit the table, so that none was written: an error of the caller."""


class UnknownPrediction(LogError):
    """No prediction has this id, or it was erased."""


class OutcomeConflict(LogError):
    """The prediction has another outcome already, and `replace` is not set."""


class OutcomeOfAnother(OutcomeConflict):
    """Another sender recorded the outcome, and this one may replace only its own."""


class KeyReused(LogError):
    """The idempotency key was used for another request."""


class AnswerErased(LogError):
    """The request was answered, and a prediction of the answer was erased since."""


class LogUnavailable(LogError):
    """The database cannot be written now; another attempt may succeed after `retry_after` seconds.

    The records may be in the database nevertheless, if the connection broke after the commit.
    """

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason, retry_after)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"the prediction log is unavailable: {self.reason}"


class LogQueueFull(LogUnavailable):
    """The queue of waiting records is full; nothing was written."""


class Record(NamedTuple):
    """One prediction. `measurements` are in the order of `schema.MEASUREMENTS`, as in the request:
    the name of a category, a number, or None if it was not measured.
    """

    id: str
    model_version: str
    probability: float
    measurements: Sequence[str | float | None]


class ShadowRecord(NamedTuple):
    """A challenger's probability for a patient whose prediction, by the champion, is in the log."""

    prediction_id: str
    model_version: str
    probability: float


def new_ids(count: int) -> list[str]:
    """Ids for `count` records: 32 hexadecimal digits, UUIDs of version 7 with 72 random bits.

    They begin with the time, so that their index grows at its end. With random ids, SQLite takes 220 ms
    instead of 30 for a batch of 10,000 in a log of a million rows.
    """
    start = f"{time.time_ns() // 1_000_000:012x}7"
    noise = os.urandom(9 * count).hex()
    return [
        f"{start}{noise[at : at + 3]}8{noise[at + 3 : at + 18]}" for at in range(0, 18 * count, 18)
    ]


def is_id(text: str) -> bool:
    """Whether the text has the form of an id: 32 hexadecimal digits."""
    return _ID.fullmatch(text) is not None


_ID = re.compile("[0-9a-f]{32}")
_CHOICES = [frozenset(choice.name for choice in m.choices) for m in MEASUREMENTS]
_LARGEST = sys.float_info.max


def check(records: Sequence[Record]) -> None:
    """Raises LogRejected for records that the tables do not accept; it names the place, not the value.

    They must not reach the database, which quotes rejected values in its own logs.
    """
    for row, (key, _, probability, measurements) in enumerate(records):
        if not is_id(key) or not 0 <= probability <= 1:
            raise LogRejected(f"record {row}: the id or the probability is invalid")
        if len(measurements) != len(MEASUREMENTS):
            raise LogRejected(
                f"record {row} has {len(measurements)} measurements, expected {len(MEASUREMENTS)} measurements"
            )
        for measurement, choices, value in zip(MEASUREMENTS, _CHOICES, measurements, strict=True):
            if choices:
                fits = value in choices
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


# The types of a STRICT table of SQLite, and those of PostgreSQL.
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
    Column("sender", Text, nullable=False, server_default=UNKNOWN),
    sqlite_strict=True,
)

# The entries of all outcomes; `outcomes` has the last one of each prediction, unless it is a withdrawal:
# then `outcome` and `source` are null. `sender` is the name of the token that sent the entry, `replaced`
# the outcome before it. Entries are deleted only with their prediction.
history = Table(
    "outcome_history",
    metadata,
    Column("seq", _WHOLE, Identity(), primary_key=True),
    Column("prediction_id", Text, ForeignKey(predictions.c.id, ondelete="CASCADE"), nullable=False),
    Column("outcome", Text, _one_of("outcome", OUTCOMES)),
    Column("source", Text, _one_of("source", SOURCES)),
    Column("sender", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("replaced", Text, _one_of("replaced", OUTCOMES)),
    sqlite_strict=True,
)
Index("outcome_history_by_prediction", history.c.prediction_id, history.c.seq)

# They are deleted with their prediction. Ids begin with the time, so that the newest rows of a challenger
# are at the end of the index.
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

# Answers to requests with an idempotency key (`answers.py`). `key` and `request` are hashes, `ids` those of
# the predictions, 16 bytes each, `start` the digits with which all of these begin. After an erasure
# `ids` and `body` are null.
answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("start", Text, nullable=False),
    Column("ids", LargeBinary),
    Column("body", LargeBinary),
    sqlite_strict=True,
)
Index("answers_by_time", answers.c.created_at)
Index("answers_by_start", answers.c.start)

# The version of these tables, and the counts of deleted rows.
state = Table(
    "log_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", _WHOLE, nullable=False),
    sqlite_strict=True,
)

KEPT = tuple(column for column in predictions.columns if column.name != "seq")
