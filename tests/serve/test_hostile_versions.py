"""A hostile version is rejected, counted and reported, while the service answers as before."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from heart.predictions.log import PredictionLog
from heart.registry import verdicts
from heart.registry.aliases import CHALLENGER, PREVIOUS
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.trial import run
from serve.app import create_app
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from tests.fixtures.security import SecurityFigure
from tests.heart.registry import hostile
from tests.heart.registry.registry_fixture import (
    NAME,
    ROWS,
    Shelf,
    serving,
    until,
    version_of,
)

pytestmark = [pytest.mark.security, pytest.mark.filterwarnings("ignore:::mlflow")]

KINDS = {
    "operators": hostile.endless_loop,
    "self_test": hostile.nan_for_one_age,
}


def unchecked(files: Mapping[str, bytes]) -> None:
    """A trial that does not check the graph first."""
    run(files, program="tests.heart.registry.trials.unchecked")


def replace_with(model: bytes, test: bytes = b"") -> Callable[[Path], None]:
    """Replace the model of a version, and its self-test by one that the model passes."""

    def change(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(model)
        (folder / "extra_files" / "self_test.json").write_bytes(test or hostile.self_test())

    return change


def polled(champion: ModelManager) -> bool:
    return champion.polled


class CountedTrial:
    """Trials that end with an error as long as one is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self.error = error

    def __call__(self, _: Mapping[str, bytes]) -> None:
        self.count += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def client(shelf: Shelf) -> Iterator[TestClient]:
    """A service that polls the registry continuously."""
    url = f"sqlite:///{shelf.folder}/log.db"
    settings = shelf.settings(log_url=url)
    champion = ModelManager(settings)
    champion.refresh()
    app = create_app(settings, champion, PredictionLog(url), Metrics(), with_page=False)
    with TestClient(app) as client:
        yield client


def counted(client: TestClient, kind: str) -> float:
    line = f'heart_champion_rejections_total{{kind="{kind}"}} '
    (value,) = (
        text.removeprefix(line)
        for text in client.get("/metrics").text.splitlines()
        if text.startswith(line)
    )
    return float(value)


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_the_old_version_answers_while_a_hostile_one_is_rejected(
    client: TestClient, shelf: Shelf, kind: str, security_figure: SecurityFigure
) -> None:
    model = KINDS[kind]()
    hostile_version = shelf.set_challenger(replace_with(model))
    slowest, versions = 0.0, set()
    end = time.monotonic() + 60
    while not counted(client, kind) and time.monotonic() < end:
        start = time.perf_counter()
        answer = client.post("/predict", json={"age": 57, "sex": "male"})
        slowest = max(slowest, time.perf_counter() - start)
        versions.add((answer.status_code, answer.json().get("model_version")))

    assert counted(client, kind) == 1
    assert versions == {(200, "1")}
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert f"version {hostile_version} was rejected ({kind})" in ready.text
    shelf.promote("2")  # the poll goes on
    until(lambda: client.get("/model").json()["version"] == "2")
    security_figure(
        f"a champion of {len(model)} bytes, rejected as {kind}",
        "the old version answers",
        "every answer is of the old version",
    )


@pytest.mark.parametrize("alias", [CHALLENGER, PREVIOUS])
def test_a_hostile_version_beside_the_champion_is_rejected_counted_and_reported(
    shelf: Shelf, alias: str
) -> None:
    version = shelf.set_challenger(replace_with(hostile.endless_loop()))
    shelf.client.set_registered_model_alias(NAME, alias, version)
    shelf.promote("1")
    champion = ModelManager(shelf.settings())

    for _ in range(2):
        champion.refresh()

    assert version_of(champion) == "1"
    assert champion.challenger.current is champion.fallback.current is None
    assert champion.rejections == {"operators": 1}
    assert champion.state().notes == (f"{alias} version {version} was rejected (operators)",)


@pytest.mark.integration
def test_a_restart_with_a_hostile_champion_serves_the_cached_version_and_tries_it_once(
    shelf: Shelf,
    started: Callable[[ModelManager], ModelManager],
    security_figure: SecurityFigure,
) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    version = shelf.set_challenger(replace_with(hostile.large_batches()))
    for _ in range(3):
        champion = started(ModelManager(shelf.settings(), trial=unchecked))
        assert version_of(champion) == "1"
        until(partial(polled, champion), 60)
        assert champion.rejections == {"memory": 1}
        assert champion.state().reasons == ()
        assert f"version {version} was rejected (memory)" in champion.state().notes
        champion.stop()

    (verdict,) = json.loads((shelf.folder / "cache" / "verdicts.json").read_text()).values()
    assert verdict["trials"] == 1
    security_figure("three restarts with a hostile champion", "1 trial", "1 trial")


