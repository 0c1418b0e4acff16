"""Stage synthesize: synthetic patients from CTGAN, one generator for each fold and one for all.

A fold's generator is fitted without the fold's rows, so that its patients may help to train a model
that is scored on them. The generators are fitted side by side, one process and one torch thread
each: CTGAN repeats its samples only for a fixed number of threads.
"""

import multiprocessing
import os
import queue
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from typing import Any

import joblib
import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from schema import MEASUREMENTS, NAMES, OUTCOME, Measurement, encode
from stages import files, params
from stages.errors import StageError, main_of
from stages.estimators import ChainedLogisticRegression
from stages.scores import roc_auc

matplotlib.use("Agg")

ALL = "all"  # the tag of the generator that was fitted on all training rows
COLUMNS = (*MEASUREMENTS, OUTCOME)
CONTINUOUS = [m.name for m in COLUMNS if not m.choices and (m.high - m.low) / m.step > 10]
DISCRETE = [m.name for m in COLUMNS if m.name not in CONTINUOUS]
REDRAWS = 50


def fit_generator(table: pd.DataFrame, options: params.Synthesize, tick: Callable[[], None]) -> Any:
    """Fit a generator on complete rows (`complete`); `tick` is called after each optimizer step."""
    import torch
    from ctgan import CTGAN, TVAE
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)
    common: dict[str, Any] = {
        "embedding_dim": options.embedding_dim,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "enable_gpu": options.device != "cpu",
    }
    layers = tuple(options.layers)
    if options.model == "ctgan":
        rate = options.learning_rate
        generator = CTGAN(
            generator_dim=layers, discriminator_dim=layers, generator_lr=rate,
            discriminator_lr=rate, pac=1, **common,
        )  # fmt: skip
    else:
        generator = TVAE(compress_dims=layers, decompress_dims=layers, **common)
    generator.set_random_state(options.seed)
    hook = register_optimizer_step_post_hook(lambda *_: tick())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from the mixture models inside, on constant columns
            generator.fit(table, DISCRETE)
    finally:
        hook.remove()
    return generator


