import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from schema import fingerprint
from serve import champion as module
from serve.champion import WIRE, Champion, Model, Refused, Registry, has_external_data
from stages import registry
from stages.onnx_export import predict
from tests.serve.registry_fixture import NAME, ROOT, TRAINING, Shelf, onnx_model, patients, publish

pytestmark = [
    pytest.mark.xdist_group("champion"),  # one worker makes the registry, once
    pytest.mark.filterwarnings("ignore:::mlflow"),
]

ROWS = registry.fictional_rows(40, seed=1)


@pytest.fixture(scope="session")
def published(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A registry with two versions, the first of them the champion, and a client of a copy of it."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(empty_store, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Set, then removed: MLflow sets it by itself, and only so it is forgotten afterwards.
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        client = registry.connect()
        for strength in (0.1, 1.0):
            publish(client, folder, strength)
        registry.promote(client, NAME, "1")
        # The copy is replaced for each test, under the same client: opening one takes long.
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        uri = f"sqlite:///{shutil.copyfile(folder / 'registry' / 'mlflow.db', folder / 'copy.db')}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models()
    return folder, client


@pytest.fixture
def shelf(published: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    # The champion sets it by itself; only so it is forgotten afterwards.
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "")
    monkeypatch.delenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS")
    folder, client = published
    shutil.copyfile(folder / "registry" / "mlflow.db", folder / "copy.db")
    return Shelf(tmp_path, folder / "copy.db", client)


class Events(list[tuple[str, str]]):
    """What a champion reports."""

    def __call__(self, event: str, detail: str) -> None:
        self.append((event, detail))


@pytest.fixture
def started() -> Iterator[Callable[[Champion], Champion]]:
    """Start champions; they are stopped after the test."""
    running: list[Champion] = []

    def start(champion: Champion) -> Champion:
        running.append(champion)
        champion.start()
        return champion

    yield start
    for champion in running:
        champion.stop()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def serving(champion: Champion) -> Model:
    assert champion.current is not None
    return champion.current


def version_of(champion: Champion) -> str:
    return serving(champion).version


# Loading


def test_the_champion_comes_with_all_that_is_known_of_it(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())

    assert champion.refresh()

    model = serving(champion)
    registered = shelf.client.get_model_version(NAME, "1")
    assert (model.name, model.version, model.run_id) == (NAME, "1", registered.run_id)
    assert model.sha256 == registered.tags["model_sha256"]
    assert model.schema_fingerprint == fingerprint()
    assert model.tags["git_commit"] == "abc"
    assert model.tags["train_md5"] == "123"
    assert "verdict" not in model.tags
    assert model.figures == {"roc_auc": 0.93, "threshold": 0.4}
    assert model.train_figures == {"cv_roc_auc": 0.91, "unknown": None}
    assert model.threshold == 0.4
    assert model.calibration == [
        {"predicted": 0.1, "observed": 0, "patients": 10},
        {"predicted": 0.9, "observed": 1, "patients": 9},
    ]
    assert model.training == TRAINING
    assert datetime.now(UTC) - model.loaded_at < timedelta(minutes=1)
    assert not model.from_cache
    assert champion.state().ready
    assert not champion.state().notes


def test_it_predicts_what_the_pipeline_predicts(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())
    champion.refresh()
    model = serving(champion)
    files = shelf.files_of("1")

    for rows in (ROWS, patients()[0], ROWS[:1]):
        given = model.predict(rows)
        assert given.shape == (len(rows),)
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given, predict((files / "model.onnx").read_bytes(), rows))
        np.testing.assert_array_equal(
            model.standard_error(rows),
            predict((files / "extra_files/standard_error.onnx").read_bytes(), rows),
        )


def test_a_version_without_figures_is_served_too(shelf: Shelf) -> None:
    def bare(folder: Path) -> None:
        (folder / "extra_files" / "standard_error.onnx").unlink()
        (folder / "extra_files" / "training.json").unlink()

    shelf.challenge(bare, standard_error_sha256=None, training_sha256=None)
    champion = Champion(shelf.settings())

    assert champion.refresh()

    model = serving(champion)
    assert (model.figures, model.train_figures, model.calibration, model.training) == (
        {}, {}, [], {},
    )  # fmt: skip
    assert model.threshold == 0.5
    assert model.standard_error(ROWS) is None