def test_without_a_cached_version_the_reason_is_reported_and_the_poll_goes_on(
    shelf: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    version = shelf.set_challenger(replace_with(hostile.endless_loop()))
    champion = started(ModelManager(shelf.settings()))
    until(lambda: champion.rejection)

    assert champion.state().reasons == (
        "no model is loaded yet",
        f"version {version} was rejected (operators)",
    )
    shelf.promote("2")
    until(lambda: champion.current)
    assert champion.rejections == {"operators": 1}


def test_a_good_version_that_was_rejected_on_an_overloaded_machine_is_served_later(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "FIRST_SECONDS", 0.0)
    trial = CountedTrial(VersionRejected("timeout", "overloaded"))
    champion = ModelManager(shelf.settings(), trial=trial)
    for number in (1, 2):
        assert not champion.refresh()
        assert (champion.rejections, trial.count) == ({"timeout": number}, number)

    trial.error = None

    assert champion.refresh()
    assert version_of(champion) == "1"


def test_a_reload_tries_a_rejected_version_at_once(shelf: Shelf) -> None:
    trial = CountedTrial(VersionRejected("crash", "a reason"))
    champion = ModelManager(shelf.settings(), trial=trial)
    champion.refresh()
    trial.error = None

    assert champion.refresh(retry_rejected=True)


def test_a_cached_version_is_tried_too_and_kept_if_the_trial_fails(
    shelf: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    ModelManager(shelf.settings()).refresh()
    shelf.database.rename(shelf.away)
    trial = CountedTrial(VersionRejected("crash", "a reason"))

    champion = started(ModelManager(shelf.settings(), trial=trial))

    assert (champion.current, champion.rejections, trial.count) == (None, {"crash": 1}, 1)
    shelf.away.rename(shelf.database)
    until(lambda: champion.polled)
    assert trial.count == 1
    assert len(list((shelf.folder / "cache" / NAME).iterdir())) == 1


def test_a_start_without_free_processes_serves_the_cached_version_later(
    shelf: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    ModelManager(shelf.settings()).refresh()
    shelf.database.rename(shelf.away)
    trial = CountedTrial(RegistryUnavailable("no process"))
    champion = started(ModelManager(shelf.settings(), trial=trial))
    assert champion.current is None

    trial.error = None

    until(lambda: champion.current)
    assert not champion.rejections
    assert serving(champion).predict(ROWS).shape == (40,)


@pytest.mark.parametrize(
    "training",
    [
        {"numbers": {"age": {"low": 29.0}}},
        {"numbers": {"age": {"low": "29", "high": 77.0}}},
        {"numbers": {"age": {"low": 29.0, "high": float("nan")}}},
        {"numbers": {"sex": {"low": 0.0, "high": 1.0}}},
        {"numbers": {"age": {"low": 29.0, "quantiles": [50.0] * 1000, "high": 77.0}}},
        {"numbers": [1]},
    ],
)
def test_training_ranges_that_no_patient_can_be_compared_with_are_rejected(
    shelf: Shelf, training: object
) -> None:
    """Each prediction would end with an internal error."""

    def change(folder: Path) -> None:
        (folder / "extra_files" / "training.json").write_text(json.dumps(training))

    shelf.set_challenger(change)
    champion = ModelManager(shelf.settings())

    champion.refresh()

    assert (champion.current, champion.rejections) == (None, {"unreadable": 1})


def test_a_damaged_cache_is_reported_in_one_line(
    shelf: Shelf,
    started: Callable[[ModelManager], ModelManager],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ModelManager(shelf.settings()).refresh()
    (path,) = (shelf.folder / "cache").rglob("training.json")
    path.write_bytes(path.read_bytes() + b" ")
    caplog.clear()

    champion = started(ModelManager(shelf.settings()))
    until(lambda: champion.polled)

    assert version_of(champion) == "1"
    problems = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert len(problems) == 1
    assert "training.json" in problems[0]
