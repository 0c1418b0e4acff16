"""One measurement, in a process of its own: `python -m benchmarks.scale_run WHAT SOURCE ARGUMENT...`.

Prints seconds, seconds of all processors, and the most memory that the process ever had, as JSON;
the start and the loading of the model do not count.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from pyarrow import csv

from schema import Floats
from serve.score import count, local, spark
from serve.score.model import load
from serve.score.run import Engine, Options, run
from serve.score.storage import Place
from serve.score.work import predict
from serve.settings import Settings
from serve.versions import Model
from stages.registry import fictional_rows

BATCH = 1 << 16


def call(model: Model, onnx: bytes, what: str, source: str, *others: str) -> Callable[[], object]:
    """What is to be measured."""
    if what == "count":
        return partial(count.run, Place.of(source), "auto", model, local.cores())
    if what == "read":
        encoded = np.ascontiguousarray(fictional_rows(BATCH).T)
        return lambda: _read_and_score(model, source, encoded, int(others[0]))
    target, option = others
    engine: Engine = (
        partial(local.run, threads=int(option))
        if what == "local"
        else partial(spark.run, master=option, sha256=model.sha256)
    )
    options = Options(Place.of(source), Place.of(target), (), "auto", drift=False)
    return partial(run, options, model, onnx, engine)


def _read_and_score(model: Model, source: str, encoded: Floats, batches: int) -> None:
    """What scoring a CSV file is made of, and no more: pyarrow reads it, and as many rows are scored."""
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
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "mebibytes": peak}))


if __name__ == "__main__":
    main()