def test_a_version_can_be_asked_for_by_its_number(shelf: Shelf) -> None:
    champion = Champion(shelf.settings(model=f"models:/{NAME}/2"))

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
def test_what_the_registry_does_not_hold_is_waited_for(shelf: Shelf, model: str) -> None:
    champion = Champion(shelf.settings(model=model))

    assert not champion.refresh()

    assert champion.current is None
    assert champion.registry_failures == 1
    reason, note = champion.state().reasons
    assert reason == "no model is loaded yet"
    assert note.startswith("the registry has given no model since 20")


# Swapping


def test_a_new_champion_takes_over_and_the_previous_stays(shelf: Shelf) -> None:
    events = Events()
    champion = Champion(shelf.settings(), events)
    champion.refresh()
    old = serving(champion)

    shelf.promote("2")

    assert champion.refresh()
    assert version_of(champion) == "2"
    assert champion.previous is old
    assert not champion.refresh()
    assert champion.reloads == 2
    assert events == [("loaded", "1"), ("loaded", "2")]


def test_going_back_takes_the_model_that_is_still_in_memory(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())
    for version in ("1", "2"):
        shelf.promote(version)
        champion.refresh()
    first, second = champion.previous, champion.current
    assert first is not None
    shutil.rmtree(shelf.folder / "cache" / NAME)
    (shelf.folder / "cache" / NAME).mkdir()

    shelf.promote("1")

    assert champion.refresh()
    assert serving(champion).network is first.network
    assert champion.previous is second


def test_every_answer_is_from_the_version_that_it_names_while_200_swaps_happen(
    shelf: Shelf,
) -> None:
    champion = Champion(shelf.settings())
    expected = {
        version: predict((shelf.files_of(version) / "model.onnx").read_bytes(), ROWS)
        for version in ("1", "2")
    }
    assert np.abs(expected["1"] - expected["2"]).max() > 0.01
    champion.refresh()
    done, wrong, answered = threading.Event(), list[str](), list[set[str]]()

    def ask() -> None:
        seen = set()
        while not done.is_set():
            model = serving(champion)
            seen.add(model.version)
            if not np.array_equal(model.predict(ROWS), expected[model.version]):
                wrong.append(model.version)
            time.sleep(0.001)
        answered.append(seen)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    swaps = 0
    for turn in range(200):
        shelf.client.set_registered_model_alias(NAME, "champion", "21"[turn % 2])
        swaps += champion.refresh()
    done.set()
    for thread in threads:
        thread.join()

    assert swaps == 200
    assert not wrong
    assert answered == [{"1", "2"}] * 4


def test_the_thread_follows_the_alias(
    shelf: Shelf, started: Callable[[Champion], Champion]
) -> None:
    champion = started(Champion(shelf.settings()))
    until(lambda: champion.current)
    assert version_of(champion) == "1"

    shelf.promote("2")

    until(lambda: version_of(champion) == "2")


