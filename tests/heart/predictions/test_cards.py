"""Feedback on the cards about predictions: at most one row each, deleted with the prediction."""

from datetime import UTC, datetime, timedelta

import pytest

from heart.predictions.cards import CardFeedback
from tests.heart.predictions.logs import opened, records

NOW = datetime(2026, 5, 20, tzinfo=UTC)


def test_the_last_feedback_on_a_card_counts(url: str) -> None:
    with opened(url) as log:
        assert log.card_feedback() == []
        batch = [*records(2, "7"), *records(1, "8")]
        log.append_sync(batch)
        first = [CardFeedback(record.id, "overridden", None) for record in batch]
        last = CardFeedback(batch[0].id, "accepted", None)

        assert log.record_card_feedback(first, "ehr") == 0
        assert log.record_card_feedback([*first[1:], last], "ehr") == 0

        assert sorted(log.card_feedback(), key=str) == [
            {"model_version": "7", "outcome": "accepted", "reason": None, "cards": 1},
            {"model_version": "7", "outcome": "overridden", "reason": None, "cards": 1},
            {"model_version": "8", "outcome": "overridden", "reason": None, "cards": 1},
        ]


@pytest.mark.parametrize("key", ["0" * 32, "", "x' OR '1'='1"])
def test_feedback_on_no_prediction_is_counted_and_not_kept(url: str, key: str) -> None:
    with opened(url) as log:
        (record,) = records(1)
        log.append_sync([record])
        known = CardFeedback(record.id, "overridden", "disagree")

        unknown = log.record_card_feedback([CardFeedback(key, "accepted", None), known], "ehr")

        assert unknown == 1
        assert [row["reason"] for row in log.card_feedback()] == ["disagree"]


def test_feedback_is_deleted_with_its_prediction(url: str) -> None:
    with opened(url, retention_days=1, clock=lambda: NOW - timedelta(days=9)) as log:
        erased, purged = records(2)
        log.append_sync([erased, purged])
        entries = [CardFeedback(record.id, "accepted", None) for record in (erased, purged)]
        log.record_card_feedback(entries, "ehr")

        log.erase(erased.id)
        assert [row["cards"] for row in log.card_feedback()] == [1]
        assert log.purge(NOW) == 1

        assert log.card_feedback() == []


def test_a_log_with_feedback_is_opened_again(url: str) -> None:
    (record,) = records(1)
    with opened(url) as log:
        log.append_sync([record])
        log.record_card_feedback([CardFeedback(record.id, "accepted", None)], "ehr")

    with opened(url) as log:
        assert log.ready() is None
        assert [row["cards"] for row in log.card_feedback()] == [1]
