"""A version that cannot score some patients fails their request only, in one line of the log, and is reported."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart.registry.errors import ScoringFailed
from heart.registry.model_version import Model
from heart.schema import Floats
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from serve.service import Service
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import opened
from tests.heart.registry.registry_fixture import Shelf
from tests.serve.small_service import Present, model, parts

pytestmark = pytest.mark.security

BAD_AGE = 63.0
SECRET = "element 63 of the patient"


def broken(*, nan: bool = False) -> Model:
    """A model that fails, or gives NaN, for patients of one age; its error quotes a value."""
    good = model()

    def network(rows: Floats) -> Floats:
        bad = rows[:, 0] == BAD_AGE
        if bad.any() and not nan:
            raise RuntimeError(SECRET)
        return np.where(bad, np.float32(np.nan), good.network(rows))

    return replace(good, network=cast("Any", network))


def aged(*ages: float) -> list[dict[str, Any]]:
    return [{**EXAMPLE, "age": age} for age in ages]


@pytest.mark.parametrize("nan", [False, True])
def test_one_bad_patient_fails_only_its_own_request_of_a_micro_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, nan: bool, security_figure: SecurityFigure
) -> None:
    _, champion, _, _ = parts(tmp_path)
    champion.current = broken(nan=nan)
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        service = Service(champion, log, Metrics())

        async def answers() -> list[Any]:
            batches = (aged(40), aged(50, BAD_AGE), aged(60, 70), aged(BAD_AGE))
            return list(
                await asyncio.gather(*map(service.predict, batches), return_exceptions=True)
            )

        first, second, third, fourth = asyncio.run(answers())

        assert [len(first), len(third)] == [1, 2]
        assert [type(second), type(fourth)] == [ScoringFailed] * 2
        assert log.stats.rows == 3
        for answer, age in zip((*first, *third), (40, 60, 70), strict=True):
            kept = log.get(answer["prediction_id"])
            assert kept is not None
            assert (kept["age"], kept["probability"]) == (age, answer["probability"])
    assert champion.scoring_failures == {"1": 2}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("version 1" in line and "\n" not in line for line in lines)
    assert SECRET not in caplog.text
    security_figure(
        "a patient whom the model cannot score, among others",
        "fails alone, one line of the log, counted",
        "its own request",
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[tuple[TestClient, Present]]:
    settings, champion, log, metrics = parts(tmp_path)
    champion.current = broken()
    app = create_app(settings, champion, log, metrics, with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, champion


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.post("/predict", json=aged(BAD_AGE)[0]),
        lambda client: client.post("/predict?details=true", json=aged(BAD_AGE)[0]),
        lambda client: client.post("/predict/batch", json={"patients": aged(BAD_AGE) * 300}),
        lambda client: client.post(
            "/predict", json=aged(BAD_AGE)[0], headers={"Idempotency-Key": "one"}
        ),
    ],
    ids=["one", "with details", "a large batch", "with a key"],
)
def test_the_api_answers_500_without_a_stack_trace(
    client: tuple[TestClient, Present],
    ask: Callable[[TestClient], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, champion = client
    caplog.clear()

    answer = ask(service)

    assert answer.status_code == 500, answer.text
    assert answer.json()["type"].endswith("#internal-error")
    assert SECRET not in answer.text
    (line,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert line.exc_info is None
    assert "\n" not in line.getMessage()
    assert SECRET not in caplog.text
    assert champion.scoring_failures == {"1": 1}
    assert "heart_scoring_failures_total 1.0" in service.get("/metrics").text
    assert service.post("/predict", json=aged(40)[0]).status_code == 200


def test_readiness_shows_it_until_another_version_is_served(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings(), trial=lambda _: None)
    champion.refresh()
    assert champion.state().notes == ()

    champion.count_scoring_failure(ScoringFailed("1", "a reason"))

    (note,) = champion.state().notes
    assert "version 1 could not score" in note
    assert champion.state().reasons == ()
    shelf.promote("2")
    champion.refresh()
    assert champion.state().notes == ()


def test_a_challenger_that_fails_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, champion, _, _ = parts(tmp_path)
    champion.challenger.current = replace(broken(), version="2")
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        service = Service(champion, log, Metrics())

        asyncio.run(service.predict(aged(BAD_AGE)))
        service.shadow.process_batch()

    assert service.shadow.dropped == 1
    assert SECRET not in caplog.text
    assert [record.exc_info for record in caplog.records] == [None]
