"""The points of the plots of a model on patients: ROC and precision, calibration, confusion, decision curve.

The templates in .dvc/plots draw them.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from heart.ml.scores import Array

POINTS = 1000  # of a curve; more are not visible


def curve(points: Mapping[str, Array], label: str) -> pd.DataFrame:
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
