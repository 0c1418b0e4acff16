"""The version that is served after a restart, and the files of the cache."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heart.ml.onnx_export import predict
from heart.registry.cache import Cache, seal
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.resolver import Registry
from serve.model_manager import ModelManager, State
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import NAME, ROWS, Shelf, serving, until, version_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture
def cached(shelf: Shelf) -> Shelf:
    """The registry is down, and version 1 was served last."""
    ModelManager(shelf.settings()).refresh()
    shelf.database.rename(shelf.away)
    return shelf


def test_a_restart_without_the_registry_serves_the_last_good_version(
    cached: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    champion = ModelManager(cached.settings())

    start = time.perf_counter()
    started(champion)

    assert time.perf_counter() - start < 1
    model = serving(champion)
    assert model.version == "1"
    assert model.from_cache
    assert model.figures["roc_auc"] == 0.93
    expected = predict(
        (cached.folder / "cache" / NAME).rglob("model.onnx").__next__().read_bytes(), ROWS
    )
    np.testing.assert_array_equal(model.predict(ROWS), expected)
    until(lambda: champion.registry_failures)
    assert not champion.polled
    assert not champion.state().reasons
    served, down = champion.state().notes
    assert served == "version 1 is served from the local cache"
    assert down.startswith("the registry has been unavailable since ")

    cached.away.rename(cached.database)

    until(lambda: not serving(champion).from_cache)
    until(lambda: not champion.state().notes)
    until(lambda: champion.polled)
    assert champion.reloads == 1


def test_a_restart_serves_the_cache_until_the_registry_names_another_champion(
    cached: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    cached.away.rename(cached.database)
    cached.promote("2")

    champion = started(ModelManager(cached.settings(poll_seconds=0.5)))

    assert version_of(champion) == "1"
    until(lambda: version_of(champion) == "2")
    assert champion.previous is not None
    assert champion.previous.version == "1"


def test_a_known_version_is_not_downloaded_again(shelf: Shelf) -> None:
    ModelManager(shelf.settings()).refresh()
    shelf.client.get_model_version(NAME, "1")
    files = [path for path in (shelf.folder / "cache").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files if path.name != "current.json"}

    champion = ModelManager(shelf.settings())
    champion.refresh()

    assert version_of(champion) == "1"
    assert len(before) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_cache_of_another_model_is_not_served(
    cached: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    champion = started(ModelManager(cached.settings(model=f"models:/{NAME}/2")))

    assert champion.current is None
    assert champion.state().reasons


def cached_file(shelf: Shelf, name: str) -> Path:
    return next((shelf.folder / "cache").rglob(name))


FILES = (
    "model.onnx", "model.json", "SHA256SUMS", "extra_files/self_test.json",
    "extra_files/standard_error.onnx", "extra_files/training.json",
)  # fmt: skip


def folder_of(shelf: Shelf) -> Path:
    (folder,) = (shelf.folder / "cache" / NAME).iterdir()
    return folder


def test_cached_version_has_exactly_these_files(cached: Shelf) -> None:
    folder = folder_of(cached)

    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == set(FILES)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_cache_is_not_served_but_downloaded_again(
    cached: Shelf, started: Callable[[ModelManager], ModelManager], name: str
) -> None:
    path = folder_of(cached) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    champion = started(ModelManager(cached.settings()))

    assert champion.current is None
    assert champion.rejections == {"hash": 1}
    assert "version in the cache was rejected (hash)" in champion.state().reasons[1:]

    cached.away.rename(cached.database)

    until(lambda: champion.state() == State((), ()))
    assert version_of(champion) == "1"
    assert champion.rejections == {"hash": 1}
    assert version_of(started(ModelManager(cached.settings()))) == "1"


@pytest.mark.security
@pytest.mark.parametrize("name", [*FILES, "current.json"])
def test_a_change_of_any_byte_is_detected(
    cached: Shelf, name: str, security_figure: SecurityFigure
) -> None:
    cache = cached.folder / "cache"
    path = cache / name if name == "current.json" else folder_of(cached) / name
    content = path.read_bytes()
    step = max(1, len(content) // 50)
    positions = {*range(0, len(content), step), len(content) - 1}
    served = 0
    for position in positions:
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 32]) + content[position + 1 :]
        )
        with contextlib.suppress(VersionRejected):
            served += Cache(cache, cached.settings().model).last() is not None
    # In the pointer, one byte more or less of white space changes nothing.
    assert served <= (name == "current.json") * content.count(b" ")
    path.write_bytes(content)
    assert Cache(cache, cached.settings().model).last()
    if name != "current.json":
        security_figure(
            f"a byte of {name} in the cache changed", f"{served} of {len(positions)} served", "0"
        )


@pytest.mark.parametrize("change", ["removed", "added", "emptied", "cut"])
def test_an_added_removed_or_truncated_file_is_detected(cached: Shelf, change: str) -> None:
    path = folder_of(cached) / "extra_files" / "training.json"
    if change == "removed":
        path.unlink()
    elif change == "added":
        path.with_name("more.json").write_text("{}")
    else:
        path.write_bytes(path.read_bytes()[: 10 if change == "cut" else 0])

    with pytest.raises(VersionRejected):
        Cache(cached.folder / "cache", cached.settings().model).last()


def forge(shelf: Shelf) -> None:
    """Write new hashes into the cache, as who changes it on purpose would."""
    folder = folder_of(shelf)
    seal(folder)
    pointer = shelf.folder / "cache" / "current.json"
    entry = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"entry": entry}))


def change_card(shelf: Shelf, **changes: Any) -> None:
    """Change the card of the version in the cache, but not its hash."""
    path = folder_of(shelf) / "model.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | changes, indent=2, sort_keys=True) + "\n")


def tags_with(shelf: Shelf, **changes: str) -> dict[str, str]:
    tags: dict[str, str] = json.loads((folder_of(shelf) / "model.json").read_text())["tags"]
    return tags | changes


def test_a_changed_threshold_is_not_served(
    cached: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    change_card(cached, tags=tags_with(cached, threshold="0.9"))

    champion = started(ModelManager(cached.settings()))

    assert champion.current is None
    assert champion.rejections == {"hash": 1}
    cached.away.rename(cached.database)
    until(lambda: champion.current is not None)
    assert serving(champion).threshold == 0.4


@pytest.mark.security
def test_new_hashes_of_the_files_do_not_suffice(cached: Shelf) -> None:
    change_card(cached, tags=tags_with(cached, threshold="0.9"))
    seal(folder_of(cached))

    with pytest.raises(VersionRejected) as rejection:
        Cache(cached.folder / "cache", cached.settings().model).last()

    assert rejection.value.kind == "hash"


@pytest.mark.security
def test_changed_training_ranges_are_not_served_even_with_new_hashes(cached: Shelf) -> None:
    change_card(cached, training={"numbers": {"age": {"low": 0.0, "high": 999.0}}})
    forge(cached)

    with pytest.raises(VersionRejected) as rejection:
        Cache(cached.folder / "cache", cached.settings().model).last()

    assert rejection.value.kind == "hash"


def test_a_changed_threshold_with_all_hashes_new_is_served_only_until_the_registry_answers(
    cached: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise RegistryUnavailable("no artifacts")

    change_card(cached, tags=tags_with(cached, threshold="0.9"))
    forge(cached)
    champion = ModelManager(cached.settings())
    champion.start()
    champion.stop()
    assert serving(champion).threshold == 0.9
    cached.away.rename(cached.database)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "download", unavailable)
        champion.refresh()
        assert champion.current is None

    champion.refresh()

    assert serving(champion).threshold == 0.4
    assert champion.rejections == {"hash": 1}


def test_a_version_in_the_folder_of_another_is_not_served(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    shelf.promote("2")
    champion.refresh()
    first, second = sorted((shelf.folder / "cache" / NAME).iterdir())
    shutil.rmtree(second)
    shutil.copytree(first, second)

    with pytest.raises(VersionRejected):
        Cache(shelf.folder / "cache", shelf.settings().model).last()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_an_invalid_pointer_is_rejected(
    cached: Shelf, started: Callable[[ModelManager], ModelManager], text: str
) -> None:
    (cached.folder / "cache" / "current.json").write_text(text)

    champion = started(ModelManager(cached.settings()))

    assert champion.current is None
    assert champion.rejections == {"unreadable": 1}
    cached.away.rename(cached.database)
    until(lambda: champion.state() == State((), ()))


def test_a_model_of_another_schema_in_the_cache_is_not_served(
    cached: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    change_card(cached, schema_fingerprint="0" * 64)
    forge(cached)

    champion = started(ModelManager(cached.settings()))

    assert champion.current is None
    assert champion.rejections == {"schema": 1}


def test_the_cache_deletes_folders_that_are_no_longer_needed(shelf: Shelf) -> None:
    folder = shelf.folder / "cache" / NAME
    for name, hours in (("7-abc", 2), (".part-abc", 2), ("8-abc", 0.5)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (time.time() - hours * 3600,) * 2)
    champion = ModelManager(shelf.settings())

    for version in ("1", "2"):
        shelf.promote(version)
        champion.refresh()
        for path in folder.glob("[12]-*"):
            os.utime(path, (0, 0))

    names = sorted(path.name.partition("-")[0] for path in folder.iterdir())
    assert names == ["1", "2", "8"]


def test_without_a_writable_cache_the_current_version_is_served(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    shutil.rmtree(shelf.folder / "cache")
    (shelf.folder / "cache").touch()

    shelf.promote("2")

    assert not champion.refresh()
    assert version_of(champion) == "1"
    assert champion.registry_failures == 1


def test_replicas_share_a_cache(shelf: Shelf) -> None:
    champions = [ModelManager(shelf.settings()) for _ in range(6)]
    for version in ("1", "2"):
        shelf.promote(version)
        threads = [threading.Thread(target=champion.refresh) for champion in champions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [version_of(champion) for champion in champions] == [version] * 6

    assert sum(champion.registry_failures for champion in champions) == 0
    assert len(list((shelf.folder / "cache" / NAME).iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_not_said_to_be_the_registry(shelf: Shelf) -> None:
    folder = shelf.folder / "a file"
    folder.write_text("no folder")
    champion = ModelManager(shelf.settings(cache_dir=folder))

    assert not champion.refresh()

    notes = " ".join(champion.state().reasons)
    assert "HEART_CACHE_DIR" in notes
    assert "registry" not in notes
