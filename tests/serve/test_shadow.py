"""The challenger scores what the champion scores, unseen, and never holds up an answer."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart.predictions.log import LogUnavailable, PredictionLog, new_ids
from heart.registry.model_version import Model
from serve import shadow as shadow_module
from serve.aliased_model import AliasedModel
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.encoding import rows_of
from serve.shadow import ShadowScorer
from tests.heart.predictions.logs import held, opened, records, until
from tests.heart.registry.registry_fixture import ROWS
from tests.serve.small_service import model, parts

CHALLENGER = ("2", 1.0)  # version and strength


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    with opened(f"sqlite:///{tmp_path}/log.db") as opened_log:
        yield opened_log


def challenger_alias(current: Model | None) -> AliasedModel:
    made = AliasedModel("challenger", lambda _: model(), lambda _: None)
    made.current = current
    return made


def offered(
    shadow: ShadowScorer, log: PredictionLog, count: int = 40, version: str = "1"
) -> list[str]:
    """Rows that a version has answered, offered; their ids."""
    made = records(count, version)
    log.append_sync(made)
    ids = [record.id for record in made]
    shadow.enqueue(version, ids, np.resize(ROWS, (count, ROWS.shape[1])))
    return ids


def scored(log: PredictionLog) -> set[str]:
    """The ids of the predictions that the challenger has scored."""
    with log.store.reading() as connection:
        query = "SELECT prediction_id FROM shadow_predictions"
        return set(connection.exec_driver_sql(query).scalars())


def test_every_row_is_scored_by_the_challenger_and_logged(log: PredictionLog) -> None:
    shadow = ShadowScorer(challenger_alias(model(*CHALLENGER)), log)
    offered(shadow, log)

    shadow.process_batch()

    result = shadow.compare(model())
    assert result is not None
    assert (result["version"], result["rows"]) == ("2", 40)
    # All of the champion's risks are 0.25 here.
    expected = model(*CHALLENGER).predict(ROWS).mean() - 0.25
    assert result["difference_mean"] == pytest.approx(expected, abs=1e-6)
    assert (shadow.rows, shadow.dropped) == ({"2": 40}, 0)


def test_without_a_challenger_nothing_is_logged(log: PredictionLog) -> None:
    for challenger in (None, model()):  # the second is the version that answered
        shadow = ShadowScorer(challenger_alias(challenger), log)
        offered(shadow, log)
        shadow.process_batch()
        assert (shadow.rows, shadow.dropped, shadow.waiting) == ({}, 0, 0)
    assert ShadowScorer(challenger_alias(None), log).compare(model()) is None


def test_cleared_challenger_scores_no_more(log: PredictionLog) -> None:
    challenger = challenger_alias(model(*CHALLENGER))
    shadow = ShadowScorer(challenger, log)
    offered(shadow, log)
    challenger.current = None

    shadow.process_batch()

    assert (shadow.rows, shadow.waiting) == ({}, 0)
    assert shadow.dropped == 40


def test_step_and_queue_are_limited(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "QUEUE_ROWS", 60)
    monkeypatch.setattr(shadow_module, "STEP_ROWS", 25)
    shadow = ShadowScorer(challenger_alias(model(*CHALLENGER)), log)

    first, second = offered(shadow, log), offered(shadow, log)
    offered(shadow, log)

    assert (shadow.waiting, shadow.dropped) == (60, 60)
    shadow.process_batch()
    assert shadow.rows == {"2": 25}
    assert scored(log) == set(first[:25])
    shadow.process_batch()
    shadow.process_batch()
    shadow.process_batch()
    assert (shadow.rows, shadow.dropped) == ({"2": 60}, 60)
    assert scored(log) == {*first, *second[:20]}


def test_rows_that_cannot_be_logged_are_counted(log: PredictionLog) -> None:
    shadow = ShadowScorer(challenger_alias(model(*CHALLENGER)), log)
    offered(shadow, log)
    log.close()

    shadow.process_batch()

    assert (+shadow.rows, shadow.dropped) == ({}, 40)
    with pytest.raises(LogUnavailable):
        log.append_sync(records(1))


class InvalidNetwork:
    """A network whose results are no probabilities, or that fails."""

    def __init__(self, *risks: float) -> None:
        self._risks = risks

    def __call__(self, rows: Any) -> Any:
        if not self._risks:
            raise RuntimeError("no inference")
        return np.resize(np.array(self._risks, dtype=np.float32), len(rows))


def invalid_model(*risks: float) -> Model:
    network: Any = InvalidNetwork(*risks)
    return replace(model(*CHALLENGER), network=network)


def test_invalid_probability_is_skipped_and_the_rest_logged(log: PredictionLog) -> None:
    shadow = ShadowScorer(challenger_alias(invalid_model(0.5, float("nan"), 1.5, -0.1)), log)
    offered(shadow, log)

    shadow.process_batch()

    assert (shadow.rows, shadow.dropped) == ({"2": 10}, 30)
    assert log.ready() is None
    assert log.stats.failures == 0


def test_thread_continues_after_an_error_of_a_challenger(
    log: PredictionLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "STEP_SECONDS", 0.005)
    challenger = challenger_alias(invalid_model())
    shadow = ShadowScorer(challenger, log)
    shadow.start()
    offered(shadow, log)
    with caplog.at_level(logging.ERROR):
        until(lambda: shadow.dropped == 40)

    challenger.current = model(*CHALLENGER)
    offered(shadow, log)

    until(lambda: shadow.rows["2"] == 40)
    until(lambda: "scoring with the challenger failed" in caplog.text)
    shadow.stop()
    assert "shadow" not in [thread.name for thread in threading.enumerate()]


# In the service


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(shadow_module, "STEP_SECONDS", 0.005)
    settings, champion, log, metrics = parts(tmp_path)
    champion.challenger.current = model(*CHALLENGER)
    app = create_app(settings, champion, log, metrics, with_page=False)
    with TestClient(app) as client:
        yield client


def figures_of(client: TestClient, rows: int) -> Any:
    """What /model says of the challenger, once so many rows are logged."""
    until(lambda: client.get("/model").json()["challenger"]["rows"] == rows)
    return client.get("/model").json()["challenger"]


def patients(count: int) -> list[dict[str, Any]]:
    return [{**EXAMPLE, "age": 30 + number} for number in range(count)]


def test_the_service_compares_from_the_eleventh_patient_on(client: TestClient) -> None:
    for patient in patients(10):
        assert client.post("/predict", json=patient).json()["model_version"] == "1"
    early = figures_of(client, 10)
    assert (early["difference_mean"], early["disagreement_ratio"]) == (None, None)
    assert "heart_shadow_difference_mean" not in client.get("/metrics").text

    client.post("/predict/batch", json={"patients": [{**EXAMPLE, "age": 40}]})

    figures = figures_of(client, 11)
    rows = rows_of([*patients(10), {**EXAMPLE, "age": 40}])
    own, other = model().predict(rows), model(*CHALLENGER).predict(rows)
    assert figures["difference_mean"] == pytest.approx(float((other - own).mean()), abs=1e-6)
    assert figures["disagreement_ratio"] == ((own >= 0.5) != (other >= 0.5)).mean()
    counted = 'heart_shadow_rows_total{model_version="2"} 11.0'
    until(lambda: counted in client.get("/metrics").text)  # just after they are logged
    text = client.get("/metrics").text
    assert "heart_shadow_dropped_total 0.0" in text
    assert f'heart_shadow_difference_mean{{model_version="2"}} {figures["difference_mean"]}' in text
    assert 'heart_shadow_disagreement_ratio{model_version="2"}' in text


def test_labeled_comparison_starts_at_the_eleventh_outcome(client: TestClient) -> None:
    answers = client.post("/predict/batch", json={"patients": patients(12)}).json()["predictions"]
    figures_of(client, 12)
    for number, answer in enumerate(answers[:11]):
        result = client.get("/model").json()["challenger"]
        assert (result["labels"], result["champion_brier"]) == (number, None)
        assert "heart_shadow_labeled" not in client.get("/metrics").text
        outcome = "presence" if number % 3 else "absence"
        given = {"prediction_id": answer["prediction_id"], "outcome": outcome, "source": "registry"}
        client.post("/feedback", json=given)

    result = client.get("/model").json()["challenger"]
    positive = np.arange(11) % 3 > 0
    for role, one in (("champion", model()), ("challenger", model(*CHALLENGER))):
        risks = one.predict(rows_of(patients(11)))
        assert result[f"{role}_brier"] == pytest.approx(((risks - positive) ** 2).mean(), abs=1e-6)
        assert result[f"{role}_accuracy"] == pytest.approx(((risks >= 0.5) == positive).mean())
        version = {"champion": "1", "challenger": "2"}[role]
        line = f'heart_shadow_labeled_brier_ratio{{model_version="{version}"}} '
        assert line in client.get("/metrics").text


def test_series_of_a_challenger_start_at_zero(client: TestClient) -> None:
    assert 'heart_shadow_rows_total{model_version="2"} 0.0' in client.get("/metrics").text


def test_no_response_waits_for_the_challenger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "STEP_SECONDS", 0.005)
    entered, released = threading.Event(), threading.Event()

    class Slow(InvalidNetwork):
        def __call__(self, rows: Any) -> Any:
            entered.set()
            released.wait(20)
            return super().__call__(rows)

    settings, champion, log, metrics = parts(tmp_path)
    slow: Any = Slow(0.5)
    champion.challenger.current = replace(model(*CHALLENGER), network=slow)
    with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
        client.post("/predict", json=EXAMPLE)
        assert entered.wait(20)
        answers = [client.post("/predict", json=EXAMPLE).status_code for _ in range(3)]
        assert not released.is_set()
        released.set()
        assert answers == [200] * 3
        figures_of(client, 4)


def test_a_prediction_that_is_erased_before_it_is_scored_leaves_no_shadow(
    log: PredictionLog,
) -> None:
    shadow = ShadowScorer(challenger_alias(model(*CHALLENGER)), log)
    ids = offered(shadow, log)
    log.erase(ids[0])

    shadow.process_batch()

    result = shadow.compare(model())
    assert result is not None
    assert result["rows"] == 39


def test_enqueue_never_waits(log: PredictionLog) -> None:
    shadow = ShadowScorer(challenger_alias(model(*CHALLENGER)), log)
    with held(log):
        shadow.enqueue("1", new_ids(40), ROWS)
    assert shadow.waiting == 40
