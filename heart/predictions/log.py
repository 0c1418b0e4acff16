"""The interface of the prediction log.

One thread writes rows (`writer`) into SQLite or PostgreSQL (`sqlite`, `postgres`); `tables` defines them.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from heart.predictions import changes, labeled
from heart.predictions.access import Columns
from heart.predictions.answers import KEPT, AnswerLog, purge_answers
from heart.predictions.cards import CardLog
from heart.predictions.changes import Recorded
from heart.predictions.clock import Retention, RetentionClock, running_seconds
from heart.predictions.inspection import INSPECTION_SECONDS, Inspection
from heart.predictions.queries import entries, newest, one, with_outcome
from heart.predictions.shadow import Side, differences, scores
from heart.predictions.sources import UNKNOWN
from heart.predictions.stores import store_of
from heart.predictions.tables import (
    OUTCOMES,
    SOURCES,
    LogConfigurationError,
    LogError,
    LogQueueFull,
    LogRejected,
    LogUnavailable,
    OutcomeConflict,
    OutcomeOfAnother,
    Record,
    ShadowRecord,
    UnknownPrediction,
    check,
    is_id,
    new_ids,
    predictions,
    state,
)
from heart.predictions.writer import GroupCommitWriter, Stats

__all__ = [
    "LogConfigurationError",
    "LogError",
    "LogQueueFull",
    "LogRejected",
    "LogUnavailable",
    "OutcomeConflict",
    "OutcomeOfAnother",
    "PredictionLog",
    "Record",
    "ShadowRecord",
    "Side",
    "UnknownPrediction",
    "check",
    "new_ids",
]

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0  # limit of the wait of readiness for the database
# Rows that readiness writes after a prediction could not be written: a single row may fit into an
# existing page where the prediction needed a new one.
ROWS_AFTER_FAILURE = 500


class PredictionLog(CardLog, AnswerLog):
    """Predictions and their outcomes, in SQLite (`sqlite:///path`) or PostgreSQL, as `url` says.

    `retention_days` is the age at which `purge` deletes, None for never; `clock_confirmed` is a date that
    has come, for `RetentionClock`. `queue_limit` is the maximum number of rows that wait or are being
    written, at least the size of the largest batch. While the database is unavailable, `append` raises at
    once; the next attempt is `retry_after` seconds later. `on_commit(rows, seconds)` is called by the writing
    thread. All methods but `append` wait for the database in the calling thread, which must not be that of an
    event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        retention_days: float | None = None,
        clock_confirmed: date | None = None,
        queue_limit: int = 50_000,
        retry_after: float = 1.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        running: Callable[[], float] = running_seconds,
        on_commit: Callable[[int, float], None] = lambda _rows, _seconds: None,
    ) -> None:
        store = store_of(url)
        writer = GroupCommitWriter(store, queue_limit, retry_after, clock, on_commit)
        super().__init__(store, writer, retry_after, clock)
        self._retention = Retention(retention_days, RetentionClock(clock, clock_confirmed, running))
        self.inspection: Inspection | None = None  # the last result of `inspect`
        self._scrubbed = False  # whether no file has erased rows: a killed process may leave some

    @property
    def purge_refusal(self) -> str | None:
        """Why the last purge deleted nothing; None if it may delete."""
        return self._retention.refusal

    @property
    def stats(self) -> Stats:
        """Counts since the start."""
        return self.writer.stats

    def start(self) -> None:
        """Start the writer, unless it runs. It waits for an unavailable database.

        Raises LogConfigurationError if waiting cannot help.
        """
        try:
            self.writer.start(ANSWER_SECONDS)
        except (LogUnavailable, TimeoutError):
            return  # `ready` gives the reason
        except LogConfigurationError:
            self.close()
            raise

    def close(self, timeout: float = ANSWER_SECONDS) -> None:
        """Reject further records, write waiting ones for up to `timeout` seconds, stop."""
        self.writer.close(timeout)

    async def append(self, records: Sequence[Record]) -> None:
        """Return once all records are durable; they are written in one transaction.

        A record whose id is in the log already is not written. Raises LogUnavailable (LogQueueFull if too
        many records wait), LogRejected for records that do not fit the table.
        """
        check(records)
        if records:
            await self.writer.append(records)

    def start_append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Begin to `append` records, at least one, of valid patients; await the result."""
        return self.writer.append(records)

    def append_sync(self, records: Sequence[Record]) -> None:
        """`append` for a thread without an event loop."""
        check(records)
        if records:
            self.writer.append_sync(records)

    def append_shadows(self, rows: Sequence[ShadowRecord]) -> None:
        """Keep predictions of a challenger; rows whose prediction is not in the log are left out.

        Raises LogUnavailable.
        """
        if rows:
            self._on_writer(lambda: self.store.insert_shadows(rows))

    def compared(self, champion: Side, challenger: Side, newest: int) -> dict[str, Any]:
        """The figures of `differences` and `scores`; None where there are no rows. Raises LogUnavailable."""
        queries = (differences(champion, challenger, newest), scores(champion, challenger))
        columns = [self._columns(query) for query in queries]
        return {name: values[0] for part in columns for name, values in part.items()}

    def labeled_scores(self, side: Side) -> dict[str, float] | None:
        """Labels, accuracy and ROC AUC of a version; None without both outcomes. Raises LogUnavailable."""
        columns = self._columns(labeled.ranked(side))
        return labeled.scores({name: values[0] for name, values in columns.items()})

    def ready(self) -> str | None:
        """Write to the log and delete it again: None if that succeeds, otherwise the reason.

        A log that `inspect` has found damaged is not ready either, until another file is in its place.
        """
        try:
            self._on_writer(self._probe, ANSWER_SECONDS)
        except LogUnavailable as error:
            return error.reason
        except TimeoutError:
            return f"the database has not answered for {ANSWER_SECONDS:g} s"
        last = self.inspection
        return last.damage if last and last.file == self.store.file() else None

    def inspect(self, seconds: float = INSPECTION_SECONDS) -> Inspection:
        """Check the files of the database, for at most about so many seconds. Raises LogUnavailable.

        It reads the whole log through a connection of its own, in the calling thread.
        """
        try:
            file = self.store.file()
            damage, complete = self.store.inspect(seconds)
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            raise LogUnavailable(self.store.reason(error), self._retry_after) from None
        if damage:
            logger.error("The prediction log: %s", damage)
        self.inspection = Inspection(self._clock(), damage, complete, file)
        return self.inspection

    def notes(self) -> list[str]:
        """What an operator should know although the log works."""
        notes = [self.purge_refusal] if self.purge_refusal else []
        if self.inspection and not self.inspection.complete:
            notes.append("the check of the file did not end in time, so damage may be unnoticed")
        return [f"prediction log: {note}" for note in notes]

    def _probe(self) -> None:
        with self.store.transaction() as connection:
            changes.probe(connection, ROWS_AFTER_FAILURE if self.writer.failed else 1)
        self.writer.failed = False

    def record_outcome(
        self,
        prediction_id: str,
        outcome: str,
        source: str,
        sender: str = UNKNOWN,
        *,
        replace: bool = False,
        replace_others: bool = True,
    ) -> Recorded:
        """Record the outcome of a patient: one of OUTCOMES, from one of SOURCES, sent by a token.

        The same outcome again is "same", and its source is kept unless `replace`; `replace_others` is
        whether that may be another sender's. Raises UnknownPrediction, OutcomeConflict, OutcomeOfAnother,
        LogUnavailable, and ValueError for other texts.
        """
        if outcome not in OUTCOMES or source not in SOURCES:
            raise ValueError(
                f"outcome {outcome!r} from {source!r}: expected one of {OUTCOMES} from one of {SOURCES}"
            )
        _require_id(prediction_id)
        row = {
            "outcome": outcome,
            "source": source,
            "sender": sender,
            "recorded_at": self._clock(),
        }
        work = partial(
            changes.record,
            prediction_id=prediction_id,
            row=row,
            replace=replace,
            replace_others=replace_others,
        )
        return self._change(work)

    def withdraw_outcomes(
        self, sender: str, since: datetime | None, until: datetime | None, by: str
    ) -> int:
        """Withdraw the current outcomes of a sender that were recorded within aware times; their number.

        Each withdrawal is an entry of the history, sent `by` a token. Raises LogUnavailable.
        """
        now = self._clock()
        start = since or datetime.min.replace(tzinfo=UTC)
        work = partial(changes.withdraw, sender=sender, since=start, until=until or now, by=by)
        return self._change(partial(work, now=now))

    def history(self, prediction_id: str | None = None) -> Columns:
        """The entries of all outcomes (of one prediction), oldest first. Raises LogUnavailable."""
        return self._columns(entries(prediction_id))

    def erase(self, prediction_id: str) -> None:
        """Delete a prediction, its outcome and its shadow predictions; the deletion is counted.

        Raises UnknownPrediction, LogUnavailable.
        """
        _require_id(prediction_id)
        self._change(partial(changes.erase, prediction_id=prediction_id))
        self._scrub()

    def _scrub(self) -> None:
        """Overwrite erased rows; while a reader prevents it, the next purge tries again."""
        self._scrubbed = False
        with suppress(LogUnavailable):
            self._scrubbed = self.writer.run_on_writer(self.store.scrub)

    def compact(self) -> None:
        """Rewrite the files without deleted rows. Writers wait. Raises LogUnavailable."""
        if not self._on_writer(self.store.compact):
            raise LogUnavailable("a reader keeps the WAL in use: stop it", self._retry_after)

    def purge(self, now: datetime | None = None) -> int:
        """Delete the predictions that are older than the retention; returns their number.

        Those with an outcome are kept until they are erased, since training data refer to them. If the
        clock cannot be trusted, nothing is deleted; a given `now` is trusted. Raises LogUnavailable.
        """
        if not self._scrubbed:
            self._scrub()
        self._change(partial(purge_answers, limit=(now or self._clock()) - KEPT))
        ages = self._retention.ages(self._change, now)
        if ages is None:
            return 0
        self._change(partial(purge_answers, limit=ages[0]))
        purged, last = 0, 0
        work = partial(changes.purge, limit=ages[0], now=ages[1])
        while step := self._change(partial(work, after=last)):
            last, purged = step[0], purged + step[1]
        if purged:
            self._scrub()
        return purged

    def last(self, n: int, model_version: str | None = None, step: int = 1) -> Columns:
        """The newest `n` predictions (of one version), newest first, as columns.

        With a `step` the result ends at the last row whose number, counted over all rows ever written, is
        a multiple of it, so that several readers at about the same time get the same rows. The cost
        depends on `n`, not on the length of the log. Raises LogUnavailable.
        """
        return self._columns(newest(n, model_version, step))

    def labelled(
        self, model_version: str | None = None, names: Sequence[str] = ("probability", "outcome")
    ) -> Columns:
        """The columns `names` of all predictions (of one version) with an outcome, oldest first.

        Names are columns of `predictions` and `outcomes`. Raises LogUnavailable.
        """
        return self._columns(with_outcome(model_version, names))

    def get(self, prediction_id: str) -> dict[str, Any] | None:
        """A prediction and its outcome with source and time (each None if absent). Raises LogUnavailable."""
        if not is_id(prediction_id):
            return None
        columns = self._columns(one(prediction_id))
        return {name: values[0] for name, values in columns.items()} if columns["id"] else None

    def count(self) -> int:
        """The number of predictions; it reads a whole index. Raises LogUnavailable."""
        counts = self._columns(select(func.count(predictions.c.seq).label("rows")))
        return int(counts["rows"][0])

    def totals(self) -> dict[str, int]:
        """The numbers of predictions erased and purged, and of outcomes withdrawn, since the log was created.

        Raises LogUnavailable.
        """
        columns = self._columns(select(state.c.name, state.c.value))
        counts = dict(zip(columns["name"], columns["value"], strict=True))
        return {name: counts[name] for name in ("erased", "purged", "withdrawn")}


def _require_id(text: str) -> None:
    """Raises UnknownPrediction; a text that the driver rejects would otherwise look like an outage."""
    if not is_id(text):
        raise UnknownPrediction("no prediction has this id")
