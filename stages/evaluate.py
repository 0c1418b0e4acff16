"""Stage evaluate: scores of the ONNX model on real held-out patients, bootstrap intervals, and plots."""

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from heart import files
from heart.errors import UserError, run_main
from heart.ml.groups import groups
from heart.ml.onnx_export import predict
from heart.ml.scores import Array, roc_auc, with_intervals
from heart.schema import NAMES
from stages import params

POINTS = 1000  # of a curve; more are not visible
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
        "roc": _curve({"false_positive_rate": fpr, "true_positive_rate": tpr}, area),
        "precision_recall": _curve({"recall": recall, "precision": precision}, average),
        "calibration": calibration(outcome, probability, options.bins),
        "confusion": confusion(outcome, probability >= options.threshold),
        "decision": decision(outcome, probability),
    }


def _curve(points: Mapping[str, Array], label: str) -> pd.DataFrame:
    """At most POINTS points of a curve in their order, with both ends."""
    curve = pd.DataFrame(points)
    indices = np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).round().astype(int)
    return curve.iloc[indices].assign(point=range(len(indices)), label=label)


def calibration(outcome: Array, probability: Array, bins: int) -> pd.DataFrame:
    """Mean predicted risk and share of presence, with its 95 % interval, in groups of equally many patients."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    intervals = [
        binomtest(int(outcome[part].sum()), len(part)).proportion_ci(method="wilson")
        for part in parts
    ]
    return pd.DataFrame(
        {
            "predicted": [probability[part].mean() for part in parts],
            "observed": [outcome[part].mean() for part in parts],
            "patients": [len(part) for part in parts],
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
        }
    )


def confusion(outcome: Array, positive: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The number of patients of each outcome with each prediction."""
    labels = ("absence", "presence")
    return pd.DataFrame(
        {
            "actual": labels[actual],
            "predicted": labels[predicted],
            "patients": int(((outcome == actual) & (positive == bool(predicted))).sum()),
        }
        for actual, predicted in product((0, 1), repeat=2)
    )


def decision(outcome: Array, probability: Array) -> pd.DataFrame:
    """Net benefit by threshold of the model, of treating all and of treating none (Vickers and Elkin 2006)."""
    thresholds = np.arange(1, 100) / 100
    odds = thresholds / (1 - thresholds)
    ill, healthy = outcome.mean(), 1 - outcome.mean()

    def treated(patients: npt.NDArray[np.bool_]) -> Array:
        """The share of all patients who are among `patients` and have a risk from the threshold on."""
        risks = np.sort(probability[patients])
        return (len(risks) - np.searchsorted(risks, thresholds)) / len(outcome)

    return pd.DataFrame(
        {
            "threshold": thresholds,
            "model": treated(outcome == 1) - odds * treated(outcome == 0),
            "treat_all": ill - odds * healthy,
            "treat_none": 0.0,
        }
    )


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
