"""Scoring and drift of tables of a million to a hundred million rows, on this machine.

A million patients are drawn from the real ones, each measurement independently, and written repeatedly as
Parquet (numbers as float32, categories as text) and as CSV. Only the columns matter for the cost.
`cpu_seconds` are the sum over all processors, the cost of a row also on a machine with other load.
"""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from heart import files
from heart.errors import UserError, run_main
from heart.schema import MEASUREMENTS
from serve.batch import local

OUT, PLOT = Path("benchmarks/scale.json"), Path("docs/images/scale.png")
SIZES = (1_000_000, 10_000_000, 100_000_000)
CSV_ROWS, SPARK_ROWS, SEED, BATCH = 5_000_000, 20_000_000, 1, 1 << 16
REPEATS = 3  # of measurements that take seconds; the median is reported

Figures = dict[str, float]


def patients(rows: int) -> pa.Table:
    """Patients with the values of the real ones, each measurement drawn independently."""
    real, _ = files.encoded(files.read_table(files.PREPARED))
    random = np.random.default_rng(SEED)
    columns = {}
    for position, measurement in enumerate(MEASUREMENTS):
        values = random.choice(real[:, position], rows)
        if measurement.choices:
            names = [choice.name for choice in measurement.choices]
            codes = pa.array(np.nan_to_num(values).astype(np.int8), mask=np.isnan(values))
            columns[measurement.name] = pa.DictionaryArray.from_arrays(codes, names)
        else:
            columns[measurement.name] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def write_parquet(path: Path, million: pa.Table, rows: int) -> None:
    """Write a table repeatedly, in row groups of its length."""
    with pq.ParquetWriter(path, million.schema) as writer:
        for _ in range(rows // len(million)):
            writer.write_table(million)


def measure(*arguments: object, repeats: int = 1) -> Figures:
    """The median of some runs of benchmarks.scale_run, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_run", *map(str, arguments)]
    runs: list[Figures] = []
    with TemporaryDirectory(dir=Path(str(arguments[1])).parent) as folder:
        for number in range(repeats):
            line = [part.replace("TARGET", f"{folder}/{number}") for part in command]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{' '.join(line)} failed:\n{done.stderr[-2000:]}")
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def parquet(folder: Path, million: pa.Table) -> dict[str, Any]:
    """Scoring and counting of Parquet by number of rows; each file is deleted before the next is written."""
    report: dict[str, Any] = {}
    for rows in SIZES:
        path = folder / f"{rows}.parquet"
        write_parquet(path, million, rows)
        repeats = REPEATS if rows < SIZES[-1] else 1
        report[f"{rows}"] = {
            "local": measure("local", path, "TARGET", local.cores(), repeats=repeats),
            "drift": measure("count", path, repeats=repeats),
        }
        path.unlink()
    return report


def text(folder: Path, million: pa.Table) -> dict[str, Figures]:
    """Scoring of CSV, beside reading it with pyarrow and scoring as many rows."""
    path = folder / "patients.csv"
    with csv.CSVWriter(path, million.schema) as writer:
        for _ in range(CSV_ROWS // len(million)):
            writer.write_table(million)
    return {
        "local": measure("local", path, "TARGET", local.cores(), repeats=REPEATS),
        "pyarrow": measure("read", path, math.ceil(CSV_ROWS / BATCH), repeats=REPEATS),
    }


def by_spark(folder: Path, million: pa.Table) -> dict[str, Figures]:
    """Seconds of Spark on one core and on two, extrapolated from the parts after the first."""
    path = folder / "patients.parquet"
    write_parquet(path, million, SPARK_ROWS)
    report = {}
    for master in ("local[1]", "local[2]"):
        run = measure("spark", path, "TARGET", master)
        seconds = run["seconds_a_part"] * SPARK_ROWS / len(million)
        report[master] = {"seconds": seconds, "with_start_seconds": run["seconds"]}
    return report


def model_alone(folder: Path, _: pa.Table) -> Figures:
    """The model alone, on encoded rows."""
    return measure("model", folder / "nothing", math.ceil(SIZES[1] / BATCH), repeats=REPEATS)


SECTIONS = {"model": model_alone, "parquet": parquet, "csv": text, "spark": by_spark}


def main() -> None:
    """Measure all sections, or the named ones."""
    sections = sys.argv[1:] or list(SECTIONS)
    if unknown := set(sections) - set(SECTIONS):
        raise UserError(f"section {min(unknown)!r}, expected some of {', '.join(SECTIONS)}")
    report = json.loads(OUT.read_text()) if sys.argv[1:] else {}
    million = patients(SIZES[0])
    for name in sections:
        with TemporaryDirectory() as folder:
            report[name] = SECTIONS[name](Path(folder), million)
    files.write_json(OUT, report)
    plot(report["parquet"])
    show(report)


def plot(report: dict[str, Any]) -> None:
    """Plot the cost of a row and the peak memory by the number of rows."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, (cost, memory) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for name, label in (("local", "scores"), ("drift", "drift counts")):
        runs = [report[f"{rows}"][name] for rows in SIZES]
        nanoseconds = [
            1e9 * run["cpu_seconds"] / rows for run, rows in zip(runs, SIZES, strict=True)
        ]
        cost.plot(SIZES, nanoseconds, "o-", label=label)
        memory.plot(SIZES, [run["mebibytes"] for run in runs], "o-", label=label)
    for axes, what in ((cost, "processor time a row, ns"), (memory, "peak memory, MiB")):
        axes.set(xscale="log", xlabel="rows of Parquet", ylabel=what, ylim=(0, None))
        axes.legend()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'':24} {'rows':>12} {'rows/s':>12} {'rows/cpu-s':>12} {'seconds':>8} {'MiB':>6}")
    for rows in SIZES:
        for name, run in report["parquet"][f"{rows}"].items():
            _line(f"Parquet, {name}", rows, run)
    _line("model alone", SIZES[1], report["model"])
    for name, run in report["csv"].items():
        _line(f"CSV, {name}", CSV_ROWS, run)
    for name, run in report["spark"].items():
        print(f"Spark {name:18} {SPARK_ROWS:12,} {SPARK_ROWS / run['seconds']:12,.0f}"
              f" {'':12} {run['seconds']:8.1f}")  # fmt: skip
    print("->", OUT, PLOT)


def _line(name: str, rows: int, run: Figures) -> None:
    print(f"{name:24} {rows:12,} {rows / run['seconds']:12,.0f} {rows / run['cpu_seconds']:12,.0f}"
          f" {run['seconds']:8.1f} {run['mebibytes']:6.0f}")  # fmt: skip


if __name__ == "__main__":
    run_main(main)
