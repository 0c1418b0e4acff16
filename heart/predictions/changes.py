"""What changes the prediction log beside new predictions, each as one transaction."""

import os
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from heart.predictions.tables import (
    OutcomeConflict,
    UnknownPrediction,
    new_ids,
    outcomes,
    predictions,
    state,
)
from heart.schema import MEASUREMENTS

Recorded = Literal["created", "same", "replaced"]

# Measurements that take as much room as any patient's.
LARGEST = {
    m.name: max((choice.name for choice in m.choices), key=len) if m.choices else m.high
    for m in MEASUREMENTS
}
PURGE_ROWS = 5_000  # rows that one step of a purge looks at; commits go on between two steps


def probe(connection: Connection, rows: int) -> None:
    """Write predictions and delete them, which nobody sees: if they can be committed, so can the next one.

    A value that is written onto itself shows nothing: SQLite leaves its page alone, and PostgreSQL finds
    room for it where there is none for a prediction. `seq` is negative, since it counts the predictions,
    and random, since a replica would wait for another that writes the same.
    """
    highest = -1 - int.from_bytes(os.urandom(7))
    same = {
        "created_at": datetime.now(UTC),
        "model_version": "probe",
        "probability": 0.0,
        **LARGEST,
    }
    values = [{"seq": highest - at, "id": key, **same} for at, key in enumerate(new_ids(rows))]
    connection.execute(insert(predictions), values)
    written = predictions.c.seq.between(highest - rows + 1, highest)
    connection.execute(delete(predictions).where(written))


def _add(connection: Connection, name: str, rows: int) -> None:
    connection.execute(update(state).where(state.c.name == name).values(value=state.c.value + rows))


def _find(connection: Connection, prediction_id: str) -> None:
    """Raises UnknownPrediction.

    It is not locked: if another process changes it or its outcome meanwhile, a constraint of the tables
    ends this transaction, and the next attempt finds what the other has done.
    """
    query = select(predictions.c.seq).where(predictions.c.id == prediction_id)
    if connection.scalar(query) is None:
        raise UnknownPrediction("no prediction has this id")


def record(
    connection: Connection, prediction_id: str, row: dict[str, Any], replace: bool
) -> Recorded:
    _find(connection, prediction_id)
    mine = outcomes.c.prediction_id == prediction_id
    known = connection.execute(select(outcomes.c.outcome, outcomes.c.source).where(mine)).first()
    if known is None:
        connection.execute(insert(outcomes).values(prediction_id=prediction_id, **row))
        return "created"
    if known.outcome == row["outcome"] and (known.source == row["source"] or not replace):
        return "same"
    if not replace:
        raise OutcomeConflict(f"the outcome is {known.outcome} already")
    connection.execute(update(outcomes).where(mine).values(**row))
    return "replaced"


def erase(connection: Connection, prediction_id: str) -> None:
    _find(connection, prediction_id)
    connection.execute(delete(outcomes).where(outcomes.c.prediction_id == prediction_id))
    connection.execute(delete(predictions).where(predictions.c.id == prediction_id))
    _add(connection, "erased", 1)


def purge(connection: Connection, limit: datetime, after: int) -> tuple[int, int] | None:
    """One step through the log, oldest first: the last row seen and how many went; None at the end."""
    seq, made = predictions.c.seq, predictions.c.created_at
    window = select(seq, made).where(seq > after).order_by(seq).limit(PURGE_ROWS)
    rows = connection.execute(window).all()
    if not any(row.created_at < limit for row in rows):
        return None  # the log is in the order of time, so what follows is newer still
    last = rows[-1].seq
    old = (seq > after) & (seq <= last) & (made < limit)
    gone = connection.execute(
        delete(predictions).where(old, predictions.c.id.not_in(select(outcomes.c.prediction_id)))
    ).rowcount
    _add(connection, "purged", gone)
    return last, gone
