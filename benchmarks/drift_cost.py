"""The cost of a drift check, by rows in the window and by rows in the prediction log."""

import sqlite3
import statistics
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from heart.drift.baseline import Policy, Reference
from heart.drift.detector import check, fit
from heart.drift.simulation import Sample
from heart.drift.snapshot import take_snapshot
from heart.predictions.log import PredictionLog, Record, new_ids
from monitoring.monitor import last_patients
from monitoring.simulated_patients import patient

LARGE = 1_000_000
LOGS = (10_000, 10_240_000)


def longer(reference: Reference, window: int) -> Reference:
    """The reference with one more window, whose limits do not matter here, and without earlier patients."""
    windows = reference.policy.windows
    policy = replace(reference.policy, windows=(*windows, window), stream=window, earlier=0)
    columns = []
    for column in reference.columns:
        kinds = {
            kind: (*limits[: len(windows) + 1], limits[len(windows)])
            for kind, limits in vars(column.limits).items()
        }
        columns.append(replace(column, limits=replace(column.limits, **kinds)))
    return Reference(reference.rows, policy, tuple(columns))


def costs(policy: Policy, sample: Sample) -> dict[str, float]:
    """Seconds of checks without and with the log, and MiB of a check of a large window."""
    reference = fit(sample.rows, sample.scores, policy)
    return {**of_windows(reference, sample), **of_logs(reference, sample)}


def of_windows(reference: Reference, sample: Sample) -> dict[str, float]:
    """A check of as many rows as the policy uses, and of a window of a million."""
    indices = np.random.default_rng(0).integers(len(sample.rows), size=LARGE)
    large, scores = sample.rows[indices], sample.scores[indices]
    wide = longer(reference, len(large))
    used = reference.policy.patients
    last = statistics.median(seconds(lambda: check(large[-used:], scores[-used:], reference), 100))
    million = statistics.median(seconds(lambda: check(large, scores, wide), 5))
    tracemalloc.start()
    check(large, scores, wide)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        f"last_{used}_seconds": last,
        f"window_of_{LARGE}_seconds": million,
        f"window_of_{LARGE}_mebibytes": peak / 2**20,
    }


def of_logs(reference: Reference, sample: Sample) -> dict[str, float]:
    """A check of the last patients in a short log, and in the same log after it has grown."""
    timings = {}
    with (
        TemporaryDirectory() as folder,
        closing(PredictionLog(f"sqlite:///{folder}/log.db")) as log,
    ):
        log.start()
        log.append_sync(records(sample, LOGS[0]))

        def snapshot() -> None:
            take_snapshot("1", *last_patients(log, "1", reference.policy), reference)

        for size in LOGS:
            grow(Path(folder) / "log.db", size)
            assert log.count() == size
            timings[f"look_into_log_of_{size}_seconds"] = statistics.median(seconds(snapshot, 20))
    return timings


def records(sample: Sample, count: int) -> list[Record]:
    """Patients of the sample as records of the log."""
    indices = np.random.default_rng(0).integers(len(sample.rows), size=count)
    return [
        Record(key, "1", float(sample.scores[i]), list(patient(sample.rows[i]).values()))
        for key, i in zip(new_ids(count), indices, strict=True)
    ]


def grow(path: Path, size: int) -> None:
    """Double the rows of a log until it has this size; through the API it would take minutes."""
    with closing(sqlite3.connect(path)) as database:
        (rows,) = database.execute("SELECT count(*) FROM predictions").fetchone()
        names = [row[1] for row in database.execute("PRAGMA table_info(predictions)")]
        columns = ", ".join(names[2:])  # all but seq and id
        with tqdm(total=size, initial=rows, unit=" rows", desc="a log") as progress:
            while rows < size:
                with database:
                    database.execute(
                        f"INSERT INTO predictions (id, {columns}) "  # noqa: S608  # the table's own names
                        f"SELECT printf('ff%030x', seq + {rows}), {columns} FROM predictions"
                    )
                progress.update(rows)
                rows *= 2


def seconds(call: Callable[[], object], times: int) -> list[float]:
    """The seconds of each of several calls."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return durations
