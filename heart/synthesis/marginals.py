"""Synthetic patients with differential privacy: noisy tables of each measurement by outcome, and a sampler.

A patient is in one cell of each of 13 tables (a measurement's public bin by the outcome), so one patient more or
fewer changes the counts by sqrt(13) in the L2 norm. OpenDP adds discrete Gaussian noise (Canonne, Kamath and Steinke,
2020) of the scale that gives (epsilon, delta) through zero-concentrated differential privacy. All that follows reads the
noisy counts alone. Given the outcome, measurements are drawn independently: tables of pairs of measurements would need
more patients than a hospital has for a useful count.

The noise is from the operating system's random numbers and has no seed: whoever knows a seed could subtract the noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

from heart.schema import MEASUREMENTS, OUTCOME, Measurement

Array = npt.NDArray[np.float64]

NEIGHBORS = "one patient (patient_id, of whom the first row counts) more or fewer in data/train.csv"
# Inner edges of the bins: round numbers of clinical use, never taken from patients.
EDGES: Mapping[str, tuple[float, ...]] = {
    "age": (40, 50, 55, 60, 65, 75),
    "resting_bp": (110, 120, 130, 140, 160, 180),
    "cholesterol": (150, 200, 240, 280, 320, 400),
    "max_heart_rate": (90, 110, 130, 150, 170, 190),
    "st_depression": (0, 0.1, 1, 2, 3, 5),
    "major_vessels": (1, 2, 3),
}
# Where the first and last bin of a number end in synthetic patients: rarer values are not drawn.
ENDS: Mapping[str, tuple[float, float]] = {
    "age": (30, 80),
    "resting_bp": (90, 200),
    "cholesterol": (120, 500),
    "max_heart_rate": (70, 210),
    "st_depression": (-0.1, 6.5),
    "major_vessels": (0, 3),
}
TILT = 1.0  # prior standard deviation of the log ratio of a bin between the outcomes


@dataclass(frozen=True)
class Privacy:
    """What one generator guarantees: noise of `scale` gives `rho`, and so epsilon at delta."""

    epsilon: float
    delta: float
    rho: float
    scale: float


def bins(measurement: Measurement) -> int:
    """How many cells a measurement has for each outcome: its bins or categories, and missing last."""
    known = len(measurement.choices) or len(EDGES[measurement.name]) + 1
    return known + (not measurement.required)


def counts(table: pd.DataFrame) -> list[npt.NDArray[np.int64]]:
    """For each measurement the counts [outcomes, bins]; a patient's second row does not count."""
    if "patient_id" in table:
        table = table.drop_duplicates("patient_id")
    presence = (table[OUTCOME.name] == "presence").to_numpy().astype(int)
    result = []
    for measurement in MEASUREMENTS:
        codes = np.array([measurement.parse(cell) for cell in table[measurement.name]])
        known = codes if measurement.choices else np.digitize(codes, EDGES[measurement.name])
        # A required measurement that is missing all the same would fall out of the table: into the first bin.
        absent = 0 if measurement.required else bins(measurement) - 1
        cell = np.where(np.isnan(codes), absent, np.nan_to_num(known)).astype(int)
        counted = np.zeros((len(OUTCOME.choices), bins(measurement)), dtype=np.int64)
        np.add.at(counted, (presence, cell), 1)
        result.append(counted)
    return result


def _mechanism(scale: float) -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    return dp.m.make_gaussian(*space, scale)


def _epsilon(scale: float, patients: float, delta: float) -> float:
    """Epsilon of noise for the data of so many patients in all tables (OpenDP's conversion)."""
    import opendp.prelude as dp

    measurement = dp.c.make_zCDP_to_approxDP(_mechanism(scale))
    return float(measurement.map(patients * math.sqrt(len(MEASUREMENTS))).epsilon(delta))


def privacy_of(epsilon: float, delta: float) -> Privacy:
    """The smallest scale of noise that keeps epsilon at delta."""
    low, high = 1e-3, 1e6
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _epsilon(middle, 1, delta) <= epsilon else (middle, high)
    return Privacy(epsilon, delta, len(MEASUREMENTS) / (2 * high**2), high)


def composed_epsilon(privacy: Privacy, generators: int) -> float:
    """Epsilon at the same delta of several generators together, of which each has seen a patient.

    rho adds up, as if one generator had noise smaller by the square root of their number.
    """
    return _epsilon(privacy.scale / math.sqrt(generators), 1, privacy.delta)


def guarantee(privacy: Privacy, generators: int) -> dict[str, Any]:
    """What a table of several generators guarantees; each patient has been seen by so many of them."""
    return {
        "dp_epsilon": privacy.epsilon,
        "dp_delta": privacy.delta,
        "dp_neighbors": NEIGHBORS,
        "dp_accounting": "zCDP, discrete Gaussian noise (OpenDP)",
        "dp_noise_scale": privacy.scale,
        "dp_rho": privacy.rho,
        "dp_generators_with_a_patient": generators,
        "dp_epsilon_of_all_generators": composed_epsilon(privacy, generators),
    }


