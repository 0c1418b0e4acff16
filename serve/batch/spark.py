"""Many machines: Spark's workers score the parts, each from where the table lies to where it goes.

Spark hands out the numbers of parts and counts what is done; rows never pass through it. The model
goes out to every worker once, by broadcast, and is compared with its hash where it arrives.
"""

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from heart.errors import first_line
from heart.registry.errors import VersionRejected
from serve.batch.errors import ScoreError
from serve.batch.tables import Part
from serve.batch.work import Job, score

ROOT = Path(__file__).resolve().parents[2]
CODE = ("*.py", "monitoring/**/*.py", "serve/**/*.py")  # what a worker needs of the project
SECONDS = 0.2  # between two looks at how much is done
LOOPBACK = "127.0.0.1"


def run(job: Job, parts: Sequence[Part], master: str, sha256: str) -> Iterator[int]:
    """Score parts in a Spark application of its own. Raises ScoreError."""
    session = start_session(master)
    try:
        with TemporaryDirectory() as folder:
            session.sparkContext.addPyFile(str(_code(Path(folder))))
            sent = session.sparkContext.broadcast((job, tuple(parts)))
            numbers = session.range(0, len(parts), 1, len(parts))
            results = numbers.mapInArrow(lambda ids: _score(ids, sent, sha256), "problem string")
            yield from _counted(session.sparkContext.statusTracker(), results.collect, len(parts))
    finally:
        session.stop()


def start_session(master: str) -> Any:
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise ScoreError("Spark is not installed: run `make .venv/spark`") from None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = (
        SparkSession.builder.master(master)
        .appName("heart-disease scores")
        .config("spark.log.level", "ERROR")
        .config("spark.ui.showConsoleProgress", "false")
    )
    if master.startswith("local"):
        for name in ("spark.driver.host", "spark.driver.bindAddress"):
            builder = builder.config(name, LOOPBACK)
        builder = builder.config("spark.ui.enabled", "false")
    try:
        return builder.getOrCreate()
    except Exception as error:
        # Without Java, or without the cluster, pyspark raises whatever it comes upon.
        raise ScoreError(f"Spark does not start at {master}: {first_line(error)}") from error


def _code(folder: Path) -> Path:
    """The project's code as a file that workers can import from."""
    path = folder / "heart_disease.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for pattern in CODE:
            for file in sorted(ROOT.glob(pattern)):
                archive.write(file, file.relative_to(ROOT))
    return path


def _score(numbers: Iterator[pa.RecordBatch], sent: Any, sha256: str) -> Iterator[pa.RecordBatch]:
    """On a worker: score the parts of these numbers; what was wrong, a row for each that failed."""
    job, parts = sent.value
    for batch in numbers:
        problems = []
        for number in batch["id"].to_pylist():
            try:
                check_model(job.model, sha256)
                score(job, parts[number])
            except (ScoreError, VersionRejected) as error:
                problems.append(str(error))
        yield pa.record_batch({"problem": pa.array(problems, pa.string())})


@lru_cache(maxsize=1)
def check_model(model: bytes, sha256: str) -> None:
    """Raises VersionRejected for a model that is not the one that was sent."""
    digest = hashlib.sha256(model).hexdigest()
    if digest != sha256:
        raise VersionRejected(
            "hash", f"the model has the hash {digest} on a worker, its tag says {sha256}"
        )


def _counted(tracker: Any, collect: Callable[[], list[Any]], parts: int) -> Iterator[int]:
    """How many more parts are done, until all are. Raises ScoreError."""
    pool = ThreadPoolExecutor(1)
    future, before = pool.submit(collect), 0
    pool.shutdown(wait=False)
    while not wait([future], SECONDS).done:
        stages = map(tracker.getStageInfo, tracker.getActiveStageIds())
        done = sum(stage.numCompletedTasks for stage in stages if stage)
        if done > before:
            yield done - before
            before = done
    try:
        problems = [row.problem for row in future.result()]
    except Exception as error:
        # What kills a worker comes through Java, as what Java makes of it.
        raise ScoreError(f"Spark: {first_line(error)}") from error
    if problems:
        raise ScoreError(min(problems))
    yield parts - before
