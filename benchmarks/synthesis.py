"""Generators of synthetic patients beside each other: what their patients are worth, how far from copies.

As in stage synthesize, a method learns from the training rows outside of a fold, and its patients train
the pipeline's model, which is scored on the fold's real rows. The frozen test rows are not read. All
methods get the same complete rows, and what they draw becomes patients in the same way: rows that the
schema does not allow and copies are counted and drawn again, missing values are put back. A bootstrap
of the real rows shows the two ends: nothing is lost, and nobody is protected.

Intervals are over seeds (Student's t), of the same patients and folds: they hold the luck of a
generator, not that of the patients.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import t
from tqdm import tqdm

from benchmarks import peer
from heart import files
from heart.errors import UserError, run_main
from heart.ml.tstr import utility
from heart.synthesis.generator import CONTINUOUS, DISCRETE, complete, draw, fit_generator
from heart.synthesis.quality import privacy
from stages import params

OUT = Path("benchmarks/synthesis.json")
SEEDS = range(5)
SPARE = 5  # times as many rows as are needed are drawn by a peer, some of which may be invalid
REAL = "bootstrap of real rows"
FIGURES = {
    "tstr_auc": "AUC",
    "merged_auc": "with real rows",
    "dcr_ratio": "distance",
    "copied": "copies",
    "invalid": "invalid",
    "seconds": "seconds",
}


@dataclass
class Drawn:
    """A generator, the processor seconds of its fit, and how many rows it has drawn."""

    generator: Any
    seconds: float
    rows: int = 0

    def set_random_state(self, seed: int) -> None:
        """Draw the same rows again for the same seed."""
        self.generator.set_random_state(seed)

    def sample(self, rows: int) -> pd.DataFrame:
        """So many new rows."""
        self.rows += rows
        drawn: pd.DataFrame = self.generator.sample(rows)
        return drawn


@dataclass
class Replay:
    """Rows that a peer has drawn already."""

    table: pd.DataFrame

    def set_random_state(self, seed: int) -> None:
        """The rows were drawn for one seed."""

    def sample(self, rows: int) -> pd.DataFrame:
        """The next rows."""
        if len(self.table) < rows:
            raise UserError(f"a peer's rows are used up, though it drew {SPARE} times as many")
        part, self.table = self.table.head(rows), self.table.iloc[rows:]
        return part.reset_index(drop=True)


# Methods: complete rows, the number of rows that will be drawn and a seed -> what draws


def own(real: pd.DataFrame, _rows: int, seed: int) -> Drawn:
    """CTGAN, or whatever params.yaml says."""
    options = params.Synthesize.load().model_copy(update={"seed": seed})
    start = time.process_time()
    generator = fit_generator(real, options, lambda: None)
    return Drawn(generator, time.process_time() - start)


def at_defaults(name: str) -> Callable[[pd.DataFrame, int, int], Drawn]:
    """CTGAN or TVAE as the library makes it."""

    def fitted(real: pd.DataFrame, _rows: int, seed: int) -> Drawn:
        import ctgan

        generator = getattr(ctgan, name)(enable_gpu=False)
        generator.set_random_state(seed)
        start = time.process_time()
        generator.fit(real, DISCRETE)
        return Drawn(generator, time.process_time() - start)

    return fitted


def copula(real: pd.DataFrame, rows: int, seed: int) -> Drawn:
    """The Gaussian copula of sdv."""
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "real.csv"), Path(folder, "drawn.csv")
        files.write_table(source, real)
        found = peer.run("sdv", source, out, SPARE * rows, seed, ",".join(CONTINUOUS))
        drawn = files.read_table(out).astype(dict.fromkeys(CONTINUOUS, float))
    return Drawn(Replay(drawn), found["seconds"])


METHODS = {
    "CTGAN, this project's settings": own,
    "CTGAN, defaults": at_defaults("CTGAN"),
    "TVAE, defaults": at_defaults("TVAE"),
    "Gaussian copula (sdv)": copula,
}


# Figures


def patients(
    name: str, train: pd.DataFrame, fold: str, rows: int, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """What a method that never saw a fold draws for it, and what it took."""
    real = train[train["fold"] != fold].reset_index(drop=True)
    if name == REAL:
        drawn = real.sample(rows, replace=True, random_state=seed)
        return drawn.assign(fold=fold), {"copied": 1.0, "invalid": 0.0, "seconds": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the mixture models inside, on constant columns
        fitted = METHODS[name](complete(real, seed), rows, seed)
    synthetic, redrawn = draw(fitted, real, rows, seed)
    return synthetic.assign(fold=fold), {
        "copied": redrawn["copied_rows"] / fitted.rows,
        "invalid": redrawn["invalid_rows"] / fitted.rows,
        "seconds": fitted.seconds,
    }


def figures(train: pd.DataFrame, parts: list[tuple[pd.DataFrame, Any]]) -> dict[str, float]:
    """The figures of one method and seed, from what it drew for each fold."""
    synthetic = pd.concat([table for table, _ in parts], ignore_index=True)
    means = utility(train, synthetic) | privacy(train, synthetic)
    for name in ("copied", "invalid", "seconds"):
        means[name] = float(np.mean([taken[name] for _, taken in parts]))
    return means


def interval(values: list[float]) -> dict[str, float]:
    """The mean of a figure over seeds, with its 95 % interval."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    width = t.ppf(0.975, len(values) - 1) * error
    return {"mean": float(mean), "low": float(mean - width), "high": float(mean + width)}


def measured(names: list[str]) -> dict[str, Any]:
    """The figures of all methods; `real_auc` is that of the real training rows."""
    train, rows = files.read_table(files.TRAIN), params.Synthesize.load().rows
    folds = sorted(train["fold"].unique())
    jobs = list(product(names, SEEDS, folds))
    running = Parallel(n_jobs=-1, return_as="generator")(
        delayed(patients)(name, train, fold, rows, seed) for name, seed, fold in jobs
    )
    drawn = dict(zip(jobs, tqdm(running, total=len(jobs), desc="generators"), strict=True))
    runs = {
        (name, seed): figures(train, [drawn[name, seed, fold] for fold in folds])
        for name, seed in product(names, SEEDS)
    }
    return {
        "rows": rows,
        "seeds": len(SEEDS),
        "folds": len(folds),
        "real_auc": runs[REAL, 0]["trtr_auc"],
        "methods": {
            name: {f: interval([runs[name, seed][f] for seed in SEEDS]) for f in FIGURES}
            for name in names
        },
    }


def main() -> None:
    absent = peer.absent(("sdv",))
    report = measured([n for n in (*METHODS, REAL) if not (absent and METHODS.get(n) is copula)])
    report["versions"] = {"ctgan": version("ctgan")}
    if not absent:
        report["versions"]["sdv"] = peer.version("sdv")
    files.write_json(OUT, report | {"absent": absent})
    show(report)


def show(report: dict[str, Any]) -> None:
    """The table, as text."""
    print(f"\nreal rows alone: AUC {report['real_auc']:.4f}; means and 95 % intervals over seeds")
    print(f"{'':32}" + "".join(f"{title:26}" for title in FIGURES.values()))
    for name, found in report["methods"].items():
        cells = [f"{f['mean']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in found.values()]
        print(f"{name:32}" + "".join(f"{cell:26}" for cell in cells))
    print("->", OUT)


if __name__ == "__main__":
    run_main(main)