class Marginals:
    """A sampler of patients from noisy tables."""

    def __init__(self, tables: list[Array], scale: float) -> None:
        totals = np.maximum(np.mean([table.sum(axis=1) for table in tables], axis=0), 1.0)
        self.outcomes: Array = totals / totals.sum()
        self.shares = [
            shares(measurement, table, totals, scale)
            for measurement, table in zip(MEASUREMENTS, tables, strict=True)
        ]

    def sample(self, rows: int, random: np.random.Generator) -> pd.DataFrame:
        """Valid patients, in the schema's texts."""
        presence = random.choice(len(self.outcomes), rows, p=self.outcomes)
        columns = {}
        for measurement, by_outcome in zip(MEASUREMENTS, self.shares, strict=True):
            drawn = np.zeros(rows, dtype=int)
            for outcome, share in enumerate(by_outcome):
                which = presence == outcome
                drawn[which] = random.choice(len(share), int(which.sum()), p=share)
            columns[measurement.name] = _texts(measurement, drawn, random)
        columns[OUTCOME.name] = [OUTCOME.choices[code].name for code in presence]
        return pd.DataFrame(columns)


def noisy(table: pd.DataFrame, scale: float) -> Array:
    """All counts in one row, with noise."""
    exact = np.concatenate([counted.ravel() for counted in counts(table)])
    return np.array(_mechanism(scale)(exact.tolist()), dtype=float)


def fit(table: pd.DataFrame, privacy: Privacy) -> Marginals:
    """A sampler that has seen noisy counts alone."""
    shapes = [(len(OUTCOME.choices), bins(measurement)) for measurement in MEASUREMENTS]
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    parts = np.split(noisy(table, privacy.scale), ends)
    tables = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return Marginals(tables, privacy.scale)


def shares(measurement: Measurement, table: Array, totals: Array, scale: float) -> Array:
    """The most probable shares [outcomes, bins] behind noisy counts.

    The outcomes have one distribution in common, tilted by a logarithm that is linear in a number and free for a
    category. Its prior is normal around 0, and where medicine is sure of the direction (`risk`), the tilt has its sign.
    """
    basis, bounds = _tilts(measurement, table.shape[1])
    variance = scale**2 + np.maximum(table, 1.0)
    cells = table.shape[1]
    start = np.maximum(table.sum(axis=0), 0) + 1.0

    def distribution(parameters: Array) -> Array:
        tilt = basis @ parameters[cells:]
        logs = parameters[:cells] + np.array([[-0.5], [0.5]]) * tilt
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
        result: Array = powers / powers.sum(axis=1, keepdims=True)
        return result

    def loss(parameters: Array) -> float:
        error = table - totals[:, None] * distribution(parameters)
        smooth = np.diff(parameters[:cells], 2) if not measurement.choices else np.zeros(1)
        prior = ((parameters[cells:] / TILT) ** 2).sum() + 0.1 * (smooth**2).sum()
        prior += 0.05 * (parameters[:cells] ** 2).sum()
        return float((error**2 / variance).sum() + prior) / 2

    first = np.append(np.log(start) - np.log(start).mean(), np.zeros(basis.shape[1]))
    free = [(None, None)] * cells
    minimum = minimize(loss, first, method="L-BFGS-B", bounds=[*free, *bounds])
    return distribution(minimum.x)


def _tilts(
    measurement: Measurement, cells: int
) -> tuple[Array, list[tuple[float | None, float | None]]]:
    """The basis [bins, parameters] of a tilt, and the bounds of its parameters; missing has no tilt."""
    signs = {1: (0.0, None), -1: (None, 0.0), 0: (None, None)}
    if measurement.choices:
        basis = np.zeros((cells, len(measurement.choices) - 1))
        basis[1 : len(measurement.choices)] = np.eye(len(measurement.choices) - 1)
        return basis, [signs[choice.risk] for choice in measurement.choices[1:]]
    known = len(EDGES[measurement.name]) + 1
    basis = np.zeros((cells, 1))
    basis[:known, 0] = np.linspace(-1.5, 1.5, known)
    return basis, [signs[measurement.risk]]


def _texts(
    measurement: Measurement, drawn: npt.NDArray[np.int_], random: np.random.Generator
) -> list[str]:
    """A value of each bin, uniform within it; "" of the missing one."""
    known = bins(measurement) - (not measurement.required)
    if measurement.choices:
        names = [*(choice.name for choice in measurement.choices), ""]
        return [names[cell] for cell in drawn]
    low, high = ENDS[measurement.name]
    edges = np.array([low, *EDGES[measurement.name], high + measurement.step])
    inside = np.minimum(drawn, known - 1)
    first = np.round(edges[inside] / measurement.step)
    last = np.round(edges[inside + 1] / measurement.step)
    steps = np.floor(first + random.random(len(drawn)) * np.maximum(last - first, 1))
    values = np.round(steps * measurement.step, 6) + 0.0
    return [
        measurement.text(float(value)) if cell < known else ""
        for value, cell in zip(values, drawn, strict=True)
    ]
