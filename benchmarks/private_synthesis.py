"""Synthetic patients with differential privacy, and whether synthetic patients help where real ones are scarce.

1. The ROC AUC of the pipeline's model on each fold's real rows, when it is trained on private rows alone (TSTR), by
   epsilon. Intervals are over seeds (Student's t), of the mean over the folds. Real rows and CTGAN stand beside it.
2. Learning curves: of so many real patients, models with and without the synthetic patients of a generator that has seen
   the same ones, scored on the patients of a fold that neither has seen. Differences are paired by repetition, each with
   patients and a fold of its own; intervals are over repetitions.

The frozen test rows are not read. Noise has no seed, so the figures of private rows differ a little in every run.
"""

import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t

from heart import files
from heart.errors import run_main
from heart.ml.estimators import candidates
from heart.ml.scores import roc_auc
from heart.ml.tstr import utility
from heart.synthesis import marginals
from heart.synthesis.generator import complete, draw, fit_generators
from stages import params

OUT = Path("benchmarks/private_synthesis.json")
EPSILONS = (0.5, 1.0, 3.0, 10.0)
SEEDS = range(10)
SIZES = (20, 40, 80, 160)
REPETITIONS = 5
ROWS = 500  # synthetic patients of a learning curve
WEIGHT = 0.5  # of all synthetic rows, relative to all real ones
CURVE_EPSILON = 3.0


def interval(values: list[float]) -> dict[str, float]:
    """The mean, with its 95 % interval."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    width = t.ppf(0.975, len(values) - 1) * error
    return {"mean": float(mean), "low": float(mean - width), "high": float(mean + width)}


# Utility by epsilon


def utility_of(train: pd.DataFrame, epsilon: float, delta: float, rows: int) -> dict[str, Any]:
    """TSTR of private rows, and the processor seconds of a fit."""
    privacy, aucs, seconds = marginals.privacy_of(epsilon, delta), [], []
    for seed in SEEDS:
        parts = []
        for fold in sorted(train["fold"].unique()):
            start = time.process_time()
            sampler = marginals.fit(train[train["fold"] != fold], privacy)
            seconds.append(time.process_time() - start)
            parts.append(sampler.sample(rows, np.random.default_rng(seed)).assign(fold=fold))
        aucs.append(utility(train, pd.concat(parts, ignore_index=True))["tstr_auc"])
    return {"tstr_auc": interval(aucs), "noise": privacy.scale, "seconds": float(np.mean(seconds))}


# Learning curves


def sample(train: pd.DataFrame, size: int, repetition: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """So many patients of the other folds, with the shares of their outcomes, and those of one fold."""
    folds = sorted(train["fold"].unique())
    held_out = train["fold"] == folds[repetition % len(folds)]
    pool = train[~held_out].sample(frac=1, random_state=repetition)
    outcome = pool["heart_disease"]
    # Within an outcome the patients keep their random order; the first of each are taken.
    place = (pool.groupby("heart_disease").cumcount() + 0.5) / outcome.map(outcome.value_counts())
    patients = pool.loc[place.sort_values(kind="stable").index[:size]]
    return patients.reset_index(drop=True), train[held_out]


def ctgan_rows(tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Patients of the generator of params.yaml, for each table of real ones."""
    options = params.Synthesize.load().model_copy(update={"model": "ctgan"})
    completed = [complete(table, options.seed) for table in tables]
    generators = fit_generators(completed, options, lambda: None)
    return [
        draw(generator, table, ROWS, options.seed)[0]
        for generator, table in zip(generators, tables, strict=True)
    ]


