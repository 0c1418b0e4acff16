"""Stage synthesize: synthetic patients from CTGAN, TVAE or noisy tables, one generator for each fold and one for all.

A fold's generator is fitted without the fold's rows, so that its patients may help to train a model
that is scored on them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from heart import files
from heart.errors import run_main
from heart.progress import progress
from heart.schema import NAMES
from heart.subsample import subsample
from heart.synthesis import marginals
from heart.synthesis.attack import LIMIT, membership_attack
from heart.synthesis.generator import COLUMNS, complete, device_of, draw, fit_generators, steps
from heart.synthesis.quality import fidelity, plot
from stages import params


def generate(
    train: pd.DataFrame, options: params.Synthesize
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Fit all generators: the synthetic patients, by fold, and the counts of redraws."""
    parts = {files.ALL: train}
    parts |= {fold: train[train["fold"] != fold] for fold in sorted(train["fold"].unique())}
    tables = [complete(part, options.seed) for part in parts.values()]
    total = steps([len(table) for table in tables], options)
    with progress(None, f"{len(parts)} generators", "steps", total) as bar:
        generators = fit_generators(tables, options, bar.update)
    draws = {
        tag: draw(generator, part, options.rows, options.seed)
        for (tag, part), generator in zip(parts.items(), generators, strict=True)
    }
    redrawn = {key: sum(counts[key] for _, counts in draws.values()) for key in draws[files.ALL][1]}
    rows = [table.assign(fold=tag) for tag, (table, _) in draws.items()]
    return pd.concat(rows, ignore_index=True), redrawn


def generate_private(
    train: pd.DataFrame, options: params.Synthesize
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The patients of generators with differential privacy, by fold, and what is guaranteed.

    A patient of fold k has been seen by all generators but that of k: the guarantee of the whole table is that
    of so many together, and that of the rows of the last generator alone is `epsilon`.
    """
    privacy = marginals.privacy_of(options.epsilon, options.delta)
    folds = sorted(train["fold"].unique())
    random = np.random.default_rng()
    rows = [
        marginals.fit(train if tag == files.ALL else train[train["fold"] != tag], privacy)
        .sample(options.rows, random)
        .assign(fold=tag)
        for tag in (files.ALL, *folds)
    ]
    return pd.concat(rows, ignore_index=True), marginals.guarantee(privacy, len(folds))


def metrics_of(train: pd.DataFrame, synthetic: pd.DataFrame, seed: int) -> dict[str, Any]:
    """What metrics/synthesize.json says of synthetic patients beside those they were learned from."""
    final = synthetic[synthetic["fold"] == files.ALL]
    missing = {
        name: {
            "real": float((train[name] == "").mean()),
            "synthetic": float((final[name] == "").mean()),
        }
        for name in NAMES
        if (train[name] == "").any()
    }
    return {
        **fidelity(train, final),
        "membership_attack": membership_attack(train, synthetic, seed),
        "missing_rate": missing,
        "rows": len(synthetic),
    }


def membership_warning(attack: Mapping[str, Any]) -> str:
    """The warning of an attack that may succeed; empty where even its upper end is no success."""
    if attack["high"] <= LIMIT:
        return ""
    return (
        f"warning: a membership attack on the synthetic rows ({attack['attacker']}) has a ROC AUC of "
        f"{attack['auc']:.3f} ({attack['low']:.3f} to {attack['high']:.3f}), expected an upper end of at "
        f"most {LIMIT}: they may tell who was among the patients, so keep {files.SYNTHETIC} as private as "
        "the patients' table, or train less (synthesize.epochs)"
    )


def main() -> None:
    options = params.Synthesize.load()
    train = files.read_table(files.TRAIN)
    counts: dict[str, Any]
    if options.model == "dp":
        used = train  # one patient more or fewer could change a whole subsample
        synthetic, counts = generate_private(used, options)
    else:
        used = train[subsample(train, options.max_rows, options.seed)]
        synthetic, counts = generate(used, options)
    columns = ["fold", *(measurement.name for measurement in COLUMNS)]
    files.write_table(files.SYNTHETIC, synthetic[columns])
    plot(used, synthetic[synthetic["fold"] == files.ALL], files.PLOTS / "synthetic.png")
    counts |= {"real_rows": len(train), "real_rows_used": len(used)}
    figures = metrics_of(used, synthetic, options.seed) | counts
    files.write_metrics("synthesize", figures | {"device": device_of(options.device)})
    if warning := membership_warning(figures["membership_attack"]):
        print(warning)


if __name__ == "__main__":
    run_main(main)
