"""`POST /admin/reload`, and the versions beside the champion."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heart.predictions.log import PredictionLog
from heart.registry.aliases import AliasError, aliases
from serve.app import create_app
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import NAME, ROWS, Shelf, serving, version_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

TOKEN = "a-token-of-some-length"


@pytest.fixture
def client(shelf: Shelf) -> Iterator[TestClient]:
    """A service that has looked into the registry, and will not do so again for an hour."""
    url = f"sqlite:///{shelf.folder}/log.db"
    settings = shelf.settings(poll_seconds=3600, log_url=url)
    champion = ModelManager(settings)
    champion.refresh()
    app = create_app(settings, champion, PredictionLog(url), Metrics(), with_page=False)
    with TestClient(app) as client:
        yield client
    champion.stop()


def reload(client: TestClient) -> Any:
    answer = client.post("/admin/reload")
    assert answer.status_code == 200, answer.text
    return answer.json()


def damage(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")


# The route


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.security
def test_a_silent_registry_delays_neither_reload_nor_readiness(
    shelf: Shelf, security_figure: SecurityFigure
) -> None:
    url = f"sqlite:///{shelf.folder}/log.db"
    ModelManager(shelf.settings()).refresh()  # fills the cache, and imports MLflow
    with silent_server() as address:
        settings = shelf.settings(tracking_uri=address, log_url=url)
        champion = ModelManager(settings)
        app = create_app(settings, champion, PredictionLog(url), Metrics(), with_page=False)
        with TestClient(app) as client:
            durations, codes = [], []
            for method, path in (("POST", "/admin/reload"), ("GET", "/health/ready")) * 3:
                start = time.monotonic()
                codes.append(client.request(method, path).status_code)
                durations.append(time.monotonic() - start)

    assert codes == [503, 200] * 3
    assert max(durations) < 2
    security_figure("registry that never answers: reload, readiness", "below 2 s", "2 s")


def test_reload_serves_the_new_champion_at_once(client: TestClient, shelf: Shelf) -> None:
    shelf.promote("2")

    assert reload(client) == {"before": "1", "after": "2", "rejected": None, "challenger": None}
    assert client.get("/model").json()["version"] == "2"
    assert reload(client) == {"before": "2", "after": "2", "rejected": None, "challenger": None}


def test_reload_reports_a_rejected_version_and_retries_it(client: TestClient, shelf: Shelf) -> None:
    broken = shelf.set_challenger(damage)

    message = reload(client)

    assert (message["before"], message["after"]) == ("1", "1")
    assert message["rejected"]["version"] == broken
    assert message["rejected"]["kind"] == "unreadable"
    good = shelf.files_of("1") / "model.onnx"
    shelf.files_of(broken).joinpath("model.onnx").write_bytes(good.read_bytes())
    tag = shelf.client.get_model_version(NAME, "1").tags["model_sha256"]
    shelf.client.set_model_version_tag(NAME, broken, "model_sha256", tag)
    assert reload(client) == {"before": "1", "after": broken, "rejected": None, "challenger": None}


def test_reload_without_a_registry_is_unavailable(client: TestClient, shelf: Shelf) -> None:
    shelf.database.rename(shelf.away)

    answer = client.post("/admin/reload")

    shelf.away.rename(shelf.database)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems#registry-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/model").json()["version"] == "1"


def test_reload_requires_the_token(shelf: Shelf) -> None:
    url = f"sqlite:///{shelf.folder}/log.db"
    settings = shelf.settings(poll_seconds=3600, log_url=url, api_token=TOKEN)
    champion = ModelManager(settings)
    app = create_app(settings, champion, PredictionLog(url), Metrics(), with_page=False)
    client = TestClient(app)  # not started: nothing but the request looks into the registry

    refused = client.post("/admin/reload")
    looked = champion.current
    allowed = client.post("/admin/reload", headers={"Authorization": f"Bearer {TOKEN}"})

    assert (refused.status_code, looked) == (401, None)
    assert (allowed.status_code, allowed.json()["after"]) == (200, "1")


def test_a_reload_is_documented(client: TestClient) -> None:
    described = client.get("/openapi.json").json()

    route = described["paths"]["/v1/admin/reload"]["post"]
    assert {"200", "401", "503"} <= set(route["responses"])
    fields = described["components"]["schemas"]["ReloadResult"]["properties"]
    assert all("description" in field for field in fields.values())


# Versions beside the champion


def test_challenger_and_fallback_follow_their_aliases(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    assert champion.challenger.current is champion.fallback.current is None

    for alias in ("challenger", "previous"):
        shelf.client.set_registered_model_alias(NAME, alias, "2")
    champion.refresh()

    for other in (champion.challenger, champion.fallback):
        assert other.current is not None
        assert other.current.version == "2"
        assert other.current.predict(ROWS).shape == (40,)
    same = champion.challenger.current
    champion.refresh()
    assert champion.challenger.current is same

    shelf.client.delete_registered_model_alias(NAME, "challenger")
    champion.refresh()
    assert champion.challenger.current is None


def test_champion_is_not_its_own_challenger(shelf: Shelf) -> None:
    shelf.client.set_registered_model_alias(NAME, "challenger", "2")
    champion = ModelManager(shelf.settings())
    champion.refresh()
    assert champion.challenger.current is not None

    shelf.promote("2")
    champion.refresh()

    assert version_of(champion) == "2"
    assert champion.challenger.current is None


def test_broken_challenger_is_rejected_and_the_champion_serves(shelf: Shelf) -> None:
    broken = shelf.set_challenger(damage)
    shelf.client.set_registered_model_alias(NAME, "challenger", broken)
    shelf.promote("1")
    champion = ModelManager(shelf.settings())

    assert champion.refresh()

    assert version_of(champion) == "1"
    assert champion.challenger.current is None
    assert champion.rejection is None
    assert champion.state().notes == (f"challenger version {broken} was rejected (unreadable)",)


def test_challenger_with_missing_files_is_retried(shelf: Shelf) -> None:
    away: list[tuple[Path, bytes]] = []

    def remove(folder: Path) -> None:
        path = folder / "model.onnx"
        away.append((path, path.read_bytes()))

    version = shelf.set_challenger(remove)
    away[0][0].unlink()
    shelf.client.set_registered_model_alias(NAME, "challenger", version)
    shelf.promote("1")
    champion = ModelManager(shelf.settings())
    champion.refresh()
    assert (champion.challenger.current, champion.registry_failures) == (None, 0)

    away[0][0].write_bytes(away[0][1])
    champion.refresh()

    assert champion.challenger.current is not None
    assert champion.challenger.current.version == version


def test_rollback_moves_the_alias_in_the_registry(shelf: Shelf) -> None:
    shelf.client.set_registered_model_alias(NAME, "previous", "1")
    shelf.promote("2")
    replicas = [ModelManager(shelf.settings()) for _ in range(2)]
    for replica in replicas:
        replica.refresh()

    done = [replica.roll_back(serving(replica)) for replica in replicas]

    assert done == [True, True]
    assert aliases(shelf.client, NAME) == {"champion": "1", "previous": "1"}
    assert [version_of(replica) for replica in replicas] == ["1", "1"]
    assert replicas[0].fallback.current is None


def test_rollback_applies_to_the_evaluated_champion_only(shelf: Shelf) -> None:
    shelf.client.set_registered_model_alias(NAME, "previous", "1")
    shelf.promote("2")
    champion = ModelManager(shelf.settings())
    champion.refresh()
    judged = serving(champion)
    third = shelf.set_challenger()

    with pytest.raises(AliasError, match="version 2 is no longer the champion"):
        champion.roll_back(judged)
    champion.refresh()
    assert not champion.roll_back(judged)

    assert aliases(shelf.client, NAME) == {"champion": third, "previous": "1"}


def test_version_served_by_number_is_not_rolled_back(shelf: Shelf) -> None:
    shelf.client.set_registered_model_alias(NAME, "previous", "1")
    champion = ModelManager(shelf.settings(model=f"models:/{NAME}/2"))
    champion.refresh()

    assert not champion.roll_back(serving(champion))
    assert aliases(shelf.client, NAME) == {"champion": "1", "previous": "1"}
