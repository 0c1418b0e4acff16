"""The common part of all drift peers: check the windows of streams, and large windows for the time.

It runs in the peer's environment and imports only numpy. Its arguments are a file and the sizes of windows.
The file has

  references [streams, rows, columns], streams [streams, patients, columns]: numbers; a category is its
      code, a missing one -1
  continuous: the columns that are not categories
  large0, large1, ... [rows, columns]: windows to time, with the first reference
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Rows and the continuous columns -> rows in the format of the peer; a reference, the continuous columns
# and the size of windows -> a detector; a detector and patients -> by rule, whether each window alarms.
Prepare = Callable[[Array, list[int]], Any]
Fit = Callable[[Any, list[int], int], Any]
Alarms = Callable[[Any, Any], dict[str, list[bool]]]


def first_alarms(
    detect: Callable[[Array], dict[str, list[bool]]], stream: Array, window: int, at_once: int
) -> dict[str, int | None]:
    """The number of patients until the first alarm of each rule; `at_once` windows are one call."""
    first: dict[str, int | None] = {}
    for start in range(0, len(stream), window * at_once):
        for rule, alarms in detect(stream[start : start + window * at_once]).items():
            end = start + window * (int(np.argmax(alarms)) + 1) if any(alarms) else None
            first[rule] = first.get(rule) or end
        if None not in first.values():
            break
    return first


def print_results(prepare: Prepare, fit: Fit, alarms: Alarms, at_once: int = 1) -> None:
    """Print the first alarms of each stream by rule, and the seconds of each large window by rows."""
    source, windows = sys.argv[1], [int(window) for window in sys.argv[2:]]
    with np.load(source) as file:
        tables = dict(file)
    continuous = tables["continuous"].tolist()

    def detector(reference: Array, window: int) -> Callable[[Array], dict[str, list[bool]]]:
        fitted = fit(prepare(reference, continuous), continuous, window)
        return lambda rows: alarms(fitted, prepare(rows, continuous))

    delays: dict[str, list[int | None]] = {}
    pairs = list(zip(tables["references"], tables["streams"], strict=False))
    for window, (reference, stream) in product(windows, pairs):
        first = first_alarms(detector(reference, window), stream, window, at_once)
        for rule, delay in first.items():
            delays.setdefault(f"{rule}, window {window}", []).append(delay)
    seconds = {}
    for name in sorted(name for name in tables if name.startswith("large")):
        count, rows = len(tables[name]), prepare(tables[name], continuous)
        fitted = fit(prepare(tables["references"][0], continuous), continuous, count)
        start = time.perf_counter()
        alarms(fitted, rows)
        seconds[str(count)] = time.perf_counter() - start
    print(json.dumps({"alarms": delays, "seconds": seconds}))


def ignore_warnings() -> None:
    """Ignore warnings: peers warn of small samples in every window."""
    warnings.simplefilter("ignore")
