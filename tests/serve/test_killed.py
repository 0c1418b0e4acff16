"""The whole service killed in full work: what it answered is in the log, and it is soon back."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from serve.api.models import EXAMPLE
from tests.heart.predictions.logs import opened, sound, until
from tests.processes import queued_seconds
from tests.serve.http import answer, request
from tests.serve.server_process import Server, served

pytestmark = pytest.mark.integration

CLIENTS = 32
PREDICT = request("/predict", EXAMPLE)
PAIR = request("/predict/batch", {"patients": [EXAMPLE, EXAMPLE]})


async def acknowledged(server: Server, seconds: float) -> list[list[str]]:
    """What was answered, request by request, until the server is killed after some seconds."""
    result: list[list[str]] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while True:
                writer.write(PAIR if number % 8 == 0 else PREDICT)
                body = (await answer(reader)).json()
                result.append([one["prediction_id"] for one in body.get("predictions", [body])])
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    await asyncio.to_thread(until, lambda: len(result) > CLIENTS)
    await asyncio.sleep(seconds)
    server.process.kill()
    await asyncio.gather(*clients)
    return result


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.heavy)])
def test_killed_service_keeps_every_answered_prediction_and_restarts_soon(
    url: str, published: Path, tmp_path: Path, rounds: int
) -> None:
    chance = random.Random(rounds)
    registry = published / "registry" / "mlflow.db"
    known: set[str] = set()
    for turn in range(rounds):
        started = time.monotonic()
        with served(tmp_path, registry, log_url=url) as server:
            if turn:
                # Other processes may keep it from a processor meanwhile: that is not its time.
                assert time.monotonic() - started - queued_seconds(server.process.pid) < 5
            answers = asyncio.run(acknowledged(server, chance.uniform(0, 0.5)))
        with opened(url) as log:
            result = log.last(10**9)["id"]
        assert len(result) == len(set(result))
        known |= {key for keys in answers for key in keys}
        assert known <= set(result)
        sound(url)
    assert len(known) > rounds * CLIENTS
