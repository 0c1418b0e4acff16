"""The champion is what the registry names, and is swapped as a whole."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from heart.ml.onnx_export import predict
from heart.schema import fingerprint
from serve.model_manager import ModelManager
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import (
    NAME,
    ROOT,
    ROWS,
    TRAINING,
    Events,
    Shelf,
    patients,
    serving,
    until,
    version_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


def test_champion_has_all_its_metadata(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())

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
    assert model.roc == [
        {"false_positive_rate": 0, "true_positive_rate": 0.5},
        {"false_positive_rate": 1, "true_positive_rate": 1},
    ]
    assert model.decision == [{"threshold": 0.05, "model": 0.4, "treat_all": 0.3, "treat_none": 0}]
    assert model.training == TRAINING
    assert datetime.now(UTC) - model.loaded_at < timedelta(minutes=1)
    assert not model.from_cache
    assert not champion.state().reasons
    assert not champion.state().notes


def test_predictions_equal_the_pipelines(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
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


def test_a_version_without_figures_is_served_too_with_its_own_threshold(shelf: Shelf) -> None:
    def bare(folder: Path) -> None:
        (folder / "extra_files" / "standard_error.onnx").unlink()
        (folder / "extra_files" / "training.json").unlink()

    shelf.set_challenger(bare, standard_error_sha256=None, training_sha256=None)
    champion = ModelManager(shelf.settings())

    assert champion.refresh()

    model = serving(champion)
    assert (model.figures, model.train_figures, model.calibration, model.training) == (
        {}, {}, [], {},
    )  # fmt: skip
    assert (model.roc, model.decision) == ([], [])
    assert model.threshold == 0.4
    assert model.standard_error(ROWS) is None


@pytest.mark.security
def test_a_run_that_was_purged_keeps_no_replica_down(
    shelf: Shelf, security_figure: SecurityFigure
) -> None:
    run_id = shelf.run_with(evaluate="{}")
    version = shelf.set_challenger(run_id=run_id)
    shelf.client.delete_run(run_id)
    with contextlib.closing(sqlite3.connect(shelf.database)) as database, database:
        # As `mlflow gc` does.
        for table in ("tags", "metrics", "latest_metrics", "params", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))  # noqa: S608
    champion = ModelManager(shelf.settings())

    assert champion.refresh()

    assert version_of(champion) == version
    assert champion.state().reasons == ()
    assert [version in note for note in champion.state().notes] == [True]
    security_figure("run of the champion purged by mlflow gc", "serves, with a note", "serves")


def test_new_champion_is_served_and_the_previous_kept(shelf: Shelf) -> None:
    events = Events()
    champion = ModelManager(shelf.settings(), events)
    champion.refresh()
    old = serving(champion)

    shelf.promote("2")

    assert champion.refresh()
    assert version_of(champion) == "2"
    assert champion.previous is old
    assert not champion.refresh()
    assert champion.reloads == 2
    assert events == [("loaded", "1"), ("loaded", "2")]


def test_rollback_uses_the_model_in_memory(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
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


@pytest.mark.integration
def test_predictions_are_consistent_during_200_swaps(
    shelf: Shelf,
) -> None:
    champion = ModelManager(shelf.settings())
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
    shelf: Shelf, started: Callable[[ModelManager], ModelManager]
) -> None:
    champion = started(ModelManager(shelf.settings()))
    until(lambda: champion.current)
    assert version_of(champion) == "1"

    shelf.promote("2")

    until(lambda: version_of(champion) == "2")


def test_polling_continues_after_an_error(
    shelf: Shelf, started: Callable[[ModelManager], ModelManager], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def mistaken(event: str, _: str) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise RuntimeError("a mistake")

    shelf.database.rename(shelf.away)
    champion = started(ModelManager(shelf.settings(), mistaken))
    until(lambda: calls)
    shelf.away.rename(shelf.database)

    until(lambda: champion.current)
    assert "polling the registry failed" in caplog.text


def test_stopped_manager_serves_but_polls_no_more(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
    champion.start()
    until(lambda: champion.current)

    champion.stop()
    assert "champion" not in [thread.name for thread in threading.enumerate()]
    shelf.promote("2")

    assert version_of(champion) == "1"
    assert serving(champion).predict(ROWS).shape == (40,)


SCRIPT = """
import json, sys
unpickled = []
sys.addaudithook(lambda event, _: event == "pickle.find_class" and unpickled.append(event))
import numpy as np
from serve.model_manager import ModelManager
from serve.settings import Settings

def modules(*names):
    return sorted(set(names) & sys.modules.keys())

uri, full, empty = sys.argv[1:]
rows = np.zeros((2, 13), dtype=np.float32)
restarted, fresh = (
    ModelManager(Settings(_env_file=None, tracking_uri=uri, cache_dir=cache, poll_seconds=60))
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
    champion = ModelManager(shelf.settings())
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
