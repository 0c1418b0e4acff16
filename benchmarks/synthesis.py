"""Generators of synthetic patients: utility of their patients for a model, and distance from real ones.

As in stage synthesize, a method is fitted on the training rows outside of a fold, the pipeline's model is
fitted on its patients and scored on the fold's real rows, and a membership attack tries to tell the patients
of the generator from those of the fold (heart/synthesis/attack.py). The frozen test rows are not read. All methods get
the same complete rows, and their rows are processed in the same way: invalid rows and copies are counted and
drawn again, and missing values are restored. A bootstrap of the real rows is the reference with full utility
and no privacy, which the attack must catch.

Intervals are over seeds (Student's t) of the same patients and folds: they include the variance of a
generator, not that of the patients.
"""

import time
import warnings
from collections.abc import Callable, Sequence
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
from heart.synthesis.attack import membership_attack
from heart.synthesis.generator import (
    CONTINUOUS,
    DISCRETE,
    complete,
    draw,
    fit_generators,
    library_settings,
)
from stages import params

OUT = Path("benchmarks/synthesis.json")
SEEDS = range(5)
SPARE = 5  # a peer draws this multiple of the required rows, since some may be invalid
REAL = "bootstrap of real rows"
FIGURES = {
    "tstr_auc": "AUC",
    "merged_auc": "with real rows",
    "attack_distance": "attack by distance",
    "attack_density": "attack by density",
    "attack_high": "its upper end",
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


# Methods: complete rows of each fold, the number of rows to draw and a seed -> a fitted generator for each fold


def own(tables: Sequence[pd.DataFrame], _rows: int, seed: int) -> list[FittedGenerator]:
    """The generators of params.yaml, which are fitted together."""
    options = params.Synthesize.load().model_copy(update={"seed": seed})
    start = time.process_time()
    generators = fit_generators(tables, options, lambda: None)
    seconds = (time.process_time() - start) / len(tables)
    return [FittedGenerator(generator, seconds) for generator in generators]


def by_library(
    name: str, settings: Callable[[], dict[str, Any]]
) -> Callable[[Sequence[pd.DataFrame], int, int], list[FittedGenerator]]:
    """CTGAN or TVAE with the fit of the library."""

    def fitted(tables: Sequence[pd.DataFrame], _rows: int, seed: int) -> list[FittedGenerator]:
        import ctgan
        import torch

        torch.set_num_threads(1)
        return [_fit(getattr(ctgan, name)(**settings()), table, seed) for table in tables]

    return fitted


def _fit(generator: Any, table: pd.DataFrame, seed: int) -> FittedGenerator:
    generator.set_random_state(seed)
    start = time.process_time()
    generator.fit(table, DISCRETE)
    return FittedGenerator(generator, time.process_time() - start)


def defaults() -> dict[str, Any]:
    """The library's settings."""
    return {"enable_gpu": False}


def own_settings() -> dict[str, Any]:
    """The settings of params.yaml."""
    return library_settings(params.Synthesize.load()) | {"pac": 1}


def copula(tables: Sequence[pd.DataFrame], rows: int, seed: int) -> list[FittedGenerator]:
    """The Gaussian copula of sdv."""
    return [_copula(table, rows, seed) for table in tables]


def _copula(real: pd.DataFrame, rows: int, seed: int) -> FittedGenerator:
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "real.csv"), Path(folder, "drawn.csv")
        files.write_table(source, real)
        output = peer.run("sdv", source, out, SPARE * rows, seed, ",".join(CONTINUOUS))
        table = files.read_table(out).astype(dict.fromkeys(CONTINUOUS, float))
    return FittedGenerator(Replay(table), output["seconds"])


METHODS = {
    "CTGAN, this project's settings": own,
    "CTGAN, this project's settings, fitted by the library": by_library("CTGAN", own_settings),
    "CTGAN, defaults": by_library("CTGAN", defaults),
    "TVAE, defaults": by_library("TVAE", defaults),
    "Gaussian copula (sdv)": copula,
}


# Figures


def patients(
    name: str, train: pd.DataFrame, rows: int, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The patients of a method that was fitted without each fold in turn, and the figures of its draws."""
    folds = sorted(train["fold"].unique())
    parts = [train[train["fold"] != fold].reset_index(drop=True) for fold in folds]
    if name == REAL:
        tables = [real.sample(rows, replace=True, random_state=seed) for real in parts]
        figures = {"copied": 1.0, "invalid": 0.0, "seconds": 0.0}
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from the mixture models inside, on constant columns
            fits = METHODS[name]([complete(real, seed) for real in parts], rows, seed)
        draws = [draw(fit, real, rows, seed) for fit, real in zip(fits, parts, strict=True)]
        tables = [table for table, _ in draws]
        drawn = sum(fit.rows for fit in fits)
        figures = {
            "copied": sum(redrawn["copied_rows"] for _, redrawn in draws) / drawn,
            "invalid": sum(redrawn["invalid_rows"] for _, redrawn in draws) / drawn,
            "seconds": float(np.mean([fit.seconds for fit in fits])),
        }
    marked = [table.assign(fold=fold) for table, fold in zip(tables, folds, strict=True)]
    return pd.concat(marked, ignore_index=True), figures


def measured(name: str, train: pd.DataFrame, rows: int, seed: int) -> dict[str, float]:
    """The figures of one method and seed, over all folds."""
    synthetic, draws = patients(name, train, rows, seed)
    attack = membership_attack(train, synthetic, seed)
    attacks = {f"attack_{key}": part["auc"] for key, part in attack["by_attacker"].items()}
    return utility(train, synthetic) | attacks | {"attack_high": attack["high"]} | draws


def interval(values: list[float]) -> dict[str, float]:
    """The mean of a figure over seeds, with its 95 % interval."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    width = t.ppf(0.975, len(values) - 1) * error
    return {"mean": float(mean), "low": float(mean - width), "high": float(mean + width)}


def measure(names: list[str]) -> dict[str, Any]:
    """The figures of all methods; `real_auc` is that of the real training rows."""
    train, rows = files.read_table(files.TRAIN), params.Synthesize.load().rows
    jobs = list(product(names, SEEDS))
    running = Parallel(n_jobs=-1, return_as="generator")(
        delayed(measured)(name, train, rows, seed) for name, seed in jobs
    )
    runs = dict(zip(jobs, tqdm(running, total=len(jobs), desc="generators"), strict=True))
    return {
        "rows": rows,
        "seeds": len(SEEDS),
        "folds": int(train["fold"].nunique()),
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
    print(f"{'':54}" + "".join(f"{title:26}" for title in FIGURES.values()))
    for name, figures_ in report["methods"].items():
        cells = [f"{f['mean']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in figures_.values()]
        print(f"{name:54}" + "".join(f"{cell:26}" for cell in cells))
    print("->", OUT)


if __name__ == "__main__":
    run_main(main)
