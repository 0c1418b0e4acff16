"""The whole pipeline on a million patients: time and peak memory by stage, and the figures of the model.

`python -m benchmarks.million 100000` takes another number. The patients are simulated: each is a real one,
drawn at random, with noise added to its numbers and some of its categories taken from others. The outcome
is drawn from the risk of a logistic regression on the real patients, so that the best possible ROC AUC is
known and a logistic regression can reach it: the benchmark measures time and memory, not the choice of a
candidate. It works in a clone of the last commit in a temporary folder, with its own DVC cache and registry.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import joblib
import numpy as np
import psutil
import pyarrow as pa
from pyarrow import csv

from benchmarks.pipeline import ROOT, repro
from heart import files
from heart.errors import UserError, run_main
from heart.ml.estimators import Array, ChainedLogisticRegression
from heart.ml.scores import roc_auc
from heart.schema import MEASUREMENTS, OUTCOME, Floats

OUT = Path("benchmarks/million.json")
ROWS, SEED = 1_000_000, 1
MOVED, SWAPPED = 0.3, 0.2  # of a standard deviation; of the categories
LIMIT_SECONDS, LIMIT_MEBIBYTES = 20 * 60, 8 * 1024
SAMPLE_SECONDS = 0.5


def patients(real: Floats, rows: int, random: np.random.Generator) -> Floats:
    """Patients [rows, 13] that are similar to the real ones and rarely equal to one."""
    simulated = real[random.integers(len(real), size=rows)]
    for column, measurement in enumerate(MEASUREMENTS):
        known = real[~np.isnan(real[:, column]), column]
        values = simulated[:, column]  # NaN stays NaN
        if measurement.choices:
            swapped = ~np.isnan(values) & (random.random(rows) < SWAPPED)
            values[swapped] = random.choice(known, int(swapped.sum()))
        else:
            noise = MOVED * known.std() * random.standard_normal(rows)
            steps = np.rint((values + noise) / measurement.step)
            values[:] = np.clip(steps * measurement.step + 0.0, measurement.low, measurement.high)
    return simulated


def table(rows: Floats, outcomes: Array) -> pa.Table:
    """Encoded patients [n, 13] and outcomes [n] in the project's own layout."""
    columns = {}
    for values, measurement in zip([*rows.T, outcomes], [*MEASUREMENTS, OUTCOME], strict=True):
        missing = np.isnan(values)
        if measurement.choices:
            names = [choice.name for choice in measurement.choices]
            codes = pa.array(np.nan_to_num(values).astype(np.int8), mask=missing)
            columns[measurement.name] = pa.DictionaryArray.from_arrays(codes, names)
        else:
            columns[measurement.name] = pa.array(values.round(3), from_pandas=True)
    return pa.table(columns)


def write_patients(path: Path, rows: int) -> float:
    """Write patients; returns the ROC AUC of the risks from which their outcomes were drawn."""
    real, outcome = files.encoded(files.read_table(ROOT / files.RAW))
    random = np.random.default_rng(SEED)
    simulated = patients(real, rows, random)
    risk = ChainedLogisticRegression().fit(real, outcome).predict_proba(simulated)[:, 1]
    outcomes = (random.random(rows) < risk).astype(float)
    csv.write_csv(table(simulated, outcomes), path)
    return roc_auc(outcomes, risk)


@dataclass(frozen=True)
class Usage:
    """Memory and processor time of the child processes at a time."""

    at: float
    mebibytes: float
    cpu_seconds: float


class UsageMonitor:
    """Samples of the resident memory and the processor time of child processes.

    Shared pages count once for each process, so that memory is an upper bound. Processor time is that of
    the commands that a child process has waited for, which includes a stage only after its end.
    """

    def __init__(self) -> None:
        self.samples = [Usage(time.time(), 0.0, 0.0)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peak(self, start: float, end: float) -> float:
        """The largest MiB between two times."""
        return max(
            (sample.mebibytes for sample in self.samples if start <= sample.at <= end), default=0.0
        )

    def cpu_seconds(self, start: float, end: float) -> float:
        """The processor time between two times."""
        # A process that ended just before a time is in one of the next samples.
        before, after = (
            max(
                sample.cpu_seconds
                for sample in self.samples
                if sample.at <= at + 2 * SAMPLE_SECONDS
            )
            for at in (start, end)
        )
        return after - before

    def _sample(self) -> None:
        this = psutil.Process()
        while not self._ended.wait(SAMPLE_SECONDS):
            resident, waited = 0, 0.0
            for process in this.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss
                    if process.ppid() == this.pid:
                        times = process.cpu_times()
                        waited += times.children_user + times.children_system
            self.samples.append(Usage(time.time(), resident / 2**20, waited))


def figures(folder: Path) -> dict[str, Any]:
    """The figures of the stages on rows and model."""
    metrics = {
        stage: json.loads((folder / files.METRICS / f"{stage}.json").read_text())
        for stage in ("prepare", "synthesize", "train", "reference", "evaluate", "register")
    }
    scores = ("roc_auc", "roc_auc_low", "roc_auc_high", "brier", "ece")
    return {
        "rows": metrics["prepare"]["rows_out"],
        "test_rows": metrics["evaluate"]["rows"],
        "rows_used": {
            s: metrics[s]["real_rows_used"] for s in ("synthesize", "train", "reference")
        },
        "rows_fitted": metrics["train"]["real_rows_fitted"],
        "model": metrics["train"]["model"],
        "cv_roc_auc": metrics["train"]["cv_roc_auc"],
        **{name: metrics["evaluate"][name] for name in scores},
        "tstr_auc": metrics["synthesize"]["tstr_auc"],
        "false_alarms": metrics["reference"]["false_alarms"]["rate"],
        "verdict": metrics["register"]["verdict"],
    }


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        best = write_patients(clone / files.RAW, rows)
        env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        with UsageMonitor() as monitor:
            stages = repro(clone, env)
        metrics = figures(clone)
    seconds = {name: end - start for name, (start, end) in stages.items()}
    cpu_seconds = {name: monitor.cpu_seconds(*span) for name, span in stages.items()}
    mebibytes = {name: monitor.peak(*span) for name, span in stages.items()}
    total, most = sum(seconds.values()), max(mebibytes.values())
    print(f"{'stage':12} {'seconds':>8} {'of cores':>8} {'MiB':>8}")
    for name in stages:
        print(f"{name:12} {seconds[name]:8.1f} {cpu_seconds[name]:8.1f} {mebibytes[name]:8.0f}")
    print(f"{'all':12} {total:8.1f} {sum(cpu_seconds.values()):8.1f} {most:8.0f}")
    print(json.dumps(metrics | {"best_roc_auc": best, "load_before": load}, indent=2))
    if rows == ROWS:
        files.write_json(
            OUT,
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "mebibytes": mebibytes,
                "total_seconds": total,
                "most_mebibytes": most,
                "cores": joblib.cpu_count(),
                "best_roc_auc": best,
                "load_before": load,
                **metrics,
            },
        )
    if total > LIMIT_SECONDS or most > LIMIT_MEBIBYTES:
        raise UserError(
            f"{total:.0f} s and {most:.0f} MiB, expected at most {LIMIT_SECONDS} and {LIMIT_MEBIBYTES}"
        )


if __name__ == "__main__":
    run_main(main)