def test_the_thread_outlives_a_mistake(
    shelf: Shelf, started: Callable[[Champion], Champion], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def mistaken(event: str, _: str) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise RuntimeError("a mistake")

    shelf.database.rename(shelf.away)
    champion = started(Champion(shelf.settings(), mistaken))
    until(lambda: calls)
    shelf.away.rename(shelf.database)

    until(lambda: champion.current)
    assert "looking for the champion failed" in caplog.text


def test_a_stopped_champion_answers_but_follows_no_more(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())
    champion.start()
    until(lambda: champion.current)

    champion.stop()
    shelf.promote("2")
    time.sleep(0.2)

    assert version_of(champion) == "1"
    assert serving(champion).predict(ROWS).shape == (40,)
    assert "champion" not in [thread.name for thread in threading.enumerate()]


# Broken challengers

IN = "(float[n,13] measurements)"
MEAN = "a = Constant <value_ints = [1]> () m = ReduceMean <keepdims = 1> (measurements, a)"
# A missing measurement makes the answer missing.
NAN = onnx_model(f"{IN} => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)")
FILLED = (
    "z = IsNaN (measurements) o = Constant <value_float = 0.0> () f = Where (z, o, measurements)"
)
RISK = "a = Constant <value_ints = [1]> () m = ReduceMean <keepdims = 1> (f, a)"


def other(signature: str, body: str) -> Callable[[Path], None]:
    """Put another model in the place of the right one, self-test and all."""

    def change(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(onnx_model(signature, body))

    return change


def nan(folder: Path) -> None:
    """A model that gives NaN, registered as its pipeline would: the self-test says NaN too."""
    (folder / "model.onnx").write_bytes(NAN)
    test = json.dumps(registry.self_test(NAN))
    assert "NaN" in test
    (folder / "extra_files" / "self_test.json").write_text(test)


def nan_at_the_bounds(folder: Path) -> None:
    """The self-test passes; it happens to hold no row with anything missing."""
    (folder / "model.onnx").write_bytes(NAN)
    test = registry.self_test(NAN)
    for part in ("rows", "probabilities"):
        test[part] = test[part][::2]
    (folder / "extra_files" / "self_test.json").write_text(json.dumps(test))


def truncated(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])


def external(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin")


def self_test(**changes: Any) -> Callable[[Path], None]:
    """Replace parts of the stored predictions."""

    def change(folder: Path) -> None:
        path = folder / "extra_files" / "self_test.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def text_of(file: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_text(text)

    return change


def error_model(body: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        made = onnx_model(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} {body}")
        (folder / "extra_files" / "standard_error.onnx").write_bytes(made)

    return change


BROKEN: dict[str, tuple[str, Callable[[Path], None] | None, dict[str, str | None]]] = {
    "truncated": ("hash", truncated, {"model_sha256": "0" * 64}),
    "truncated, hash right": ("unreadable", truncated, {}),
    "empty": ("unreadable", text_of("model.onnx", ""), {}),
    "text": ("unreadable", text_of("model.onnx", "<html>not found</html>"), {}),
    "wrong hash": ("hash", None, {"model_sha256": "0" * 64}),
    "no hash": ("hash", None, {"model_sha256": None}),
    "hash that leads elsewhere": ("hash", None, {"model_sha256": "../../../etc"}),
    "other schema": ("schema", None, {"schema_fingerprint": "0" * 64}),
    "no schema": ("schema", None, {"schema_fingerprint": None}),
    "external data": ("external_data", external, {}),
    "12 measurements": (
        "shape",
        other("(float[n,12] measurements) => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "fixed number of rows": (
        "shape",
        other("(float[16,13] measurements) => (float[16,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "doubles": (
        "shape",
        other("(double[n,13] measurements) => (double[n,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "two inputs": (
        "shape",
        other("(float[n,13] measurements, float[n,13] w) => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "two outputs": ("shape", other(f"{IN} => (float[n,1] m, float[n,1] y)", f"{MEAN} y = Sigmoid (m)"), {}),
    "two columns": (
        "shape",
        other(f"{IN} => (float[n,2] y)", f"{MEAN} s = Sigmoid (m) y = Concat <axis = 1> (s, s)"),
        {},
    ),
    "one number for all rows": (
        "shape",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} a = Constant <value_ints = [0, 1]> () m = ReduceMean (f, a) y = Sigmoid (m)",
        ),
        {},
    ),
    "fewer answers than rows": (
        "shape",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} {RISK} k = Constant <value_floats = [60.0]> () g = Greater (m, k) "
            "l = Constant <value_ints = [-1]> () c = Reshape (g, l) p = Sigmoid (m) "
            "y = Compress <axis = 0> (p, c)",
        ),
        {},
    ),
    "fails when it is used": (
        "self_test",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} {RISK} i = Cast <to = 7> (m) y = GatherElements <axis = 0> (m, i)",
        ),
        {},
    ),
    "other predictions": (
        "self_test",
        other(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} y = Sigmoid (m)"),
        {},
    ),
    "no probability": ("self_test", other(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} y = Identity (m)"), {}),
    "NaN": ("self_test", nan, {}),
    "NaN at the bounds": ("self_test", nan_at_the_bounds, {}),
    "empty self-test": ("unreadable", self_test(rows=[], probabilities=[]), {}),
    "self-test that allows all": ("self_test", self_test(tolerance=1), {}),
    "self-test without numbers": ("unreadable", self_test(rows="none"), {}),
    "self-test of other shape": ("unreadable", self_test(probabilities=[0.5]), {}),
    "self-test is no JSON": ("unreadable", text_of("extra_files/self_test.json", "{"), {}),
    "self-test is a list": ("unreadable", text_of("extra_files/self_test.json", "[]"), {}),
    "training data with another hash": ("hash", None, {"training_sha256": "0" * 64}),
    "interval with another hash": ("hash", None, {"standard_error_sha256": "0" * 64}),
    "negative interval": ("self_test", error_model("y = Neg (m)"), {}),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "tags"), BROKEN.values(), ids=BROKEN)
def test_a_broken_challenger_is_never_served(
    shelf: Shelf,
    kind: str,
    change: Callable[[Path], None] | None,
    tags: dict[str, str | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Events()
    champion = Champion(shelf.settings(), events)
    champion.refresh()
    good = champion.current

    version = shelf.challenge(change, **tags)

    assert not champion.refresh()
    assert champion.current is good
    assert champion.refusals == {kind: 1}
    assert events[1:] == [("refused", kind)]
    assert champion.state().ready
    assert champion.state().notes == (f"version {version} was refused ({kind})",)
    assert champion.refused is not None
    assert champion.refused.reason in caplog.text
    assert len(list((shelf.folder / "cache" / NAME).iterdir())) == 1


def test_a_version_without_a_hash_is_not_even_downloaded(shelf: Shelf) -> None:
    def remove(folder: Path) -> None:
        (folder / "model.onnx").unlink()

    shelf.challenge(remove, model_sha256=None)
    champion = Champion(shelf.settings())

    assert not champion.refresh()

    assert champion.refusals == {"hash": 1}
    assert champion.registry_failures == 0


@pytest.mark.parametrize(
    "evaluate",
    ["{", "[]", '{"threshold": 2}', '{"threshold": NaN}', '{"threshold": "high"}'],
)
def test_a_challenger_with_figures_that_make_no_sense_is_refused(
    shelf: Shelf, evaluate: str
) -> None:
    shelf.challenge(run_id=shelf.run_with(evaluate=evaluate))
    champion = Champion(shelf.settings())

    assert not champion.refresh()

    assert champion.refusals == {"unreadable": 1}
    assert champion.state().reasons == (
        "no model is loaded yet",
        "version 3 was refused (unreadable)",
    )


@pytest.mark.parametrize("file", ["model.onnx", "extra_files/self_test.json"])
def test_a_file_that_is_too_large_is_not_even_downloaded(
    shelf: Shelf, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(folder: Path) -> None:
        with (folder / file).open("ab") as content:
            content.truncate(10_000_000)

    monkeypatch.setattr(module, "MAX_BYTES", 5_000_000)
    monkeypatch.setattr(module, "read", None)
    shelf.challenge(grow)
    champion = Champion(shelf.settings())

    assert not champion.refresh()

    assert champion.refusals == {"size": 1}


def test_a_refused_version_is_tried_again_only_if_the_alias_moved_or_if_asked(
    shelf: Shelf,
) -> None:
    champion = Champion(shelf.settings())
    champion.refresh()
    broken = shelf.challenge(model_sha256="0" * 64)

    for _ in range(3):
        champion.refresh()
    assert champion.refusals == {"hash": 1}

    champion.refresh(retry_refused=True)
    assert champion.refusals == {"hash": 2}

    shelf.promote("1")
    champion.refresh()
    assert champion.refused is None
    shelf.promote(broken)
    champion.refresh()
    assert champion.refusals == {"hash": 3}

    shelf.promote("2")
    assert champion.refresh()
    assert not champion.state().notes


def test_files_that_are_not_there_yet_are_waited_for(shelf: Shelf) -> None:
    away: list[tuple[Path, bytes]] = []

    def remove(folder: Path) -> None:
        path = folder / "extra_files" / "self_test.json"
        away.append((path, path.read_bytes()))
        path.unlink()

    version = shelf.challenge(remove)
    champion = Champion(shelf.settings())
    assert not champion.refresh()
    assert (champion.registry_failures, champion.refusals) == (1, {})

    away[0][0].write_bytes(away[0][1])

    assert champion.refresh()
    assert version_of(champion) == version


# The registry is down


def test_without_the_registry_the_champion_goes_on(shelf: Shelf) -> None:
    events = Events()
    champion = Champion(shelf.settings(), events)
    champion.refresh()

    shelf.database.rename(shelf.away)

    assert not champion.refresh()
    assert not champion.refresh()
    assert version_of(champion) == "1"
    assert champion.registry_failures == 2
    assert events[1:] == [("registry_failed", "")] * 2
    since = champion.registry_down_since
    assert since is not None
    note = f"the registry has given no model since {since:%Y-%m-%dT%H:%M:%SZ}"
    assert champion.state() == module.State((), (note,))
    assert not shelf.database.exists(), "it is not for the service to make a registry"

    shelf.away.rename(shelf.database)
    shelf.promote("2")

    assert champion.refresh()
    assert champion.state() == module.State((), ())


def test_a_registry_that_was_made_anew_is_noticed(shelf: Shelf) -> None:
    own = shelf.folder / "own.db"
    shutil.copyfile(shelf.database, own)
    champion = Champion(shelf.settings(tracking_uri=f"sqlite:///{own}"))
    champion.refresh()

    shelf.promote("2")
    shutil.copyfile(shelf.database, shelf.away)
    shelf.away.replace(own)

    assert champion.refresh()
    assert version_of(champion) == "2"


def test_an_empty_database_is_left_as_it_is(shelf: Shelf) -> None:
    empty = shelf.folder / "empty.db"
    empty.touch()
    champion = Champion(shelf.settings(tracking_uri=f"sqlite:///{empty}"))

    assert not champion.refresh()

    assert empty.stat().st_size == 0


def test_a_server_that_does_not_answer_is_given_up_within_seconds(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://user:secret-password@127.0.0.1:{port}"
    champion = Champion(shelf.settings(tracking_uri=uri))

    start = time.monotonic()
    assert not champion.refresh()

    assert time.monotonic() - start < 15
    assert champion.registry_failures == 1
    assert "secret-password" not in caplog.text
    assert "127.0.0.1" not in str(champion.state())


# The cache


@pytest.fixture
def cached(shelf: Shelf) -> Shelf:
    """The registry is down, and version 1 was served last."""
    Champion(shelf.settings()).refresh()
    shelf.database.rename(shelf.away)
    return shelf


def test_a_restart_without_the_registry_serves_the_last_good_version(
    cached: Shelf, started: Callable[[Champion], Champion]
) -> None:
    champion = Champion(cached.settings())

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
    assert champion.state().ready
    served, down = champion.state().notes
    assert served == "version 1 is served from the local cache"
    assert down.startswith("the registry has given no model since ")

    cached.away.rename(cached.database)

    until(lambda: not serving(champion).from_cache)
    until(lambda: not champion.state().notes)
    assert champion.reloads == 1


def test_a_restart_serves_the_cache_until_it_hears_of_another_champion(
    cached: Shelf, started: Callable[[Champion], Champion]
) -> None:
    cached.away.rename(cached.database)
    cached.promote("2")

    champion = started(Champion(cached.settings(poll_seconds=0.5)))

    assert version_of(champion) == "1"
    until(lambda: version_of(champion) == "2")
    assert champion.previous is not None
    assert champion.previous.version == "1"


def test_a_known_version_is_not_downloaded_again(shelf: Shelf) -> None:
    Champion(shelf.settings()).refresh()
    shelf.client.get_model_version(NAME, "1")
    files = [path for path in (shelf.folder / "cache").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files if path.name != "current.json"}

    champion = Champion(shelf.settings())
    champion.refresh()

    assert version_of(champion) == "1"
    assert len(before) == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_cache_of_another_model_is_not_served(
    cached: Shelf, started: Callable[[Champion], Champion]
) -> None:
    champion = started(Champion(cached.settings(model=f"models:/{NAME}/2")))

    assert champion.current is None
    assert not champion.state().ready


def cached_file(shelf: Shelf, name: str) -> Path:
    return next((shelf.folder / "cache").rglob(name))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.onnx", "hash"),
        ("standard_error.onnx", "hash"),
        ("self_test.json", "unreadable"),
        ("model.json", "unreadable"),
    ],
)
def test_a_cache_that_was_damaged_is_not_served_but_downloaded_again(
    cached: Shelf, started: Callable[[Champion], Champion], name: str, kind: str
) -> None:
    path = cached_file(cached, name)
    path.write_bytes(path.read_bytes()[:-10])

    champion = started(Champion(cached.settings()))

    assert champion.current is None
    assert champion.refusals == {kind: 1}
    assert f"version in the cache was refused ({kind})" in champion.state().reasons[1:]

    cached.away.rename(cached.database)

    until(lambda: champion.state() == module.State((), ()))
    assert version_of(champion) == "1"
    assert version_of(started(Champion(cached.settings()))) == "1"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 1}'])
def test_a_pointer_that_makes_no_sense_is_as_good_as_none(
    cached: Shelf, started: Callable[[Champion], Champion], text: str
) -> None:
    (cached.folder / "cache" / "current.json").write_text(text)

    champion = started(Champion(cached.settings()))

    assert champion.current is None
    assert not champion.refusals


def test_a_model_of_another_schema_in_the_cache_is_not_served(
    cached: Shelf, started: Callable[[Champion], Champion]
) -> None:
    path = cached_file(cached, "model.json")
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"schema_fingerprint": "0" * 64}))

    champion = started(Champion(cached.settings()))

    assert champion.current is None
    assert champion.refusals == {"schema": 1}


