"""The cost of a scrape does not grow with the log, and many scrapers cost no more than a few."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient

from heart.ml.scores import roc_auc
from heart.predictions.log import LogUnavailable, Record, Side, new_ids
from serve import loop_lag
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.metrics import Metrics
from serve.refreshed import MAX_AGE_SECONDS, REST, Refreshed
from serve.scrapes import SharedScrape
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import VALUES, opened, until
from tests.serve.small_service import parts

LABELS = 40


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(*parts(tmp_path), with_page=False)


@pytest.fixture
def queries(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which the log was queried."""
    times: list[float] = []
    store = app.state.service.log.store
    reading = store.reading

    def counted() -> Any:
        times.append(time.monotonic())
        return reading()

    monkeypatch.setattr(store, "reading", counted)
    return times


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def label(client: TestClient, count: int = LABELS) -> None:
    """Predictions with outcomes."""
    patients = [{**EXAMPLE, "age": 30 + number % 40} for number in range(count)]
    answers = client.post("/predict/batch", json={"patients": patients}).json()["predictions"]
    for number, answer in enumerate(answers):
        outcome = ("presence", "absence")[number % 3 == 0]
        given = {"prediction_id": answer["prediction_id"], "outcome": outcome, "source": "registry"}
        assert client.post("/feedback", json=given).status_code == 200


@pytest.mark.security
def test_scrapes_read_the_log_only_after_a_change(
    client: TestClient, queries: list[float], security_figure: SecurityFigure
) -> None:
    label(client)
    first = client.get("/metrics").text
    once, texts = len(queries), [client.get("/metrics").text for _ in range(40)]
    same = len(queries)
    label(client, 12)
    client.get("/metrics")

    assert once <= 2
    assert same == once
    assert same < len(queries) <= 2 * once
    lines = [line for line in first.splitlines() if line.startswith("heart_labeled")]
    assert len(lines) == 3
    assert all(line in text for line in lines for text in texts)
    security_figure("40 scrapes in a row", f"{same - once} queries of the log", "0 queries")


@pytest.mark.security
def test_readiness_is_checked_while_scrapes_wait(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, security_figure: SecurityFigure
) -> None:
    released, computed = threading.Event(), list[int]()

    def generate(_: Any) -> bytes:
        computed.append(1)
        released.wait(20)
        return b"text"

    monkeypatch.setattr("serve.api.report_routes.generate_latest", generate)

    async def story() -> tuple[int, list[str]]:
        transport = ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            AsyncClient(transport=transport, base_url="http://testserver") as client,
        ):
            scrapes = [asyncio.create_task(client.get("/metrics")) for _ in range(60)]
            ready = await client.get("/health/ready")
            released.set()
            return ready.status_code, [(await scrape).text for scrape in scrapes]

    status, texts = asyncio.run(story())

    assert (status, set(texts)) == (200, {"text"})
    assert len(computed) <= 2
    security_figure(
        "60 scrapers at a time, each text blocked",
        f"readiness answers; {len(computed)} texts computed",
        "2 texts, ready",
    )


def test_a_scrape_that_arrives_during_another_gets_a_later_text() -> None:
    numbers = iter(range(10))
    started, released = threading.Event(), threading.Event()

    def generate() -> bytes:
        started.set()
        released.wait(20)
        return str(next(numbers)).encode()

    async def story() -> list[bytes]:
        shared = SharedScrape(generate)
        first = asyncio.create_task(shared.text())
        await asyncio.to_thread(started.wait, 20)
        later = [asyncio.create_task(shared.text()) for _ in range(3)]
        await asyncio.sleep(0)
        released.set()
        return [await first, *(await asyncio.gather(*later))]

    assert asyncio.run(story()) == [b"0", b"1", b"1", b"1"]


def test_a_scrape_that_is_cancelled_does_not_end_the_one_of_others() -> None:
    async def story() -> bytes:
        shared = SharedScrape(lambda: b"text")
        one, other = asyncio.create_task(shared.text()), asyncio.create_task(shared.text())
        await asyncio.sleep(0)
        one.cancel()
        return await other

    assert asyncio.run(story()) == b"text"


