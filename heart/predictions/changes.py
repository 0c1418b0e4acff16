"""Changes of the prediction log other than new predictions; each is one transaction."""

import os
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from heart.predictions.answers import erase_answers
from heart.predictions.tables import (
    OutcomeConflict,
    OutcomeOfAnother,
    UnknownPrediction,
    history,
    new_ids,
    outcomes,
    predictions,
    state,
)
from heart.schema import MEASUREMENTS

Recorded = Literal["created", "same", "replaced"]

# The measurements that take the most bytes.
LARGEST = {
    m.name: max((choice.name for choice in m.choices), key=len) if m.choices else m.high
    for m in MEASUREMENTS
}
PURGE_ROWS = (
    5_000  # rows that one step of a purge reads; predictions are committed between two steps
)


def probe(connection: Connection, rows: int) -> None:
    """Insert and delete predictions in one transaction: if that can be committed, so can the next prediction.

    An update of a row with its own values would not show it: SQLite does not write the page, and
    PostgreSQL may have space for the update but not for a prediction. `seq` is negative, since positive
    ones count the predictions, and random, since a replica with the same one would wait.
    """
    highest = -1 - int.from_bytes(os.urandom(7))
    row = {
        "created_at": datetime.now(UTC),
        "model_version": "probe",
        "probability": 0.0,
        **LARGEST,
    }
    values = [{"seq": highest - at, "id": key, **row} for at, key in enumerate(new_ids(rows))]
    connection.execute(insert(predictions), values)
    inserted = predictions.c.seq.between(highest - rows + 1, highest)
    connection.execute(delete(predictions).where(inserted))


def _add(connection: Connection, name: str, rows: int) -> None:
    connection.execute(update(state).where(state.c.name == name).values(value=state.c.value + rows))


def _require(connection: Connection, prediction_id: str) -> None:
    """Raises UnknownPrediction.

    The row is not locked: if another process changes it or its outcome meanwhile, a constraint of the
    tables ends this transaction, and the next attempt reads the change.
    """
    query = select(predictions.c.seq).where(predictions.c.id == prediction_id)
    if connection.scalar(query) is None:
        raise UnknownPrediction("no prediction has this id")


def record(
    connection: Connection,
    prediction_id: str,
    row: dict[str, Any],
    replace: bool,
    replace_others: bool,
) -> Recorded:
    """Record an outcome, with an entry in its history unless it is the same."""
    _require(connection, prediction_id)
    same_id = outcomes.c.prediction_id == prediction_id
    old = connection.execute(select(outcomes).where(same_id).with_for_update()).first()
    entry = insert(history).values(prediction_id=prediction_id, **row)
    if old is None:
        connection.execute(insert(outcomes).values(prediction_id=prediction_id, **row))
        connection.execute(entry)
        return "created"
    if old.outcome == row["outcome"] and (old.source == row["source"] or not replace):
        return "same"
    if not replace:
        raise OutcomeConflict(f"the outcome is {old.outcome} already")
    if old.sender != row["sender"] and not replace_others:
        raise OutcomeOfAnother(f"the outcome is {old.outcome} already, from another sender")
    connection.execute(update(outcomes).where(same_id).values(**row))
    connection.execute(entry.values(replaced=old.outcome))
    return "replaced"


def withdraw(
    connection: Connection,
    sender: str,
    since: datetime,
    until: datetime,
    by: str,
    now: datetime,
) -> int:
    """Withdraw the current outcomes that a sender recorded from `since` up to `until`; their number."""
    time = outcomes.c.recorded_at
    chosen = (outcomes.c.sender == sender) & (time >= since) & (time <= until)
    rows = connection.execute(
        delete(outcomes).where(chosen).returning(outcomes.c.prediction_id, outcomes.c.outcome)
    ).all()
    entry = {"sender": by, "recorded_at": now}
    entries = [entry | {"prediction_id": row[0], "replaced": row[1]} for row in rows]
    if entries:
        connection.execute(insert(history), entries)
    _add(connection, "withdrawn", len(rows))
    return len(rows)


def erase(connection: Connection, prediction_id: str) -> None:
    _require(connection, prediction_id)
    for table in (outcomes, history):
        connection.execute(delete(table).where(table.c.prediction_id == prediction_id))
    erase_answers(connection, prediction_id)
    connection.execute(delete(predictions).where(predictions.c.id == prediction_id))
    _add(connection, "erased", 1)


def purge(
    connection: Connection, limit: datetime, now: datetime, after: int
) -> tuple[int, int] | None:
    """One step through the log, oldest first: the last row read and the number deleted; None at the end.

    Rows are old by their order too, since a clock that was wrong for a while has dated some too early or too
    late. With `limit` on May 1, today June 1, and rows in this order:

    - April 3: deleted, as it is older than the limit.
    - the year 2036: deleted, as it is older than the next row.
    - April 9: deleted.
    - May 7: young, and so are all rows after it: the step ends here.
    - the year 2020: kept, as it is younger than the row before it.
    """
    seq, created = predictions.c.seq, predictions.c.created_at
    window = select(seq, created).where(seq > after).order_by(seq).limit(PURGE_ROWS)
    last = 0
    for row in connection.execute(window):
        if limit <= row.created_at <= now:
            break
        if row.created_at < limit:
            last = row.seq
    if not last:
        return None
    old = (seq > after) & (seq <= last)
    deleted = connection.execute(
        delete(predictions).where(old, predictions.c.id.not_in(select(outcomes.c.prediction_id)))
    ).rowcount
    _add(connection, "purged", deleted)
    return last, deleted
