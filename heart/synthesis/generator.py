"""A generator of synthetic patients: fitting it, and drawing valid patients from it."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import joblib
import numpy as np
import pandas as pd

from heart.errors import UserError
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Measurement

COLUMNS = (*MEASUREMENTS, OUTCOME)
CONTINUOUS = [m.name for m in COLUMNS if not m.choices and (m.high - m.low) / m.step > 10]
PILE = 0.1  # the share of patients with the lowest value from which on it is a bound
DISCRETE = [m.name for m in COLUMNS if m.name not in CONTINUOUS]
REDRAWS = 50


class GeneratorOptions(Protocol):
    """The parameters of a fit, as in section `synthesize` of params.yaml."""

    @property
    def model(self) -> str:
        """`ctgan` or `tvae`."""

    @property
    def epochs(self) -> int:
        """Passes over the rows."""

    @property
    def batch_size(self) -> int:
        """Rows in an optimizer step."""

    @property
    def embedding_dim(self) -> int:
        """Random numbers that a synthetic row is made from."""

    @property
    def layers(self) -> list[int]:
        """Widths of the hidden layers."""

    @property
    def learning_rate(self) -> float:
        """Of CTGAN."""

    @property
    def seed(self) -> int:
        """Of all random numbers."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `auto`."""


def fit_generators(
    tables: Sequence[pd.DataFrame], options: GeneratorOptions, tick: Callable[[], object]
) -> list[Any]:
    """Fit a generator on each table of complete rows (`complete`); `tick` is called after each step.

    One thread: torch repeats its sums only for a fixed number of them.
    """
    import torch
    from ctgan import TVAE

    from heart.synthesis.stacked import StackedCTGAN

    torch.set_num_threads(1)
    torch.cuda.manual_seed_all(options.seed)  # the library seeds those of the processor alone
    settings = library_settings(options)
    with warnings.catch_warnings(), joblib.parallel_config("sequential"):
        warnings.simplefilter("ignore")  # from the mixture models inside, on constant columns
        if options.model == "ctgan":
            return StackedCTGAN(settings, DISCRETE, options.seed).fit(tables, tick)
        return [_fit_tvae(TVAE(**settings), table, options.seed, tick) for table in tables]


def library_settings(options: GeneratorOptions) -> dict[str, Any]:
    """The options as arguments of ctgan's classes."""
    layers, rate = tuple(options.layers), options.learning_rate
    common: dict[str, Any] = {
        "embedding_dim": options.embedding_dim,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "enable_gpu": device_of(options.device) == "cuda",
    }
    if options.model == "tvae":
        return common | {"compress_dims": layers, "decompress_dims": layers}
    return common | {
        "generator_dim": layers, "discriminator_dim": layers,
        "generator_lr": rate, "discriminator_lr": rate,
    }  # fmt: skip


def _fit_tvae(generator: Any, table: pd.DataFrame, seed: int, tick: Callable[[], object]) -> Any:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    generator.set_random_state(seed)

    def step(*_: Any) -> None:
        tick()

    hook = register_optimizer_step_post_hook(step)
    try:
        generator.fit(table, DISCRETE)
    finally:
        hook.remove()
    return generator


def device_of(device: str) -> str:
    """`cpu` or `cuda`, where `auto` is a GPU if there is one. Raises UserError where it is missing."""
    import torch

    available = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and available == "cpu":
        raise UserError("synthesize.device is cuda, but torch finds no GPU; expected cpu or auto")
    return available if device == "auto" else device


def steps(rows: Sequence[int], options: GeneratorOptions) -> int:
    """How many steps the fits of tables with so many rows take: CTGAN's are fitted together."""
    if options.model == "ctgan":
        return options.epochs * max(max(rows) // options.batch_size, 1)
    return sum(options.epochs * -(-count // options.batch_size) for count in rows)


def complete(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fill missing values with those of random patients with the same outcome.

    The generators take no missing numbers; `mask` brings the missing values back. A measurement that no
    patient has is a constant, so that `mask` removes it from every synthetic row.
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
    for measurement in MEASUREMENTS:
        if (filled[measurement.name] == "").all():
            first = (
                measurement.choices[0].name
                if measurement.choices
                else measurement.text(measurement.low)
            )
            filled[measurement.name] = first
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


def choice_texts(measurement: Measurement, values: pd.Series, real: pd.Series) -> pd.Series:
    """Generated values as the schema writes them, "" where it does not allow them.

    If many real patients have the lowest value (no ST depression at all), lower ones become that value.
    """
    if measurement.name in DISCRETE:
        return values.astype(str)
    numbers = pd.to_numeric(real)
    if (numbers == numbers.min()).mean() >= PILE:
        values = values.clip(lower=numbers.min())
    stepped = (values / measurement.step).round() * measurement.step
    inside = stepped.between(measurement.low, measurement.high)
    return stepped.round(6).map(measurement.text).where(inside, "")


def draw(
    generator: Any, real: pd.DataFrame, rows: int, seed: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Valid synthetic patients, none a copy of a real one, and how many were redrawn for what.

    Raises UserError when the generator makes hardly any.
    """
    random = np.random.default_rng(seed)
    copies_of = set(map(tuple, real[list(NAMES)].to_numpy()))
    redrawn = {"invalid_rows": 0, "copied_rows": 0}
    parts: list[pd.DataFrame] = []
    valid_rows = 0
    generator.set_random_state(seed)
    for _ in range(REDRAWS):
        raw = generator.sample(rows)
        texts = pd.DataFrame({m.name: choice_texts(m, raw[m.name], real[m.name]) for m in COLUMNS})
        valid = (texts != "").all(axis=1)
        masked = mask(texts[valid].reset_index(drop=True), real, random)
        copied = masked[list(NAMES)].apply(tuple, axis=1).isin(copies_of)
        redrawn["invalid_rows"] += int((~valid).sum())
        redrawn["copied_rows"] += int(copied.sum())
        parts.append(masked[~copied])
        valid_rows += len(parts[-1])
        if valid_rows >= rows:
            return pd.concat(parts, ignore_index=True).head(rows), redrawn
    raise UserError(
        f"{valid_rows} of {rows} synthetic rows are valid after {REDRAWS} draws: train longer"
    )
