"""Requests with an idempotency key: answered once, whatever repeats them, and never after an erasure."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heart.predictions import answers
from heart.predictions.answers import KEPT, Answer, OnceKey
from heart.predictions.log import LogQueueFull, LogUnavailable, UnknownPrediction
from heart.predictions.tables import AnswerErased, KeyReused
from tests.heart.predictions.logs import execute, held, opened, records, until

KEY = OnceKey("k" * 64, "r" * 64)
BODY = b'{"probability": 0.25}' * 100


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 27, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_the_same_request_has_the_first_answer_and_is_logged_once(url: str) -> None:
    with opened(url) as log:
        assert log.answer(KEY) is None
        first, second = (log.append_once(records(3), KEY, body) for body in (BODY, b"other"))

        assert (first, second) == (Answer(BODY, is_new=True), Answer(BODY, is_new=False))
        assert log.answer(KEY) == BODY
        assert log.count() == log.stats.rows == 3
    with opened(url) as log:  # after a restart
        assert log.answer(KEY) == BODY
        assert log.append_once(records(1), KEY, b"") == Answer(BODY, is_new=False)


def test_a_keyed_prediction_is_logged_like_any_other(url: str) -> None:
    (keyed,), (plain,) = records(1), records(1)
    with opened(url) as log:
        log.append_once([keyed], KEY, BODY)
        log.append_sync([plain])
        rows = [log.get(record.id) or {} for record in (keyed, plain)]

    for row in rows:
        del row["id"], row["created_at"]
    assert rows[0] == rows[1]


def test_another_request_with_the_key_is_rejected(url: str) -> None:
    other = KEY._replace(request="x" * 64)
    with opened(url) as log:
        log.append_once(records(1), KEY, BODY)

        with pytest.raises(KeyReused):
            log.answer(other)
        with pytest.raises(KeyReused):
            log.append_once(records(1), other, BODY)
        assert log.count() == 1
        assert log.stats.failures == 0
        assert log.ready() is None


def test_an_erased_prediction_is_not_answered_again(url: str) -> None:
    alike = records(3)  # of the same millisecond
    others = [KEY._replace(key=name * 64) for name in "ab"]
    with opened(url) as log:
        log.append_once(alike[:2], KEY, BODY)
        log.append_once(alike[2:], others[0], BODY)
        log.append_once(records(1), others[1], BODY)
        log.erase(alike[1].id)

        with pytest.raises(AnswerErased):
            log.answer(KEY)
        with pytest.raises(AnswerErased):
            log.append_once(records(2), KEY, BODY)
        assert [log.answer(key) for key in others] == [BODY, BODY]
        assert log.count() == 3
        with pytest.raises(UnknownPrediction):
            log.erase(alike[1].id)
    assert execute(url, "SELECT ids, body FROM answers WHERE key LIKE 'k%'") == [(None, None)]


def test_nothing_of_an_erased_answer_is_in_the_file(tmp_path: Path) -> None:
    (record,) = records(1)
    canary = bytes(range(256)) * 8  # deflated, a part of it stays as it is
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        log.append_once([record], KEY, canary)
        log.erase(record.id)

        files = b"".join(path.read_bytes() for path in tmp_path.glob("log.db*"))
    assert canary[32:96] not in files
    assert bytes.fromhex(record.id) not in files


def test_an_answer_is_kept_for_a_day(url: str) -> None:
    clock = Clock()
    with opened(url, clock=clock) as log:
        log.append_once(records(1), KEY, BODY)
        clock.now += KEPT
        assert log.answer(KEY) == BODY
        clock.now += timedelta(seconds=1)
        assert log.answer(KEY) is None
        assert log.append_once(records(1), KEY, b"new") == Answer(b"new", is_new=True)
        assert log.count() == 2

        clock.now += KEPT + timedelta(seconds=1)
        log.purge()
    assert execute(url, "SELECT count(*) FROM answers") == [(0,)]


def test_an_answer_is_kept_no_longer_than_its_predictions(url: str) -> None:
    with opened(url, retention_days=0.1) as log:
        log.append_once(records(1), KEY, BODY)
        log.purge(datetime.now(UTC) + timedelta(days=0.2))

        assert log.count() == 0
        assert log.answer(KEY) is None


@pytest.mark.parametrize("logs", [1, 2])
def test_of_requests_at_the_same_time_one_is_logged(url: str, logs: int) -> None:
    if logs > 1 and url.startswith("sqlite"):
        pytest.skip("one process")
    with opened(url) as one, opened(url) if logs > 1 else nullcontext(one) as two:
        start = threading.Barrier(8)

        def send(number: int) -> Answer:
            start.wait()
            log = (one, two)[number % 2]
            return log.append_once(records(2), KEY, b"%d" % number)

        with ThreadPoolExecutor(8) as pool:
            sent = list(pool.map(send, range(8)))

        assert len({answer.body for answer in sent}) == 1
        assert sum(answer.is_new for answer in sent) == 1
        assert one.count() == 2


def test_a_batch_of_the_largest_size_is_answered_once(url: str) -> None:
    batch = records(10_000)
    body = b"".join(record.id.encode() for record in batch)
    with opened(url) as log:
        assert log.append_once(batch, KEY, body).is_new
        assert log.answer(KEY) == body
        log.erase(batch[7777].id)
        with pytest.raises(AnswerErased):
            log.answer(KEY)


def test_a_closed_log_is_unavailable(url: str) -> None:
    with opened(url) as log:
        log.append_sync(records(1))
    with pytest.raises(LogUnavailable):
        log.append_once(records(1), KEY, BODY)


def test_a_log_of_the_version_before_is_upgraded(url: str) -> None:
    with opened(url) as log:
        log.append_sync(records(1))
    execute(
        url,
        "DROP TABLE answers",
        "UPDATE log_state SET value = 3 WHERE name = 'schema_version'",
    )

    with opened(url) as log:
        assert log.append_once(records(1), KEY, BODY).is_new
        assert log.count() == 2


def test_waiting_answers_are_limited_like_waiting_predictions(tmp_path: Path) -> None:
    other = KEY._replace(key="n" * 64)
    with opened(f"sqlite:///{tmp_path}/log.db", queue_limit=10) as log:
        with ThreadPoolExecutor(1) as thread, held(log):
            waiting = thread.submit(log.append_once, records(6), KEY, BODY)
            until(lambda: log.writer._waiting == 6)
            with pytest.raises(LogQueueFull):
                log.append_once(records(5), other, BODY)
            with pytest.raises(LogQueueFull):
                log.append_sync(records(5))

        assert waiting.result().is_new
        assert log.append_once(records(10), other, BODY).is_new
        assert log.count() == 16


def test_answers_that_wait_too_long_are_still_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "COMMIT_SECONDS", 0)
    with opened(f"sqlite:///{tmp_path}/log.db", queue_limit=10) as log:
        with held(log):
            for _ in range(2):
                with pytest.raises(LogUnavailable) as error:
                    log.append_once(records(6), KEY, BODY)
        monkeypatch.undo()
        until(lambda: log.writer._waiting == 0)

        assert isinstance(error.value, LogQueueFull)
        assert not log.append_once(records(6), KEY, BODY).is_new
        assert log.count() == 6
