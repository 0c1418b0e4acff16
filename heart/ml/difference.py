"""Two models on the same patients: the difference of each headline figure, with its interval, in words.

The paired bootstrap of `heart/ml/comparison.py`, here for every headline figure at 95 % and in two directions. An
interval that holds 0 is no evidence of a difference; it is no proof that there is none either. Example: ROC AUC
0.933 and 0.921 on 73 patients, difference -0.012 (-0.031 to 0.006): no evidence of a difference.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heart.ml.scores import Array, all_scores, bootstrap_weights, interval

LABELS = {
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "recall": "recall",
    "specificity": "specificity",
}
LOWER_IS_BETTER = frozenset({"brier", "log_loss"})
DECISIVE = (
    "roc_auc",
    "brier",
)  # of the verdict; the others follow from them or depend on the threshold
BETTER, WORSE, MIXED, NO_EVIDENCE = "better", "worse", "mixed", "no evidence of a difference"
BINS = 8  # of the calibration error, which `all_scores` wants and nobody reads here


@dataclass(frozen=True)
class Difference:
    """One figure of two models, the second minus the first with its 95 % interval; None if not computable."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Predictions:
    """The risks [n] of a model for some patients, and the threshold of its predictions."""

    risks: Array
    threshold: float

    def scores(self, outcome: Array, weights: Array) -> dict[str, Array]:
        """Each headline figure for each row of weights [draws, n]."""
        every = all_scores(outcome, self.risks, weights, self.threshold, BINS)
        return {name: every[name] for name in LABELS}


def differences(
    outcome: Array, a: Predictions, b: Predictions, draws: int, seed: int
) -> dict[str, Difference]:
    """The difference b - a of each headline figure on the same patients; `outcome` is 0 or 1 [n]."""
    once = np.ones((1, len(outcome)))
    first, second = a.scores(outcome, once), b.scores(outcome, once)
    blocks = []
    for weights in bootstrap_weights(outcome, draws, seed):
        one, two = a.scores(outcome, weights), b.scores(outcome, weights)
        blocks.append({name: two[name] - one[name] for name in LABELS})
    return {
        name: _difference(
            name,
            float(first[name][0]),
            float(second[name][0]),
            interval(np.concatenate([block[name] for block in blocks])),
        )
        for name in LABELS
    }


def _difference(name: str, a: float, b: float, bounds: tuple[float, float]) -> Difference:
    first, second, gap, low, high = (
        None if np.isnan(number) else number for number in (a, b, b - a, *bounds)
    )
    return Difference(first, second, gap, low, high, _verdict(name, *bounds))


def _verdict(name: str, low: float, high: float) -> str:
    if not (low > 0 or high < 0):
        return NO_EVIDENCE
    return BETTER if (high < 0) == (name in LOWER_IS_BETTER) else WORSE


def overall(*parts: Mapping[str, Difference]) -> str:
    """The verdict on the second model from the decisive figures of each set of patients."""
    verdicts = {part[name].verdict for part in parts for name in DECISIVE}
    if {BETTER, WORSE} <= verdicts:
        return MIXED
    return next((verdict for verdict in (WORSE, BETTER) if verdict in verdicts), NO_EVIDENCE)


def as_document(part: Mapping[str, Difference]) -> dict[str, Any]:
    """The differences as JSON."""
    return {name: asdict(difference) for name, difference in part.items()}


def cells(part: Mapping[str, Difference]) -> list[list[str]]:
    """A row of texts a figure: label, both values, difference with interval, verdict."""
    return [
        [
            LABELS[name], _number(d.a), _number(d.b),
            f"{_number(d.difference, '+')} ({_number(d.low, '+')} to {_number(d.high, '+')})", d.verdict,
        ]
        for name, d in part.items()
    ]  # fmt: skip


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