def test_the_cache_forgets_what_is_of_no_further_use(shelf: Shelf) -> None:
    folder = shelf.folder / "cache" / NAME
    for name, hours in (("7-abc", 2), (".part-abc", 2), ("8-abc", 0.5)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (time.time() - hours * 3600,) * 2)
    champion = Champion(shelf.settings())

    for version in ("1", "2"):
        shelf.promote(version)
        champion.refresh()
        for kept in folder.glob("[12]-*"):
            os.utime(kept, (0, 0))

    left = sorted(path.name.partition("-")[0] for path in folder.iterdir())
    assert left == ["1", "2", "8"]


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())
    champion.refresh()
    shutil.rmtree(shelf.folder / "cache")
    (shelf.folder / "cache").touch()

    shelf.promote("2")

    assert not champion.refresh()
    assert version_of(champion) == "1"
    assert champion.registry_failures == 1


def test_replicas_share_a_cache(shelf: Shelf) -> None:
    champions = [Champion(shelf.settings()) for _ in range(6)]
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


# Nothing of a version is executed


SCRIPT = """
import json, sys
unpickled = []
sys.addaudithook(lambda event, _: event == "pickle.find_class" and unpickled.append(event))
import numpy as np
from serve.champion import Champion
from serve.settings import Settings

def modules(*names):
    return sorted(set(names) & sys.modules.keys())

uri, full, empty = sys.argv[1:]
rows = np.zeros((2, 13), dtype=np.float32)
restarted, fresh = (
    Champion(Settings(_env_file=None, tracking_uri=uri, cache_dir=cache, poll_seconds=60))
    for cache in (full, empty)
)
restarted.start()
answers = [restarted.current.predict(rows).tolist()]
heavy = modules("mlflow", "pandas", "sqlalchemy")
fresh.refresh()
answers.append(fresh.current.predict(rows).tolist())
restarted.stop()
print(json.dumps({
    "answers": answers, "heavy": heavy, "unpickled": unpickled,
    "modules": modules("sklearn", "torch", "stages", "onnx", "skl2onnx", "joblib", "mlflow"),
}))
"""


