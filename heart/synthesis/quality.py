"""How similar synthetic patients are to real ones, and how far from copies of them."""

import warnings
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd

from heart import files
from heart.schema import MEASUREMENTS, NAMES, Measurement, encode
from heart.synthesis.generator import COLUMNS, CONTINUOUS

matplotlib.use("Agg")


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
    synthetic_distances, real_distances = [], []
    for fold in sorted(train["fold"].unique()):
        known = train[train["fold"] != fold]
        synthetic_distances.append(
            gower(synthetic[synthetic["fold"] == fold].head(len(train)), known)
        )
        real_distances.append(gower(train[train["fold"] == fold], known))
    return {
        "dcr_ratio": float(
            np.median(np.concatenate(synthetic_distances))
            / np.median(np.concatenate(real_distances))
        )
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
    columns = {m.name: table[m.name].where(table[m.name] != "") for m in COLUMNS}
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
        axis.set_title(measurement.name.replace("_", " "), fontsize=10, wrap=True)
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
