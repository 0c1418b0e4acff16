"""Stage synthesize: synthetic patients from CTGAN, TVAE or noisy tables, one generator for each fold and one for all.

A fold's generator is fitted without the fold's rows, so that its patients may help to train a model
that is scored on them. The generators are fitted side by side, one process and one torch thread
each: CTGAN repeats its samples only for a fixed number of threads.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing.managers import SyncManager
from typing import Any

import joblib
import numpy as np
import pandas as pd

from heart import files
from heart.errors import run_main
from heart.progress import progress
from heart.schema import NAMES
from heart.subsample import subsample
from heart.synthesis import marginals
from heart.synthesis.generator import COLUMNS, complete, device_of, draw, fit_generator, steps
from heart.synthesis.quality import fidelity, plot, privacy
from stages import params


def _work(
    tag: str, real: pd.DataFrame, options: params.Synthesize, ticks: Any
) -> tuple[pd.DataFrame, dict[str, int]]:
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
    return synthetic.assign(fold=tag), redrawn


def generate(
    train: pd.DataFrame, options: params.Synthesize
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Fit all generators side by side: the synthetic patients, by fold, and the counts of redraws."""
    parts = {files.ALL: train}
    parts |= {fold: train[train["fold"] != fold] for fold in sorted(train["fold"].unique())}
    context = multiprocessing.get_context("spawn")
    workers = min(len(parts), joblib.cpu_count())
    total = sum(steps(len(part), options) for part in parts.values())
    messages = SyncManager(ctx=context)
    messages.start(_end_with_the_stage)
    with (
        messages as manager,
        ProcessPoolExecutor(workers, context, initializer=_start) as pool,
        progress(None, f"{len(parts)} generators", "steps", total) as bar,
    ):
        ticks = manager.Queue()
        futures = [pool.submit(_work, tag, part, options, ticks) for tag, part in parts.items()]
        for done in _ticks(futures, ticks):
            bar.update(done)
        results = [future.result() for future in futures]
    redrawn = {key: sum(r[1][key] for r in results) for key in results[0][1]}
    return pd.concat([r[0] for r in results], ignore_index=True), redrawn


def _start() -> None:
    """In each worker, once."""
    import torch

    _end_with_the_stage()
    torch.set_num_threads(1)


def _end_with_the_stage() -> None:
    """Have this process end when the stage is killed, which leaves the stage no time to end it."""
    stage = multiprocessing.parent_process()
    assert stage

    def watch() -> None:
        stage.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _ticks(futures: list[Future[Any]], ticks: Any) -> Iterator[int]:
    """The steps done, as they come, until all futures are. After one that failed, what waits never starts."""
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


def metrics_of(train: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, Any]:
    """What metrics/synthesize.json says of synthetic patients beside those they were learnt from."""
    final = synthetic[synthetic["fold"] == files.ALL]
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
        **fidelity(train, final),
        **privacy(train, synthetic),
        "exact_copies": copies,
        "missing_rate": missing,
        "rows": len(synthetic),
    }


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
    figures = metrics_of(used, synthetic) | counts
    files.write_metrics("synthesize", figures | {"device": device_of(options.device)})


if __name__ == "__main__":
    run_main(main)