def test_no_pickle_is_read_and_no_training_library_imported(shelf: Shelf) -> None:
    champion = Champion(shelf.settings())
    champion.refresh()
    expected = serving(champion).predict(np.zeros((2, 13), dtype=np.float32)).tolist()
    uri, folder = shelf.settings().tracking_uri, shelf.folder

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, uri, folder / "cache", folder / "other"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "answers": [expected, expected],
        "heavy": [],
        "unpickled": [],
        "modules": ["mlflow"],
    }


# Tensors outside of the model


def test_the_wire_table_has_every_way_to_a_tensor() -> None:
    def leads(message: Any, seen: frozenset[str] = frozenset()) -> bool:
        return message.name == "TensorProto" or any(
            leads(field.message_type, seen | {message.name})
            for field in message.fields
            if field.message_type is not None and field.message_type.name not in seen
        )

    table: dict[str, dict[int, str]] = {}
    todo = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.name not in table:
            inner = [f for f in message.fields if f.message_type and leads(f.message_type)]
            table[message.name] = {field.number: field.message_type.name for field in inner}
            todo += [field.message_type for field in inner]

    assert table == WIRE
    tensor = {field.name: field.number for field in onnx.TensorProto.DESCRIPTOR.fields}
    assert (tensor["external_data"], tensor["data_location"]) == (
        module.EXTERNAL_DATA,
        module.DATA_LOCATION,
    )


