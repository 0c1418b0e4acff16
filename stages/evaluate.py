"""Stage evaluate: scores of the ONNX model on real held-out patients, bootstrap intervals, and plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart import files
from heart.errors import UserError, run_main
from heart.ml.groups import groups
from heart.ml.onnx_export import predict
from heart.ml.scores import Array, roc_auc, with_intervals
from heart.schema import NAMES
from stages import params

POINTS = 1000  # of a curve; more are not visible


def evaluate(
    test: pd.DataFrame, outcome: Array, probability: Array, options: params.Evaluate
) -> dict[str, Any]:
    """Every score with its 95 % bootstrap interval, for all patients and by group."""
    if len(np.unique(outcome)) < 2:
        raise UserError(
            f"{files.TEST}: all {len(test)} outcomes are equal, expected both (section split)"
        )
    figures = _scores(outcome, probability, options) | {"threshold": options.threshold}
    figures["groups"] = {
        name: _scores(outcome[rows], probability[rows], options)
        for name, rows in groups(test).items()
        if rows.any()
    }
    return figures


def _scores(outcome: Array, probability: Array, options: params.Evaluate) -> dict[str, Any]:
    figures = with_intervals(
        outcome, probability, options.bootstrap, options.seed, options.threshold, options.bins
    )
    return {**figures, "rows": len(outcome), "presence": int(outcome.sum())}


def importance(model: bytes, rows: npt.NDArray[np.float32], outcome: Array) -> pd.DataFrame:
    """The decrease of ROC AUC when one measurement is withheld from every patient."""
    full = roc_auc(outcome, predict(model, rows))
    rows_of_table = []
    for column, name in enumerate(NAMES):
        incomplete = rows.copy()
        incomplete[:, column] = np.nan
        decrease = full - roc_auc(outcome, predict(model, incomplete))
        rows_of_table.append({"measurement": name, "roc_auc_lost": decrease})
    return pd.DataFrame(rows_of_table).sort_values(
        "roc_auc_lost", ascending=False, ignore_index=True
    )


def curves(outcome: Array, probability: Array, options: params.Evaluate) -> dict[str, pd.DataFrame]:
    """The points of each plot, by file name."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    fpr, tpr, _ = roc_curve(outcome, probability)
    precision, recall, _ = precision_recall_curve(outcome, probability)
    label = {0.0: "absence", 1.0: "presence"}
    predicted = (probability >= options.threshold).astype(float)
    return {
        "roc": _thin(pd.DataFrame({"false_positive_rate": fpr, "true_positive_rate": tpr})),
        "precision_recall": _thin(pd.DataFrame({"recall": recall, "precision": precision})),
        "calibration": calibration(outcome, probability, options.bins),
        "confusion": pd.DataFrame(
            {"actual": [label[v] for v in outcome], "predicted": [label[v] for v in predicted]}
        ),
        "decision": decision(outcome, probability),
    }


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS points of a curve, with both ends."""
    indices = np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).round().astype(int)
    return curve.iloc[indices]


def calibration(outcome: Array, probability: Array, bins: int) -> pd.DataFrame:
    """Mean predicted risk and share of presence in groups of equally many patients."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return pd.DataFrame(
        {
            "predicted": [probability[part].mean() for part in parts],
            "observed": [outcome[part].mean() for part in parts],
            "patients": [len(part) for part in parts],
        }
    )


def decision(outcome: Array, probability: Array) -> pd.DataFrame:
    """Net benefit by threshold of the model, of treating all and of treating none (Vickers and Elkin 2006)."""
    thresholds = np.arange(1, 20) / 20
    policies = {
        "model": probability[None] >= thresholds[:, None],
        "treat_all": np.ones((len(thresholds), len(outcome)), dtype=bool),
        "treat_none": np.zeros((len(thresholds), len(outcome)), dtype=bool),
    }
    odds = thresholds / (1 - thresholds)
    benefits = {
        name: (treated * outcome).mean(axis=1) - odds * (treated * (1 - outcome)).mean(axis=1)
        for name, treated in policies.items()
    }
    return pd.DataFrame({"threshold": thresholds, **benefits})


def write_plots(plots: Mapping[str, pd.DataFrame]) -> None:
    """Write plots/NAME.csv, which `dvc plots` draws."""
    for name, points in plots.items():
        files.write_table(files.PLOTS / f"{name}.csv", points.round(6), files.PUBLIC)


def main() -> None:
    options = params.Evaluate.load()
    model, test = files.ONNX.read_bytes(), files.read_table(files.TEST)
    rows, labels = files.encoded(test)
    outcome, probability = labels.astype(float), predict(model, rows).astype(float)
    figures = evaluate(test, outcome, probability, options)
    plots = curves(outcome, probability, options)
    write_plots(plots | {"importance": importance(model, rows, outcome)})
    files.write_metrics("evaluate", figures)


if __name__ == "__main__":
    run_main(main)