def steps(rows: int, options: params.Synthesize) -> int:
    """How many optimizer steps a fit takes: two a batch for the GAN, one for the autoencoder."""
    if options.model == "ctgan":
        return 2 * options.epochs * max(rows // options.batch_size, 1)
    return options.epochs * -(-rows // options.batch_size)


def complete(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fill missing values with those of random patients with the same outcome.

    The generators take no missing numbers; `mask` brings the missing values back. A measurement
    that no patient has is left out.
    """
    random = np.random.default_rng(seed)
    filled = table[[measurement.name for measurement in COLUMNS]].copy()
    for name in NAMES:
        for outcome in OUTCOME.choices:
            missing = (filled[name] == "") & (filled[OUTCOME.name] == outcome.name)
            if missing.any():
                known = filled[name] != ""
                alike = known & (filled[OUTCOME.name] == outcome.name)
                donors = filled.loc[alike if alike.any() else known, name].to_numpy()
                if len(donors):
                    filled.loc[missing, name] = random.choice(donors, int(missing.sum()))
    unknown = [name for name in NAMES if (filled[name] == "").any()]
    if unknown:
        raise StageError(
            f"{files.TRAIN}: no row has {', '.join(unknown)}, expected some to learn from"
        )
    return filled.astype(dict.fromkeys(CONTINUOUS, float))


def mask(synthetic: pd.DataFrame, real: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Give each synthetic patient the missing measurements of a random real one of the same outcome."""
    masked = synthetic.copy()
    for outcome in OUTCOME.choices:
        rows = np.flatnonzero(synthetic[OUTCOME.name] == outcome.name)
        patterns = (real.loc[real[OUTCOME.name] == outcome.name, list(NAMES)] == "").to_numpy()
        drawn = patterns[random.integers(len(patterns), size=len(rows))]
        for position, name in enumerate(NAMES):
            masked.loc[masked.index[rows[drawn[:, position]]], name] = ""
    return masked


def _texts(measurement: Measurement, values: pd.Series, real: pd.Series) -> pd.Series:
    """Generated values as the schema writes them, "" where it does not allow them.

    A lower bound that real patients stand on (no ST depression at all) gathers what lies below it.
    """
    if measurement.name in DISCRETE:
        return values.astype(str)
    if (real == measurement.text(measurement.low)).any():
        values = values.clip(lower=measurement.low)
    stepped = (values / measurement.step).round() * measurement.step
    inside = stepped.between(measurement.low, measurement.high)
    return stepped.round(6).map(measurement.text).where(inside, "")


def draw(
    generator: Any, real: pd.DataFrame, rows: int, seed: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Valid synthetic patients, none a copy of a real one, and how many were redrawn for what.

    Raises StageError when the generator makes hardly any.
    """
    random = np.random.default_rng(seed)
    copies_of = set(map(tuple, real[list(NAMES)].to_numpy()))
    redrawn = {"invalid_rows": 0, "copied_rows": 0}
    parts: list[pd.DataFrame] = []
    found = 0
    generator.set_random_state(seed)
    for _ in range(REDRAWS):
        raw = generator.sample(rows)
        texts = pd.DataFrame({m.name: _texts(m, raw[m.name], real[m.name]) for m in COLUMNS})
        valid = (texts != "").all(axis=1)
        masked = mask(texts[valid].reset_index(drop=True), real, random)
        copied = masked[list(NAMES)].apply(tuple, axis=1).isin(copies_of)
        redrawn["invalid_rows"] += int((~valid).sum())
        redrawn["copied_rows"] += int(copied.sum())
        parts.append(masked[~copied])
        found += len(parts[-1])
        if found >= rows:
            return pd.concat(parts, ignore_index=True).head(rows), redrawn
    raise StageError(
        f"{found} of {rows} synthetic rows are valid after {REDRAWS} draws: train longer"
    )


def _work(
    tag: str, real: pd.DataFrame, options: params.Synthesize, ticks: Any
) -> tuple[str, Any, pd.DataFrame, dict[str, int]]:
    """One generator, in a process of its own."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count % 100 == 0:
            ticks.put(100)

    generator = fit_generator(complete(real, options.seed), options, tick)
    ticks.put(count % 100)
    synthetic, redrawn = draw(generator, real, options.rows, options.seed)
    return tag, generator if tag == ALL else None, synthetic.assign(fold=tag), redrawn


def generate(
    train: pd.DataFrame, options: params.Synthesize
) -> tuple[Any, pd.DataFrame, dict[str, int]]:
    """Fit all generators side by side: the one of all rows, the tagged patients, the redraw counts."""
    parts = {ALL: train}
    parts |= {fold: train[train["fold"] != fold] for fold in sorted(train["fold"].unique())}
    context = multiprocessing.get_context("spawn")
    workers = min(len(parts), len(os.sched_getaffinity(0)))
    total = sum(steps(len(part), options) for part in parts.values())
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool,
        tqdm(
            total=total,
            desc=f"{len(parts)} generators",
            unit=" steps",
            unit_scale=True,
            mininterval=0.5 if sys.stderr.isatty() else 15,
        ) as bar,
    ):
        ticks = manager.Queue()
        futures = [pool.submit(_work, tag, part, options, ticks) for tag, part in parts.items()]
        for done in _ticks(futures, ticks):
            bar.update(done)
        results = [future.result() for future in futures]
    redrawn = {key: sum(r[3][key] for r in results) for key in results[0][3]}
    return results[0][1], pd.concat([r[2] for r in results], ignore_index=True), redrawn


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _ticks(futures: list[Future[Any]], ticks: Any) -> Iterator[int]:
    """The steps done, as they come, until all futures are. A failed future ends it at once."""
    while wait(futures, timeout=0).not_done:
        if any(future.done() and future.exception() for future in futures):
            for future in futures:
                future.cancel()
            return
        try:
            yield ticks.get(timeout=0.5)
        except queue.Empty:
            continue
    while not ticks.empty():
        yield ticks.get()


def utility(train: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, float]:
    """ROC AUC on the real rows of each fold, of models trained on real, synthetic and both rows.

    The mean over the folds, and its standard deviation. The model is the pipeline's own.
    """
    scores: dict[str, list[float]] = {"trtr_auc": [], "tstr_auc": [], "merged_auc": []}
    for fold in sorted(train["fold"].unique()):
        held_out, outcome = files.encoded(train[train["fold"] == fold])
        real, y_real = files.encoded(train[train["fold"] != fold])
        fake, y_fake = files.encoded(synthetic[synthetic["fold"] == fold])
        # All synthetic rows together weigh as much as all real ones: the ridge means the same.
        each = np.full(len(fake), len(real) / len(fake))
        for name, rows, y, weight in (
            ("trtr_auc", real, y_real, np.ones(len(real))),
            ("tstr_auc", fake, y_fake, each),
            (
                "merged_auc",
                np.vstack([real, fake]),
                np.append(y_real, y_fake),
                np.append(np.ones(len(real)), each),
            ),
        ):
            model = ChainedLogisticRegression().fit(rows, y, weight)
            scores[name].append(roc_auc(outcome, model.predict_proba(held_out)[:, 1]))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return means | {f"{name}_std": float(np.std(values)) for name, values in scores.items()}


def gower(table: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The distance [n] of each row to the closest of the others.

    Gower's: the mean over the measurements of the difference relative to the bounds, or of being
    different at all; a value that one of two rows lacks counts as a difference.
    """
    a, b = (
        encode({name: t[name].tolist() for name in NAMES}).astype(float) for t in (table, others)
    )
    total = np.zeros((len(a), len(b)))
    for column, measurement in enumerate(MEASUREMENTS):
        left, right = a[:, column, None], b[None, :, column]
        if measurement.choices:
            difference = (left != right).astype(float)
        else:
            difference = np.abs(left - right) / (measurement.high - measurement.low)
        both_missing = np.isnan(left) & np.isnan(right)
        total += np.where(both_missing, 0.0, np.nan_to_num(difference, nan=1.0))
    closest: npt.NDArray[np.float64] = total.min(axis=1) / len(MEASUREMENTS)
    return closest


def privacy(train: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, float]:
    """`dcr_ratio`: the median distance to the closest training row, synthetic against held-out real.

    About 1 or more: synthetic patients are no closer to the generator's patients than strangers are.
    """
    ours, strangers = [], []
    for fold in sorted(train["fold"].unique()):
        known = train[train["fold"] != fold]
        ours.append(gower(synthetic[synthetic["fold"] == fold].head(len(train)), known))
        strangers.append(gower(train[train["fold"] == fold], known))
    return {
        "dcr_ratio": float(np.median(np.concatenate(ours)) / np.median(np.concatenate(strangers)))
    }


def fidelity(real: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, float]:
    """The mean column-shape and pair-trend scores of sdmetrics, 0 (worst) to 1."""
    from sdmetrics.reports import QualityReport

    tables = [{"patients": _typed(table)} for table in (real, synthetic)]
    kinds = {m.name: "categorical" if m.choices else "numerical" for m in COLUMNS}
    columns = {name: {"sdtype": kind} for name, kind in kinds.items()}
    metadata = {"tables": {"patients": {"columns": columns}}}
    report = QualityReport()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sdmetrics on columns with missing values
        report.generate(*tables, metadata, verbose=False)
    values = report.get_properties().set_index("Property")["Score"]
    return {
        "column_shapes": float(values["Column Shapes"]),
        "pair_trends": float(values["Column Pair Trends"]),
    }


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Texts as numbers and categories, for sdmetrics."""
    columns = {m.name: table[m.name].replace("", np.nan) for m in COLUMNS}
    return pd.DataFrame(
        {m.name: columns[m.name] if m.choices else columns[m.name].astype(float) for m in COLUMNS}
    )


def plot(real: pd.DataFrame, synthetic: pd.DataFrame, path: Any) -> None:
    """Draw real against synthetic distributions of all columns."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 5, figsize=(17, 9), layout="constrained")
    for axis, measurement in zip(axes.flat, COLUMNS, strict=False):
        for table, label, shift in ((real, "real", -0.2), (synthetic, "synthetic", 0.2)):
            _draw_column(axis, measurement, table[measurement.name], label, shift)
        axis.set_title(measurement.label.en, fontsize=10, wrap=True)
        axis.set_xlabel(measurement.unit, fontsize=8)
        axis.tick_params(labelsize=8)
    axes.flat[0].legend()
    for axis in axes.flat[len(COLUMNS) :]:
        axis.set_visible(False)
    with files.replacing(path) as part:
        figure.savefig(part, format="png", dpi=80, metadata={"Software": None})
    plt.close(figure)


def _draw_column(
    axis: Any, measurement: Measurement, cells: pd.Series, label: str, shift: float
) -> None:
    cells = cells[cells != ""]
    if measurement.name in CONTINUOUS:
        axis.hist(cells.astype(float), bins=20, density=True, alpha=0.55, label=label)
        return
    names = [c.name for c in measurement.choices] or [
        measurement.text(v) for v in np.arange(measurement.low, measurement.high + 1)
    ]
    shares = cells.value_counts(normalize=True).reindex(names, fill_value=0)
    axis.bar(np.arange(len(names)) + shift, shares, width=0.4, label=label)
    axis.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])


def metrics_of(train: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, Any]:
    """All figures of metrics/synthesize.json but the redraw counts."""
    final = synthetic[synthetic["fold"] == ALL]
    known = set(map(tuple, train[list(NAMES)].to_numpy()))
    copies = sum(tuple(row) in known for row in final[list(NAMES)].to_numpy())
    missing = {
        name: {
            "real": float((train[name] == "").mean()),
            "synthetic": float((final[name] == "").mean()),
        }
        for name in NAMES
        if (train[name] == "").any()
    }
    return {
        **utility(train, synthetic),
        **fidelity(train, final),
        **privacy(train, synthetic),
        "exact_copies": copies,
        "missing_rate": missing,
        "rows": len(synthetic),
    }


def main() -> None:
    options = params.Synthesize.load()
    train = files.read_table(files.TRAIN)
    generator, synthetic, redrawn = generate(train, options)
    columns = ["fold", *(measurement.name for measurement in COLUMNS)]
    files.write_table(files.SYNTHETIC, synthetic[columns])
    with files.replacing(files.GENERATOR) as part:
        joblib.dump(generator, part)
    plot(train, synthetic[synthetic["fold"] == ALL], files.PLOTS / "synthetic.png")
    files.write_metrics("synthesize", {**metrics_of(train, synthetic), **redrawn})


if __name__ == "__main__":
    main_of(main)