# Figures over the outcomes


def test_the_database_counts_as_the_scores_are_defined(url: str) -> None:
    random = np.random.default_rng(0)
    risks = random.integers(0, 20, 200) / 20  # many ties
    positive = random.random(200) < risks
    side = Side("7", 0.5)
    with opened(url) as log:
        assert log.labeled_scores(side) is None
        keys = new_ids(200)
        rows = zip(keys, risks.tolist(), strict=True)
        log.append_sync([Record(key, "7", risk, VALUES) for key, risk in rows])
        other = Record(new_ids(1)[0], "8", 0.5, VALUES)
        log.append_sync([other])
        log.record_outcome(other.id, "presence", "registry")
        for key, presence in zip(keys, positive.tolist(), strict=True):
            log.record_outcome(key, "presence" if presence else "absence", "registry")

        scores = log.labeled_scores(side)

    assert scores == pytest.approx(
        {
            "labels": 200,
            "accuracy": ((risks >= 0.5) == positive).mean(),
            "roc_auc": roc_auc(positive, risks),
        }
    )


def test_figures_are_the_same_after_a_restart(tmp_path: Path) -> None:
    texts = []
    for labels in (LABELS, 0):
        with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
            label(client, labels) if labels else None
            lines = client.get("/metrics").text.splitlines()
            texts.append([line for line in lines if line.startswith("heart_labeled")])

    assert len(texts[0]) == 3
    assert texts[0] == texts[1]


# The shared value


class Computation:
    """A computation that takes as long as the test says, on a clock of the test."""

    def __init__(self) -> None:
        self.now, self.state, self.count, self.seconds = 100.0, 0, 0, 0.0
        self.error: Exception | None = None
        self.shared = Refreshed(self.compute, lambda: self.state, lambda: self.now)

    def compute(self) -> int:
        self.count += 1
        self.now += self.seconds
        if self.error:
            raise self.error
        return self.state

    def idle(self) -> None:
        """Wait for the thread that computes."""
        until(lambda: not self.shared.running)


def test_a_value_is_computed_again_only_after_a_change_or_a_while() -> None:
    computation = Computation()

    assert [computation.shared.get() for _ in range(5)] == [0] * 5
    assert computation.count == 1
    computation.state = 1
    assert [computation.shared.get() for _ in range(5)] == [1] * 5
    assert computation.count == 2
    computation.now += MAX_AGE_SECONDS
    computation.shared.get()
    assert computation.count == 3


def test_a_slow_value_is_not_waited_for_and_computed_rarely() -> None:
    computation = Computation()
    computation.seconds = 2.0
    assert computation.shared.get() == 0
    computation.state = 1

    assert [computation.shared.get() for _ in range(5)] == [0] * 5
    computation.idle()
    assert computation.count == 1
    computation.now += 2 * REST
    computation.shared.get()
    computation.idle()

    assert computation.count == 2
    assert computation.shared.get() == 1


def test_an_error_of_the_computation_is_raised_for_each_and_not_kept() -> None:
    computation = Computation()
    computation.error = LogUnavailable("no disk", 1.0)
    errors = []
    for _ in range(2):
        with pytest.raises(LogUnavailable) as error:
            computation.shared.get()
        errors.append(error.value)
    assert errors[0] is not errors[1]

    assert computation.count == 2
    computation.error = None
    assert computation.shared.get() == 0


def test_lag_of_the_event_loop_is_what_a_task_waits_too_long() -> None:
    now, metrics = [10.0], Metrics()
    wakes = iter((0.0, 0.3))

    async def sleep(seconds: float) -> None:
        try:
            now[0] += seconds + next(wakes)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(loop_lag.measure(metrics.loop_lag.observe, lambda: now[0], sleep))

    values = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in next(iter(metrics.loop_lag.collect())).samples
    }
    assert values["heart_event_loop_lag_seconds_count", None] == 2
    assert values["heart_event_loop_lag_seconds_bucket", "0.2"] == 1
    assert values["heart_event_loop_lag_seconds_bucket", "0.5"] == 2
