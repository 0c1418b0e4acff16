"""One measurement, in a process of its own: `python -m benchmarks.scale_run WHAT SOURCE ARGUMENT...`.

It prints seconds, the sum of seconds of all processors, and the peak memory of the process as JSON. The
start and the loading of the model are not measured.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from pyarrow import csv

from heart.registry.loading import load
from heart.registry.model_version import Model
from heart.registry.publishing import fictional_rows
from heart.schema import Floats
from serve.batch import count, local, spark
from serve.batch.layout import Choice
from serve.batch.run import Options, run
from serve.batch.storage import Place
from serve.batch.tables import Part
from serve.batch.work import Job, predict
from serve.settings import Settings

BATCH = 1 << 16
ENGINE_FIGURES: dict[str, float] = {}  # further figures of an engine


def call(model: Model, onnx: bytes, what: str, source: str, *others: str) -> Callable[[], object]:
    """The call to measure."""
    if what == "count":
        return partial(count.run, Place.of(source), Choice(), model, local.cores())
    if what in ("model", "read"):
        encoded = np.ascontiguousarray(fictional_rows(BATCH).T)
        csv_file = source if what == "read" else None
        return partial(_read_and_score, model, csv_file, encoded, int(others[0]))
    target, option = others
    local_engine = partial(local.run, threads=int(option)) if what == "local" else None
    engine = local_engine or partial(_by_spark, master=option, sha256=model.sha256)
    options = Options(Place.of(source), Place.of(target), Choice(), drift=False)
    return partial(run, options, model, onnx, engine)


def _by_spark(job: Job, parts: Sequence[Part], master: str, sha256: str) -> Iterator[int]:
    """The Spark engine; it records the time of a part after the first, when Spark has started."""
    done: list[tuple[float, int]] = []
    for number in spark.run(job, parts, master, sha256):
        done.append((time.perf_counter(), number))
        yield number
    seconds = done[-1][0] - done[0][0]
    ENGINE_FIGURES["seconds_a_part"] = seconds / sum(number for _, number in done[1:])


def _read_and_score(model: Model, source: str | None, encoded: Floats, batches: int) -> None:
    """The steps of scoring alone: pyarrow reads a CSV file, and the same number of rows is scored."""
    if source:
        csv.read_csv(source)
    with ThreadPoolExecutor(local.cores()) as pool:
        list(pool.map(lambda _: predict(model.network, encoded), range(batches)))


def main() -> None:
    model, onnx = load(Settings())
    run_once = call(model, onnx, *sys.argv[1:])
    start, processors = time.perf_counter(), time.process_time()
    run_once()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - processors
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run = {"seconds": seconds, "cpu_seconds": cpu_seconds, "mebibytes": peak}
    print(json.dumps(run | ENGINE_FIGURES))


if __name__ == "__main__":
    main()
