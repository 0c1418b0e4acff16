"""Performance without outcomes: which accuracy, Brier score and ROC AUC the risks of some patients imply.

If risks are calibrated, the outcome of a patient with a risk of 0.9 is the disease in 9 of 10 such patients. So
outcomes are drawn from the risks many times, and the scores are computed for each draw: their mean is the estimate,
the middle 95 % of them is the interval. Example: risks of 0.9, 0.8, 0.2 and 0.1 with a threshold of 0.5 give an
expected accuracy of (0.9 + 0.8 + 0.8 + 0.9) / 4 = 0.85, and a mean Brier score of (0.09 + 0.16 + 0.16 + 0.09) / 4.

It stays right if other patients come, or fewer measurements are known, as long as the risks are calibrated for
them. It is wrong if the disease itself has changed: nothing in the measurements shows that. Only outcomes do, so
`contradiction` compares the estimate with them. The idea is that of confidence-based performance estimation, CBPE
(J. Bialek, W. Kuberski, N. Perrakis and A. Bifet, "Estimating model performance under covariate shift without
labels", arXiv 2401.08348), without its bins and with an interval.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heart.ml.betting import evidence

Array = npt.NDArray[np.float64]

DRAWS = 1000
CONFIDENCE = 0.95
BLOCK = 1 << 22  # drawn outcomes at a time, which bounds the memory
FIGURES = ("accuracy", "brier", "roc_auc")


@dataclass(frozen=True)
class Estimate:
    """A score, and the interval of the score that will be observed once all outcomes are known."""

    value: float
    low: float
    high: float


def estimate(
    risks: npt.ArrayLike, threshold: float, seed: int, draws: int = DRAWS
) -> dict[str, Estimate | None]:
    """Each of FIGURES for patients with these risks [n]; None if it cannot be computed."""
    risk = np.sort(np.asarray(risks, dtype=float))
    if not len(risk):
        return dict.fromkeys(FIGURES)
    random = np.random.default_rng(seed)
    rows = max(BLOCK // len(risk), 1)
    blocks = [
        _scores(risk, random.random((min(rows, draws - start), len(risk))) < risk, threshold)
        for start in range(0, draws, rows)
    ]
    return {name: _summary(np.concatenate([block[name] for block in blocks])) for name in FIGURES}


def contradiction(risks: npt.ArrayLike, outcomes: npt.ArrayLike, threshold: float) -> float:
    """Evidence that outcomes 0 or 1 [n] contradict what risks [n] imply: accuracy, Brier score, number of ill.

    It is a logarithm of wealth (`betting`): with calibrated risks it exceeds log(1 / a) with a probability of
    at most a, over any number of evaluations. The bets are on figures above and below the expected ones.
    """
    risk = np.asarray(risks, dtype=float)
    surprise = np.asarray(outcomes, dtype=float) - risk
    accuracy = np.where(risk >= threshold, surprise, -surprise)
    brier = surprise * (1 - 2 * risk)  # (y - p)^2 - p (1 - p)
    differences = (accuracy, brier, surprise)
    bets = [evidence(sign * each) for each in differences for sign in (1, -1)]
    return float(np.logaddexp.reduce(bets) - math.log(len(bets)))


def _scores(risk: Array, outcomes: npt.NDArray[np.bool_], threshold: float) -> dict[str, Array]:
    """The scores of sorted risks [n] for each draw of outcomes [draws, n]; NaN where there is none."""
    patients = len(risk)
    drawn = outcomes.astype(float)
    _, first, ties = np.unique(risk, return_index=True, return_counts=True)
    ranks = np.repeat(first + (ties + 1) / 2, ties)  # equal risks share the mean of their ranks
    ill = drawn.sum(axis=1)
    pairs = ill * (patients - ill)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = np.where(pairs > 0, (drawn @ ranks - ill * (ill + 1) / 2) / pairs, np.nan)
    return {
        "accuracy": (outcomes == (risk >= threshold)).mean(axis=1),
        "brier": (drawn @ (1 - 2 * risk) + (risk**2).sum()) / patients,
        "roc_auc": auc,
    }


def _summary(scores: Array) -> Estimate | None:
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(float(known.mean()), float(low), float(high))
