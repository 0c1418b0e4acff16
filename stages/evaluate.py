"""Stage evaluate: scores of the ONNX model on real held-out patients, bootstrap intervals, and plots."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart import files
from heart.errors import UserError, run_main
from heart.ml.curves import calibration, confusion, curve, decision
from heart.ml.groups import groups
from heart.ml.onnx_export import predict
from heart.ml.scores import Array, roc_auc, with_intervals
from heart.schema import NAMES
from stages import params

# The headline figures: on held-out patients, and of cross-validation. `dvc exp show` has room for a few.
HELD_OUT = ("roc_auc", "roc_auc_low", "roc_auc_high", "brier", "recall")
CROSS_VALIDATED = ("cv_roc_auc", "cv_brier")


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


def headline(figures: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that experiments are compared by; all others are in metrics/evaluate.json and train.json."""
    held_out = {name: figures[name] for name in HELD_OUT}
    return held_out | {name: trained[name] for name in CROSS_VALIDATED}


def importance(model: bytes, rows: npt.NDArray[np.float32], outcome: Array) -> pd.DataFrame:
    """The decrease of ROC AUC when one measurement is withheld from every patient."""
    full = roc_auc(outcome, predict(model, rows))
    rows_of_table = []
    for column, name in enumerate(NAMES):
        incomplete = rows.copy()
        incomplete[:, column] = np.nan
        decrease = full - roc_auc(outcome, predict(model, incomplete))
        rows_of_table.append({"measurement": name.replace("_", " "), "roc_auc_lost": decrease})
    return pd.DataFrame(rows_of_table).sort_values(
        "roc_auc_lost", ascending=False, ignore_index=True
    )


def curves(
    outcome: Array, probability: Array, figures: Mapping[str, Any], options: params.Evaluate
) -> dict[str, pd.DataFrame]:
    """The points of each plot, by file name; `label` is the legend of a curve."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    fpr, tpr, _ = roc_curve(outcome, probability)
    precision, recall, _ = precision_recall_curve(outcome, probability)
    area = (
        "ROC AUC {roc_auc:.3f} (95 % interval {roc_auc_low:.3f} to {roc_auc_high:.3f})".format_map(
            figures
        )
    )
    average = f"average precision {average_precision_score(outcome, probability):.3f}"
    return {
        "roc": curve({"false_positive_rate": fpr, "true_positive_rate": tpr}, area),
        "precision_recall": curve({"recall": recall, "precision": precision}, average),
        "calibration": calibration(outcome, probability, options.bins),
        "confusion": confusion(outcome, probability >= options.threshold),
        "decision": decision(outcome, probability),
    }


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
    plots = curves(outcome, probability, figures, options)
    write_plots(plots | {"importance": importance(model, rows, outcome)})
    trained = json.loads((files.METRICS / "train.json").read_text())
    files.write_metrics("evaluate", figures)
    files.write_metrics("headline", headline(figures, trained))


if __name__ == "__main__":
    run_main(main)
