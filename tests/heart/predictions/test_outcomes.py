"""The history of outcomes: who sent what and when, and what it replaced."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from heart.predictions.log import OutcomeConflict, OutcomeOfAnother, PredictionLog
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import opened, records

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def log(url: str) -> Iterator[PredictionLog]:
    """A log whose clock is a minute later with each outcome."""
    times = iter(START + n * MINUTE for n in range(10_000))
    with opened(url, clock=lambda: next(times)) as opened_log:
        yield opened_log


def test_each_change_of_an_outcome_is_an_entry(log: PredictionLog) -> None:
    (record,) = records(1)
    log.append_sync([record])

    log.record_outcome(record.id, "presence", "clinician", "ward")
    log.record_outcome(record.id, "presence", "clinician", "ward")  # the same: no entry
    log.record_outcome(record.id, "absence", "angiography", "lab", replace=True)
    assert log.withdraw_outcomes("lab", None, None, "head") == 1

    entries = log.history(record.id)
    assert entries["outcome"] == ["presence", "absence", None]
    assert entries["sender"] == ["ward", "lab", "head"]
    assert entries["replaced"] == [None, "presence", "absence"]
    assert entries["recorded_at"] == sorted(entries["recorded_at"])
    assert log.labelled()["outcome"] == []
    assert log.record_outcome(record.id, "presence", "registry", "ward") == "created"


def test_a_sender_replaces_only_its_own_outcome_unless_it_is_allowed(log: PredictionLog) -> None:
    (record,) = records(1)
    log.append_sync([record])
    log.record_outcome(record.id, "presence", "clinician", "ward")

    with pytest.raises(OutcomeOfAnother):
        log.record_outcome(
            record.id, "absence", "clinician", "lab", replace=True, replace_others=False
        )
    assert log.labelled()["outcome"] == ["presence"]
    own = {"replace": True, "replace_others": False}
    assert log.record_outcome(record.id, "absence", "clinician", "ward", **own) == "replaced"
    assert log.record_outcome(record.id, "presence", "clinician", "lab", replace=True) == "replaced"


def test_the_current_outcome_is_the_last_entry(log: PredictionLog) -> None:
    batch = records(8)
    log.append_sync(batch)
    draws = random.Random(0)
    for _ in range(200):
        record, sender = draws.choice(batch), draws.choice(["ward", "lab"])
        if draws.random() < 0.1:
            log.withdraw_outcomes(sender, None, None, "head")
        else:
            outcome = draws.choice(["presence", "absence"])
            log.record_outcome(record.id, outcome, "registry", sender, replace=True)

    entries, last = log.history(), {}
    for key, outcome, sender in zip(
        entries["prediction_id"], entries["outcome"], entries["sender"], strict=True
    ):
        last[key] = (outcome, sender)
    current = log.labelled(names=("id", "outcome", "sender"))
    assert {
        key: (outcome, sender) for key, outcome, sender in zip(*current.values(), strict=True)
    } == {key: entry for key, entry in last.items() if entry[0] is not None}


def test_erasure_deletes_the_history(log: PredictionLog) -> None:
    first, second = records(2)
    log.append_sync([first, second])
    for record in (first, second):
        log.record_outcome(record.id, "presence", "clinician", "ward")

    log.erase(first.id)

    assert log.history()["prediction_id"] == [second.id]


@pytest.mark.security
def test_the_outcomes_of_one_sender_within_a_time_are_withdrawn(
    log: PredictionLog, security_figure: SecurityFigure
) -> None:
    batch = records(300)
    log.append_sync(batch)
    for number, record in enumerate(batch):
        log.record_outcome(record.id, "presence", "registry", "lab" if number % 3 else "ward")
    entries = log.history()
    since, until = entries["recorded_at"][100], entries["recorded_at"][199]

    withdrawn = log.withdraw_outcomes("lab", since, until, "head")

    expected = [n for n in range(100, 200) if n % 3]
    assert withdrawn == len(expected)
    assert log.totals()["withdrawn"] == withdrawn
    remaining = log.labelled(names=("id",))["id"]
    assert remaining == [record.id for n, record in enumerate(batch) if n not in expected]
    assert log.withdraw_outcomes("lab", since, until, "head") == 0
    security_figure(
        "outcomes of one token withdrawn within a time",
        f"{withdrawn} of {len(expected)}, and none of another token",
        "all of them, and no other",
    )


def test_a_repeated_outcome_of_another_sender_changes_nothing(log: PredictionLog) -> None:
    (record,) = records(1)
    log.append_sync([record])
    log.record_outcome(record.id, "presence", "clinician", "ward")

    assert log.record_outcome(record.id, "presence", "registry", "lab") == "same"
    with pytest.raises(OutcomeConflict):
        log.record_outcome(record.id, "absence", "registry", "lab")
    assert log.history()["sender"] == ["ward"]
