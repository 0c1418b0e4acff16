"""What is asked in one turn of the event loop is scored and logged together; each gets its own."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heart.predictions.log import LogQueueFull, LogUnavailable, PredictionLog
from serve.api.models import EXAMPLE
from serve.metrics import Metrics
from serve.service import NoModel, Service
from serve.settings import MAX_BATCH
from tests.heart.predictions.logs import held, opened
from tests.serve.small_service import Present, model, parts


def a_service(folder: Path, log: PredictionLog) -> Service:
    _, champion, _, _ = parts(folder)
    return Service(champion, log, Metrics())


async def answers_to(service: Service, *batches: list[dict[str, Any]]) -> list[Any]:
    return list(await asyncio.gather(*map(service.predict, batches), return_exceptions=True))


def aged(*ages: float) -> list[dict[str, Any]]:
    return [{**EXAMPLE, "age": age} for age in ages]


def test_requests_of_one_turn_share_a_commit_and_get_their_own_predictions(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        service = a_service(tmp_path, log)

        alone = asyncio.run(service.predict(aged(40, 60)))
        first, second, third = asyncio.run(answers_to(service, aged(40), aged(50, 60), aged(70)))

        assert log.stats.commits == 2
        assert [len(result) for result in (first, second, third)] == [1, 2, 1]
        assert first[0]["probability"] == pytest.approx(alone[0]["probability"], abs=1e-6)
        assert second[1]["probability"] == pytest.approx(alone[1]["probability"], abs=1e-6)
        for answer, age in zip((*first, *second, *third), (40, 50, 60, 70), strict=True):
            kept = log.get(answer["prediction_id"])
            assert kept is not None
            assert (kept["age"], kept["probability"]) == (age, answer["probability"])


def test_failed_micro_batch_fails_for_each_request(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        service = a_service(tmp_path, log)
        assert isinstance(service.champion, Present)
        service.champion.current = None

        failures = asyncio.run(answers_to(service, aged(40), aged(50)))
        service.champion.current = model()
        log.close()
        refusals = asyncio.run(answers_to(service, aged(40), aged(50)))

    assert [type(failure) for failure in failures] == [NoModel] * 2
    assert [type(refusal) for refusal in refusals] == [LogUnavailable] * 2
    assert refusals[0] is not refusals[1]
    assert refusals[0].retry_after == refusals[1].retry_after


def test_only_batches_beyond_the_queue_limit_are_rejected(
    tmp_path: Path,
) -> None:
    batch = aged(50) * MAX_BATCH

    async def story() -> list[Any]:
        with held(log):
            tasks = [
                asyncio.create_task(service.predict(patients))
                for patients in (batch, batch, aged(40), batch)
            ]
            await asyncio.wait(tasks[-1:])
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    with opened(f"sqlite:///{tmp_path}/log.db", queue_limit=2 * MAX_BATCH + 1) as log:
        service = a_service(tmp_path, log)

        *answers, refused = asyncio.run(story())

        assert isinstance(refused, LogQueueFull)
        assert [len(result) for result in answers] == [MAX_BATCH, MAX_BATCH, 1]
        assert log.count() == 2 * MAX_BATCH + 1


def test_cancelled_request_does_not_shift_predictions(tmp_path: Path) -> None:
    async def impatient() -> Any:
        with held(log):
            gone = asyncio.create_task(service.predict(aged(40)))
            staying = asyncio.create_task(service.predict(aged(50)))
            await asyncio.sleep(0.05)
            gone.cancel()
            await asyncio.sleep(0)
        return await staying

    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        service = a_service(tmp_path, log)
        (answer,) = asyncio.run(impatient())

        kept = log.get(answer["prediction_id"])
        assert kept is not None
        assert kept["age"] == 50
