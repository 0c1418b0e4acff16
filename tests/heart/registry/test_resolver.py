"""The version that a model URI names, and the behavior while the registry is down."""

import shutil
import socket
import time
from pathlib import Path

import pytest

from heart.registry.resolver import Registry
from serve.model_manager import ModelManager, State
from tests.heart.registry.registry_fixture import NAME, Events, Shelf, version_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


def test_a_version_can_be_named_by_its_number(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings(model=f"models:/{NAME}/2"))

    assert champion.refresh()

    assert version_of(champion) == "2"


def test_the_newest_is_the_one_with_the_highest_number(shelf: Shelf) -> None:
    for _ in range(8):
        shelf.client.create_model_version(NAME, "file:///nowhere")

    newest = Registry(shelf.settings().tracking_uri, f"models:/{NAME}/newest").resolve()

    assert newest.number == "10"


@pytest.mark.parametrize(
    "model",
    [f"models:/{NAME}@nobody", f"models:/{NAME}/99", "models:/other@champion", "models:/other/newest"],
)  # fmt: skip
def test_the_service_waits_for_a_version_that_the_registry_lacks(shelf: Shelf, model: str) -> None:
    champion = ModelManager(shelf.settings(model=model))

    assert not champion.refresh()

    assert champion.current is None
    assert champion.registry_failures == 1
    reason, note = champion.state().reasons
    assert reason == "no model is loaded yet"
    assert note.startswith("the registry has had no version that HEART_MODEL names since 20")


def test_the_service_waits_for_missing_files(shelf: Shelf) -> None:
    away: list[tuple[Path, bytes]] = []

    def remove(folder: Path) -> None:
        path = folder / "extra_files" / "self_test.json"
        away.append((path, path.read_bytes()))
        path.unlink()

    version = shelf.set_challenger(remove)
    champion = ModelManager(shelf.settings())
    assert not champion.refresh()
    assert (champion.registry_failures, champion.rejections) == (1, {})

    away[0][0].write_bytes(away[0][1])

    assert champion.refresh()
    assert version_of(champion) == version


def test_without_the_registry_the_champion_is_served(shelf: Shelf) -> None:
    events = Events()
    champion = ModelManager(shelf.settings(), events)
    champion.refresh()

    shelf.database.rename(shelf.away)

    assert not champion.refresh()
    assert not champion.refresh()
    assert version_of(champion) == "1"
    assert champion.registry_failures == 2
    assert events[1:] == [("registry_failed", "")] * 2
    since = champion.registry_down_since
    assert since is not None
    (note,) = champion.state().notes
    assert note.startswith(f"the registry has been unavailable since {since:%Y-%m-%dT%H:%M:%SZ}")
    assert not shelf.database.exists(), "the service must not create a registry"

    shelf.away.rename(shelf.database)
    shelf.promote("2")

    assert champion.refresh()
    assert champion.state() == State((), ())


def test_a_replaced_registry_is_read(shelf: Shelf) -> None:
    own = shelf.folder / "own.db"
    shutil.copyfile(shelf.database, own)
    champion = ModelManager(shelf.settings(tracking_uri=f"sqlite:///{own}"))
    champion.refresh()

    shelf.promote("2")
    shutil.copyfile(shelf.database, shelf.away)
    shelf.away.replace(own)

    assert champion.refresh()
    assert version_of(champion) == "2"


def test_an_empty_database_is_left_as_it_is(shelf: Shelf) -> None:
    empty = shelf.folder / "empty.db"
    empty.touch()
    champion = ModelManager(shelf.settings(tracking_uri=f"sqlite:///{empty}"))

    assert not champion.refresh()

    assert empty.stat().st_size == 0


def test_a_server_that_does_not_answer_is_an_error_within_seconds(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://user:secret-password@127.0.0.1:{port}"
    champion = ModelManager(shelf.settings(tracking_uri=uri))

    start = time.monotonic()
    assert not champion.refresh()

    assert time.monotonic() - start < 15
    assert champion.registry_failures == 1
    assert "secret-password" not in caplog.text
    assert "127.0.0.1" not in str(champion.state())