def tensor(external: str) -> TensorProto:
    made = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "t")
    if external == "location":
        made.data_location = TensorProto.EXTERNAL
    if external == "data":
        made.external_data.add(key="location", value="/etc/passwd")
    return made


def models_with(inside: TensorProto) -> dict[str, onnx.ModelProto]:
    """Models with a tensor in every place that can hold one."""
    constant = helper.make_node("Constant", [], ["c"], value=inside)
    sparse = helper.make_sparse_tensor(inside, inside, [3])
    deep = helper.make_graph([constant], "deep", [], [])
    attributes = [
        helper.make_attribute("a", value)
        for value in ([inside], deep, [deep], sparse, [sparse])
    ]  # fmt: skip
    function = helper.make_function("d", "f", [], [], [constant], [])
    named = helper.make_function(
        "d", "f", [], [], [], [], attribute_protos=[helper.make_attribute("a", inside)]
    )
    made = {
        "initializer": helper.make_model(helper.make_graph([], "g", [], [], [inside])),
        "sparse": helper.make_model(
            helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
        ),
        "constant": helper.make_model(deep),
        "function": helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
        "default": helper.make_model(helper.make_graph([], "g", [], []), functions=[named]),
        "training": helper.make_model(helper.make_graph([], "g", [], [])),
    }
    made["training"].training_info.add().algorithm.CopyFrom(deep)
    for attribute in attributes:
        node = onnx.NodeProto(op_type="If", attribute=[attribute])
        made[f"attribute {attribute.type}"] = helper.make_model(
            helper.make_graph([node], "g", [], [])
        )
    return made