def private_rows(tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Patients from noisy tables."""
    privacy = marginals.privacy_of(CURVE_EPSILON, params.Synthesize.load().delta)
    random = np.random.default_rng()
    return [marginals.fit(table, privacy).sample(ROWS, random) for table in tables]


GENERATORS = {"ctgan": ctgan_rows, "dp": private_rows}


def models() -> dict[str, Any]:
    """One model of each kind of candidate."""
    options = params.Train.load()
    by_kind = candidates(options.logistic_c, options.trees, options.min_samples_leaf, options.seed)
    return {name: kinds[len(kinds) // 2] for name, kinds in by_kind.items()}


def auc(
    model: Any, real: pd.DataFrame, synthetic: pd.DataFrame | None, held: pd.DataFrame
) -> float:
    """On held-out patients, of a model that is trained on real ones and perhaps synthetic ones."""
    x, y = files.encoded(real)
    weight: npt.NDArray[np.float64] = np.ones(len(x))
    if synthetic is not None:
        more, outcomes = files.encoded(synthetic)
        weight = np.append(weight, np.full(len(more), WEIGHT * len(x) / len(more)))
        x, y = np.vstack([x, more]), np.append(y, outcomes)
    held_x, held_y = files.encoded(held)
    model.fit(x, y, weight)
    return float(roc_auc(held_y, model.predict_proba(held_x)[:, 1]))


def learning_curves(train: pd.DataFrame) -> list[dict[str, Any]]:
    """For each size and model: the AUC of real rows, and the differences by generator."""
    jobs = list(product(SIZES, range(REPETITIONS)))
    pairs = {job: sample(train, *job) for job in jobs}
    reals = [real for real, _ in pairs.values()]
    made = {name: dict(zip(jobs, rows(reals), strict=True)) for name, rows in GENERATORS.items()}
    result = []
    for size, (name, model) in product(SIZES, models().items()):
        plain, differences = [], {generator: [] for generator in GENERATORS}  # type: ignore[var-annotated]
        for repetition in range(REPETITIONS):
            real, held = pairs[size, repetition]
            plain.append(auc(model, real, None, held))
            for generator, values in differences.items():
                synthetic = made[generator][size, repetition]
                values.append(auc(model, real, synthetic, held) - plain[-1])
        gains = {generator: interval(values) for generator, values in differences.items()}
        result.append({"patients": size, "model": name, "real": interval(plain)} | gains)
    return result


def answer(curves: list[dict[str, Any]]) -> str:
    """Whether synthetic patients help, in a sentence."""
    cells = [
        (f"{row['model']} with {row['patients']} patients and {generator}", row[generator])
        for row, generator in product(curves, GENERATORS)
    ]
    better = [name for name, gain in cells if gain["low"] > 0]
    worse = [name for name, gain in cells if gain["high"] < 0]
    return (
        f"Of {len(cells)} comparisons, synthetic patients help in {len(better)} ({'; '.join(better) or 'none'}) and "
        f"harm in {len(worse)} ({'; '.join(worse) or 'none'}); by chance alone, {len(cells) * 0.05:.1f} would differ."
    )


def main() -> None:
    options, train = params.Synthesize.load(), files.read_table(files.TRAIN)
    ctgan = files.read_table(files.SYNTHETIC) if options.model == "ctgan" else None
    beside = {} if ctgan is None else utility(train, ctgan)
    by_epsilon = {
        f"{e:g}": utility_of(train, e, options.delta, options.rows) for e in EPSILONS
    }  # fmt: skip
    for epsilon, figures in by_epsilon.items():
        print(f"epsilon {epsilon:4} AUC {_text(figures['tstr_auc'])}, {figures['seconds']:.2f} s")
    print({name: round(beside[name], 4) for name in ("trtr_auc", "tstr_auc") if beside}, flush=True)
    curves = learning_curves(train)
    for row in curves:
        gains = "; ".join(f"{g} {_text(row[g])}" for g in GENERATORS)
        print(f"{row['patients']:4} {row['model']:20} real {_text(row['real'])}; {gains}")
    print(answer(curves))
    files.write_json(
        OUT,
        {
            "delta": options.delta,
            "by_epsilon": by_epsilon,
            "real_auc": beside.get("trtr_auc"),
            "ctgan_auc": beside.get("tstr_auc"),
            "seeds": len(SEEDS),
            "repetitions": REPETITIONS,
            "curve_epsilon": CURVE_EPSILON,
            "curves": curves,
        },
    )
    print("->", OUT)


def _text(figure: dict[str, float]) -> str:
    return f"{figure['mean']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"


if __name__ == "__main__":
    run_main(main)
