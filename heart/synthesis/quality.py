"""How similar synthetic patients are to real ones."""

import math
import warnings
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from heart import files
from heart.schema import Measurement
from heart.synthesis.generator import COLUMNS, CONTINUOUS

matplotlib.use("Agg")


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

    rows = math.ceil(len(COLUMNS) / 5)
    figure, axes = plt.subplots(rows, 5, figsize=(17, 3 * rows), layout="constrained")
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
