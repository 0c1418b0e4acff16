"""Generators of synthetic patients: utility of their patients for a model, and distance from real ones.

As in stage synthesize, a method is fitted on the training rows outside of a fold, the pipeline's model is
fitted on its patients and scored on the fold's real rows. The frozen test rows are not read. All methods get
the same complete rows, and their rows are processed in the same way: invalid rows and copies are counted and
drawn again, and missing values are restored. A bootstrap of the real rows is the reference with full utility
and no privacy.

Intervals are over seeds (Student's t) of the same patients and folds: they include the variance of a
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
SPARE = 5  # a peer draws this multiple of the required rows, since some may be invalid
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
class FittedGenerator:
    """A generator, the processor seconds of its fit, and the number of rows that it has drawn."""

    generator: Any
    seconds: float
    rows: int = 0

    def set_random_state(self, seed: int) -> None:
        """Make the draws depend on a seed."""
        self.generator.set_random_state(seed)

    def sample(self, rows: int) -> pd.DataFrame:
        """New rows."""
        self.rows += rows
        table: pd.DataFrame = self.generator.sample(rows)
        return table


@dataclass
class Replay:
    """The rows of a peer, which has drawn them in advance."""

    table: pd.DataFrame

    def set_random_state(self, seed: int) -> None:
        """The rows were drawn for one seed."""

    def sample(self, rows: int) -> pd.DataFrame:
        """The next rows."""
        if len(self.table) < rows:
            raise UserError(
                f"a peer has drawn {SPARE} times the required rows, expected enough valid ones: raise SPARE"
            )
        part, self.table = self.table.head(rows), self.table.iloc[rows:]
        return part.reset_index(drop=True)


# Methods: complete rows, the number of rows to draw and a seed -> a fitted generator


def own(real: pd.DataFrame, _rows: int, seed: int) -> FittedGenerator:
    """The generator of params.yaml."""
    options = params.Synthesize.load().model_copy(update={"seed": seed})
    start = time.process_time()
    generator = fit_generator(real, options, lambda: None)
    return FittedGenerator(generator, time.process_time() - start)


def at_defaults(name: str) -> Callable[[pd.DataFrame, int, int], FittedGenerator]:
    """CTGAN or TVAE with the defaults of the library."""

    def fitted(real: pd.DataFrame, _rows: int, seed: int) -> FittedGenerator:
        import ctgan

        generator = getattr(ctgan, name)(enable_gpu=False)
        generator.set_random_state(seed)
        start = time.process_time()
        generator.fit(real, DISCRETE)
        return FittedGenerator(generator, time.process_time() - start)

    return fitted


def copula(real: pd.DataFrame, rows: int, seed: int) -> FittedGenerator:
    """The Gaussian copula of sdv."""
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "real.csv"), Path(folder, "drawn.csv")
        files.write_table(source, real)
        output = peer.run("sdv", source, out, SPARE * rows, seed, ",".join(CONTINUOUS))
        table = files.read_table(out).astype(dict.fromkeys(CONTINUOUS, float))
    return FittedGenerator(Replay(table), output["seconds"])


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
    """The patients of a method that was fitted without a fold, and the figures of its draws."""
    real = train[train["fold"] != fold].reset_index(drop=True)
    if name == REAL:
        table = real.sample(rows, replace=True, random_state=seed)
        return table.assign(fold=fold), {"copied": 1.0, "invalid": 0.0, "seconds": 0.0}
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
    """The figures of one method and seed, over all folds."""
    synthetic = pd.concat([table for table, _ in parts], ignore_index=True)
    means = utility(train, synthetic) | privacy(train, synthetic)
    for name in ("copied", "invalid", "seconds"):
        means[name] = float(np.mean([draws[name] for _, draws in parts]))
    return means


def interval(values: list[float]) -> dict[str, float]:
    """The mean of a figure over seeds, with its 95 % interval."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    width = t.ppf(0.975, len(values) - 1) * error
    return {"mean": float(mean), "low": float(mean - width), "high": float(mean + width)}


def measure(names: list[str]) -> dict[str, Any]:
    """The figures of all methods; `real_auc` is that of the real training rows."""
    train, rows = files.read_table(files.TRAIN), params.Synthesize.load().rows
    folds = sorted(train["fold"].unique())
    jobs = list(product(names, SEEDS, folds))
    running = Parallel(n_jobs=-1, return_as="generator")(
        delayed(patients)(name, train, fold, rows, seed) for name, seed, fold in jobs
    )
    parts = dict(zip(jobs, tqdm(running, total=len(jobs), desc="generators"), strict=True))
    runs = {
        (name, seed): figures(train, [parts[name, seed, fold] for fold in folds])
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
    report = measure([n for n in (*METHODS, REAL) if not (absent and METHODS.get(n) is copula)])
    report["versions"] = {"ctgan": version("ctgan")}
    if not absent:
        report["versions"]["sdv"] = peer.version("sdv")
    files.write_json(OUT, report | {"absent": absent})
    show(report)


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\nreal rows alone: AUC {report['real_auc']:.4f}; means and 95 % intervals over seeds")
    print(f"{'':32}" + "".join(f"{title:26}" for title in FIGURES.values()))
    for name, figures_ in report["methods"].items():
        cells = [f"{f['mean']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in figures_.values()]
        print(f"{name:32}" + "".join(f"{cell:26}" for cell in cells))
    print("->", OUT)


if __name__ == "__main__":
    run_main(main)
