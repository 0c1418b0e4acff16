"""Answers to requests with an idempotency key: the same request again gets the same answer, and is logged once.

The key is claimed, the predictions are written and the answer is kept in one transaction. So of two requests
with one key, in whatever process, one writes and the other finds its answer:

    A: begin   claim k   insert predictions   keep answer   commit
    B: begin             claim k waits ...................  fails: k is there     again: finds A's answer

An answer is kept for KEPT, at most as long as its predictions. When one of these is erased, the answer
is deleted too, and only its key stays, so that the patient is not scored again.
"""

import zlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from heart.predictions.access import Access
from heart.predictions.tables import (
    AnswerErased,
    KeyReused,
    LogUnavailable,
    Record,
    answers,
    predictions,
)
from heart.predictions.writer import COMMIT_SECONDS, GroupCommitWriter, Store
from heart.schema import MEASUREMENTS

KEPT = timedelta(hours=24)
ID_BYTES = 16
START = 12  # digits of an id that are its time; those of one answer have the same


class OnceKey(NamedTuple):
    """The identity of a request, as hashes: of its key and sender, and of what it asks for."""

    key: str
    request: str


class Answer(NamedTuple):
    """An answer, and whether it was written just now."""

    body: bytes
    is_new: bool


class AnswerLog(Access):
    """The part of the prediction log for requests with an idempotency key."""

    def __init__(
        self,
        store: Store,
        writer: GroupCommitWriter,
        retry_after: float,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(store, writer, retry_after)
        self._clock = clock

    def answer(self, key: OnceKey) -> bytes | None:
        """The answer to an earlier request with the key. Raises KeyReused, AnswerErased, LogUnavailable."""
        columns = self._columns(_of(key, self._clock() - KEPT))
        rows = list(zip(columns["request"], columns["body"], strict=True))
        return _body(key, *rows[0]) if rows else None

    def append_once(self, records: Sequence[Record], key: OnceKey, body: bytes) -> Answer:
        """Write checked records with their answer, unless the key has one: then that is returned.

        Raises KeyReused, AnswerErased, LogUnavailable (LogQueueFull if too many records wait).
        """
        row = {
            "key": key.key,
            "request": key.request,
            "start": records[0].id[:START],
            "ids": b"".join(bytes.fromhex(record.id) for record in records),
            "body": zlib.compress(body, 1),
        }
        work = partial(_append, records=records, key=key, row=row, now=self._clock())
        started = perf_counter()
        try:
            answer = self._change(work, COMMIT_SECONDS, len(records))
        except TimeoutError:
            raise LogUnavailable(
                f"no answer within {COMMIT_SECONDS:g} s", self._retry_after
            ) from None
        if answer.is_new:
            self.writer.count(len(records))
            self.writer.report(len(records), perf_counter() - started)
        return answer


def _of(key: OnceKey, limit: datetime) -> Any:
    query = select(answers.c.request, answers.c.body, answers.c.ids)
    return query.where(answers.c.key == key.key, answers.c.created_at >= limit)


def _body(key: OnceKey, request: str, body: bytes | None) -> bytes:
    if request != key.request:
        raise KeyReused("the key was used for another request")
    if body is None:
        raise AnswerErased("a prediction of the answer was erased")
    return zlib.decompress(body)


def _append(
    connection: Connection,
    records: Sequence[Record],
    key: OnceKey,
    row: dict[str, Any],
    now: datetime,
) -> Answer:
    limit = now - KEPT
    known: Row[Any] | None = connection.execute(_of(key, limit)).first()
    if known is not None:
        # The first attempt may have been committed before its connection broke.
        return Answer(_body(key, known.request, known.body), known.ids == row["ids"])
    connection.execute(
        delete(answers).where(answers.c.key == key.key, answers.c.created_at < limit)
    )
    # If another process has claimed the key meanwhile, this fails; the next attempt finds its answer.
    connection.execute(insert(answers).values(created_at=now, **row))
    names = [measurement.name for measurement in MEASUREMENTS]
    values = [
        {
            "id": record.id,
            "created_at": now,
            "model_version": record.model_version,
            "probability": record.probability,
            **dict(zip(names, record.measurements, strict=True)),
        }
        for record in records
    ]
    connection.execute(insert(predictions), values)
    return Answer(zlib.decompress(row["body"]), is_new=True)


def erase_answers(connection: Connection, prediction_id: str) -> None:
    """Delete the answers that have a prediction; their keys stay."""
    erased = bytes.fromhex(prediction_id)
    kept = answers.c.body.is_not(None) & (answers.c.start == prediction_id[:START])
    for row in connection.execute(select(answers.c.key, answers.c.ids).where(kept)).all():
        ids = {row.ids[at : at + ID_BYTES] for at in range(0, len(row.ids), ID_BYTES)}
        if erased in ids:
            change = update(answers).where(answers.c.key == row.key)
            connection.execute(change.values(body=None, ids=None))


def purge_answers(connection: Connection, limit: datetime) -> None:
    """Delete the answers that are older, with their keys."""
    connection.execute(delete(answers).where(answers.c.created_at < limit))