def test_external_data_is_found_wherever_it_is_named() -> None:
    for external, expected in (("", False), ("location", True), ("data", True)):
        found = {
            place: has_external_data(model.SerializeToString())
            for place, model in models_with(tensor(external)).items()
        }
        assert len(found) == 11
        assert set(found.values()) == {expected}, found


def test_whatever_the_bytes_are_looking_through_them_ends() -> None:
    random = np.random.default_rng(0)
    whole = bytearray(models_with(tensor(""))["constant"].SerializeToString())
    cases = [bytes(whole[:end]) for end in range(len(whole))]
    cases += [random.bytes(200) for _ in range(500)]
    for _ in range(2000):
        changed = whole.copy()
        changed[random.integers(len(changed))] = random.integers(256)
        cases.append(bytes(changed))
    cases.append(b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")

    def refusal(case: bytes) -> str:
        try:
            has_external_data(case)
        except Refused as refused:
            return refused.kind
        return ""

    refusals = [refusal(case) for case in cases]

    assert set(refusals) == {"", "unreadable"}
    assert refusals.count("unreadable") > 500


def test_a_model_that_nests_without_end_is_refused() -> None:
    data = b""
    for turn in range(3000):
        # From the inside: a graph in an attribute in a node in a graph.
        key = b"\x0a\x2a\x32"[2 - turn % 3 : 3 - turn % 3]
        size = bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14])
        data = key + size + data
    length = bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14])

    with pytest.raises(Refused, match="recursion"):
        has_external_data(b"\x3a" + length + data)


def test_a_number_without_end_is_refused_at_once() -> None:
    with pytest.raises(Refused, match="more than 10 bytes"):
        has_external_data(b"\x80" * 1_000_000 + b"\x01")
