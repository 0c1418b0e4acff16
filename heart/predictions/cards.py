"""What clinicians did with the cards about predictions: accepted or overridden, the last word for each card.

The table is created by the first feedback, so that a log without CDS Hooks has none. It has at most one row
for each prediction, which is deleted with it, and no free text. `reason` is one of a fixed list.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    select,
)

from heart.predictions.access import Access
from heart.predictions.tables import UtcTime, is_id, predictions

# Not in the metadata of the other tables: those are in every log.
card_feedback = Table(
    "card_feedback",
    MetaData(),
    Column(
        "prediction_id", Text, ForeignKey(predictions.c.id, ondelete="CASCADE"), primary_key=True
    ),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("sender", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    sqlite_strict=True,
)


class CardFeedback(NamedTuple):
    """What was done with a card: `outcome` is accepted or overridden."""

    prediction_id: str
    outcome: str
    reason: str | None


class CardLog(Access):
    """The feedback on cards. Every method raises LogUnavailable."""

    _clock: Callable[[], datetime]

    def record_card_feedback(self, entries: Sequence[CardFeedback], sender: str) -> int:
        """Record the feedback on cards, in place of earlier one; returns how many are of no prediction."""
        now = self._clock()
        return self._change(lambda connection: _record(connection, entries, sender, now))

    def card_feedback(self) -> list[dict[str, Any]]:
        """The number of cards by model version, outcome and reason."""
        return self._change(_counts)


def _record(
    connection: Connection, entries: Sequence[CardFeedback], sender: str, now: datetime
) -> int:
    card_feedback.create(connection, checkfirst=True)
    unknown = 0
    for entry in entries:
        same_id = predictions.c.id == entry.prediction_id
        if (
            not is_id(entry.prediction_id)
            or connection.scalar(select(predictions.c.seq).where(same_id)) is None
        ):
            unknown += 1
            continue
        earlier = card_feedback.c.prediction_id == entry.prediction_id
        connection.execute(delete(card_feedback).where(earlier))
        row = {**entry._asdict(), "sender": sender, "recorded_at": now}
        connection.execute(insert(card_feedback).values(row))
    return unknown


def _counts(connection: Connection) -> list[dict[str, Any]]:
    if not inspect(connection).has_table(card_feedback.name):
        return []
    keys = (predictions.c.model_version, card_feedback.c.outcome, card_feedback.c.reason)
    query = select(*keys, func.count().label("cards")).join_from(card_feedback, predictions)
    rows = connection.execute(query.group_by(*keys).order_by(*keys))
    return [dict(row) for row in rows.mappings()]
