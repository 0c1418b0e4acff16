"""The subprocess of a trial: `python -m heart.registry.trial_process PARENT CPU_SECONDS MEMORY_BYTES`.

See `heart/registry/trial.py`. It writes "ready" once it has given up what a version could use, then its verdict.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from heart.registry.errors import VersionRejected
from heart.registry.model_version import (
    BESIDE,
    ERROR,
    ONNX,
    SELF_TEST,
    Files,
    Model,
    describe,
    extreme_rows,
    load,
    read_json,
)
from heart.registry.onnx_graph import check_graph
from heart.runtime import onnx_runtime
from heart.schema import MEASUREMENTS, Floats

MANY_ROWS = 10_000  # the largest batch of the service
SINGLE_ROWS = 64  # rows that are also predicted one by one
# A row's place in a batch changes the last bits of its prediction.
TOLERANCE = 1e-4
NICE = 10
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, cpu_seconds, memory_bytes = map(int, sys.argv[1:])
    _end_with(parent)
    files = _received(sys.stdin.buffer)
    onnx_runtime()  # after `_restrict` nothing can be imported
    _restrict(cpu_seconds, memory_bytes)
    print("ready", flush=True)
    print(json.dumps(verdict(files)))


def verdict(files: Files) -> dict[str, str]:
    """Why a version is rejected, as `kind` and `reason`; empty if it is not."""
    try:
        try_out(files)
    except VersionRejected as error:
        return {"kind": error.kind, "reason": str(error)}
    except MemoryError:
        return {"kind": "memory", "reason": "it needs more memory than a trial has"}
    return {}


def try_out(files: Files) -> None:
    """Load a version, and predict single rows and a large batch. Raises VersionRejected."""
    tags = describe(files).tags
    for file in (ONNX, *([ERROR] if BESIDE[ERROR] in tags else [])):
        check_graph(files[file])
    model = load(files)
    test = np.array(read_json(files, SELF_TEST)["rows"], dtype=np.float32)
    known = np.concatenate([extreme_rows(), test])[:SINGLE_ROWS]
    # No version can know them before.
    patients = random_patients(MANY_ROWS - len(known), np.random.default_rng())
    predict_batches(model, np.concatenate([known, patients]), singles=len(known) + SINGLE_ROWS)


def random_patients(count: int, random: np.random.Generator) -> Floats:
    """Encoded rows [count, 13] of valid patients; each value is drawn independently, and often missing."""
    rows = np.empty((count, len(MEASUREMENTS)), dtype=np.float32)
    missing = random.random((count, len(MEASUREMENTS))) < random.random((count, 1)) ** 2
    for column, measurement in enumerate(MEASUREMENTS):
        if measurement.choices:
            values = random.integers(len(measurement.choices), size=count).astype(float)
        else:
            steps = round((measurement.high - measurement.low) / measurement.step)
            values = measurement.low + random.integers(steps + 1, size=count) * measurement.step
        if not measurement.required:
            values[missing[:, column]] = math.nan
        rows[:, column] = values
    return rows


def predict_batches(model: Model, rows: Floats, singles: int) -> None:
    """Predict rows together, and the first of them one by one too.

    Raises VersionRejected if a row has another result in a batch than alone, or no valid one.
    """
    for network in filter(None, (model.network, model.error_network)):
        single = np.concatenate([network.try_out(row[None]) for row in rows[:singles]])
        batch = network.try_out(rows)
        if not np.allclose(batch[:singles], single, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            raise VersionRejected("self_test", "a result depends on the other rows of its batch")
        valid = (batch >= 0) & (batch <= 1) if network is model.network else ~(batch < 0)
        if not valid.all():
            first = int(np.argmin(valid))
            raise VersionRejected(
                "self_test",
                f"it gives {batch[first]:g} for the valid patient {rows[first].tolist()}",
            )


def _end_with(parent: int) -> None:
    """End when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        sys.exit(1)


def _received(stream: BinaryIO) -> dict[str, bytes]:
    sizes = json.loads(stream.readline())
    return {name: stream.read(size) for name, size in sizes.items()}


def _restrict(cpu_seconds: int, memory_bytes: int) -> None:
    """Give up the right to open files and sockets, to write files, and to start threads and processes."""
    os.nice(NICE)
    used = resource.getrusage(resource.RUSAGE_SELF)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)
        # If the container has less memory than that, the kernel ends this process, not the service.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    # SIGXCPU at the lower limit, SIGKILL one second later.
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds, extra=1)
    for kind in ("CORE", "FSIZE", "NPROC", "NOFILE"):
        _limit(getattr(resource, f"RLIMIT_{kind}"), 0)


def _limit(kind: int, value: int, extra: int = 0) -> None:
    """Lower a limit; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    soft, upper = (
        n if hard == resource.RLIM_INFINITY else min(n, hard) for n in (value, value + extra)
    )
    resource.setrlimit(kind, (soft, upper))


if __name__ == "__main__":
    main()
