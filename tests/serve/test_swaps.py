"""The champion moves while the service answers: no request fails, each answer is its version's."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heart.ml.onnx_export import predict
from heart.registry.publishing import fictional_rows
from heart.schema import decode
from serve.encoding import rows_of
from tests.heart.predictions.logs import until
from tests.heart.registry.registry_fixture import NAME, Shelf
from tests.serve.http import answer, request
from tests.serve.server_process import served

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:::mlflow")]

CLIENTS, PER_SECOND = 16, 500
NUMBERS = ("age", "resting_bp", "cholesterol", "max_heart_rate", "st_depression", "major_vessels")


def patients(count: int) -> list[dict[str, Any]]:
    """Patients of nobody, as JSON."""
    table = decode(fictional_rows(count, seed=4))
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    return [
        {name: float(text) if name in NUMBERS else text for name, text in row.items() if text}
        for row in rows
    ]


class Load:
    """Clients that ask for ever, so many times a second together, and remember every answer."""

    def __init__(self, port: int, patients: list[dict[str, Any]]) -> None:
        self.answers: list[tuple[int, int, dict[str, Any]]] = []  # patient, status, body
        self.seen = ""  # the version of the latest answer
        self._port, self._requests = port, [request("/predict", patient) for patient in patients]
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        loop, step = asyncio.get_running_loop(), CLIENTS / PER_SECOND
        due = loop.time() + step * number / CLIENTS
        turn = number
        while not self._done.is_set():
            await asyncio.sleep(due - loop.time())
            due = max(due + step, loop.time())
            turn = (turn + CLIENTS) % len(self._requests)
            writer.write(self._requests[turn])
            result = await answer(reader)
            body = result.json()
            self.answers.append((turn, result.status, body))
            self.seen = body.get("model_version", self.seen)
        writer.close()


@pytest.mark.parametrize("moves", [50, pytest.param(1000, marks=pytest.mark.heavy)])
def test_responses_match_the_version_they_name_during_alias_moves(
    shelf: Shelf, tmp_path: Path, moves: int
) -> None:
    query = patients(400)
    expected = {
        version: predict((shelf.files_of(version) / "model.onnx").read_bytes(), rows_of(query))
        for version in "12"
    }
    assert (np.abs(expected["1"] - expected["2"]) > 1e-4).mean() > 0.9

    with served(
        tmp_path, shelf.database, cache_dir=tmp_path / "cache", poll_seconds=0.002
    ) as server:
        load = Load(server.port, query)
        with load.running():
            for set_champion in range(moves):
                version = "21"[set_champion % 2]
                shelf.client.set_registered_model_alias(NAME, "champion", version)
                until(lambda version=version: load.seen == version)  # type: ignore[misc]
        reloads = server.metric("heart_champion_reloads_total")

    assert {status for _, status, _ in load.answers} == {200}
    assert reloads == moves + 1
    for patient, _, body in load.answers:
        given, version = body["probability"], body["model_version"]
        assert given == pytest.approx(expected[version][patient], abs=1e-6), body
