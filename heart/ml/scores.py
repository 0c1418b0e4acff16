"""Scores of predicted probabilities, and their bootstrap, for many draws at once.

scikit-learn's functions score one sample in a call; a bootstrap has thousands. Here every function takes
weights [draws, n] (how often a row was drawn) and returns one score for each draw. Tests compare each
with scikit-learn's. The draws of many rows come in blocks, which bounds the memory.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Score = Callable[[Array, Array, Array], Array]

BLOCK = 1 << 22  # weights in one block: 32 MiB
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def weighted_roc_auc(y: Array, p: Array, weights: Array) -> Array:
    """The probability that a positive patient has a higher score than a negative one; ties count half."""
    order = np.argsort(p, kind="stable")
    positive, negative = order[y[order] == 1], order[y[order] == 0]
    lower_weight = np.zeros((len(weights), len(negative) + 1))  # of negatives with lower scores
    np.cumsum(weights.take(negative, axis=1), axis=1, out=lower_weight[:, 1:])
    lower, upper = (np.searchsorted(p[negative], p[positive], side) for side in SIDES)
    below = (lower_weight.take(lower, axis=1) + lower_weight.take(upper, axis=1)) / 2
    positive_weight = weights.take(positive, axis=1)
    pairs = positive_weight.sum(axis=1) * lower_weight[:, -1]
    return _ratio((positive_weight * below).sum(axis=1), pairs)


def weighted_brier(y: Array, p: Array, weights: Array) -> Array:
    """The mean squared error of the probability."""
    return _ratio(weights @ (p - y) ** 2, weights.sum(axis=1))


def weighted_log_loss(y: Array, p: Array, weights: Array) -> Array:
    """The mean negative log-likelihood, in nats."""
    safe = np.clip(p, 1e-15, 1 - 1e-15)
    loss = -np.where(y == 1, np.log(safe), np.log1p(-safe))
    return _ratio(weights @ loss, weights.sum(axis=1))


def weighted_ece(y: Array, p: Array, weights: Array, bins: int) -> Array:
    """The expected calibration error over `bins` groups of equally many patients.

    The groups are those of the sample itself. With a small sample the figure is biased upwards, so that its
    interval does not reach 0 even for a perfectly calibrated model.
    """
    group = np.minimum(np.argsort(np.argsort(p, kind="stable")) * bins // len(p), bins - 1)
    member = np.eye(bins)[group]
    gap = weights @ (member * (p - y)[:, None])
    return _ratio(np.abs(gap).sum(axis=1), weights.sum(axis=1))


def weighted_confusion(y: Array, positive: Array, weights: Array) -> dict[str, Array]:
    """Accuracy, precision, recall, specificity, negative predictive value and F1 of binary predictions."""
    tp, fp = weights @ (positive * y), weights @ (positive * (1 - y))
    fn, tn = weights @ ((1 - positive) * y), weights @ ((1 - positive) * (1 - y))
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "npv": _ratio(tn, tn + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def all_scores(
    y: npt.ArrayLike, p: npt.ArrayLike, weights: Array, threshold: float, bins: int
) -> dict[str, Array]:
    """Every score of outcomes 0 or 1 [n] and probabilities [n], for each row of weights [draws, n]."""
    outcome, probability = np.asarray(y, dtype=float), np.asarray(p, dtype=float)
    positive = (probability >= threshold).astype(float)
    return {
        "roc_auc": weighted_roc_auc(outcome, probability, weights),
        **weighted_confusion(outcome, positive, weights),
        "brier": weighted_brier(outcome, probability, weights),
        "log_loss": weighted_log_loss(outcome, probability, weights),
        "ece": weighted_ece(outcome, probability, weights, bins),
    }


def roc_auc(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """ROC AUC of one sample; NaN if it has only one outcome."""
    outcome = np.asarray(y, dtype=float)
    return float(
        weighted_roc_auc(outcome, np.asarray(p, dtype=float), np.ones((1, len(outcome))))[0]
    )


def bootstrap_weights(y: npt.ArrayLike, draws: int, seed: int) -> Iterator[Array]:
    """How often each row is drawn, in blocks [some of the draws, n].

    Draws are stratified by outcome, so that each has both.
    """
    outcome = np.asarray(y)
    random = np.random.default_rng(seed)
    classes = [np.flatnonzero(outcome == value) for value in np.unique(outcome)]
    size = max(BLOCK // len(outcome), 1)
    count = _by_row if size >= draws else _by_draw
    for start in range(0, draws, size):
        weights = np.zeros((min(size, draws - start), len(outcome)))
        for rows in classes:
            weights[:, rows] = count(random, len(rows), len(weights))
        yield weights


def _by_row(random: np.random.Generator, rows: int, draws: int) -> Array:
    """How often each row is drawn [draws, rows], row by row."""
    return random.multinomial(rows, np.full(rows, 1 / rows), draws).astype(float)


def _by_draw(random: np.random.Generator, rows: int, draws: int) -> Array:
    """As `_by_row`, draw by draw: ten times as fast for many rows, but with other random numbers."""
    indices = random.integers(rows, size=(draws, rows)) + rows * np.arange(draws)[:, None]
    counts = np.bincount(indices.ravel(), minlength=draws * rows)
    return counts.reshape(draws, rows).astype(float)


def interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap scores; NaN are left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def with_intervals(
    y: npt.ArrayLike, p: npt.ArrayLike, draws: int, seed: int, threshold: float, bins: int
) -> dict[str, Any]:
    """Each score with its interval `_low` and `_high`; a score that cannot be computed is None."""
    point = all_scores(y, p, np.ones((1, len(np.asarray(y)))), threshold, bins)
    blocks = [all_scores(y, p, w, threshold, bins) for w in bootstrap_weights(y, draws, seed)]
    figures: dict[str, Any] = {}
    for name, value in point.items():
        low, high = interval(np.concatenate([block[name] for block in blocks]))
        for key, number in ((name, float(value[0])), (f"{name}_low", low), (f"{name}_high", high)):
            figures[key] = None if np.isnan(number) else number
    return figures
