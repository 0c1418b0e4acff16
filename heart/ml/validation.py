"""External validation: how well the risks of a fixed model fit labelled patients of another place.

Three questions (Steyerberg 2019, "Clinical Prediction Models", chapters 15 to 20):

- Discrimination: do the ill have higher risks than the healthy? The ROC AUC.
- Calibration: of patients with a risk of 30 %, are 30 % ill? With the log odds z = logit(risk), fit
  logit P(ill) = a + z (the calibration intercept a, 0 if the risks are right on average) and
  logit P(ill) = a' + b z (the slope b, under 1 if the risks are too extreme). A likelihood ratio test of
  (a', b) = (0, 1) says whether a deviation is more than chance.
- Usefulness: does treating by the risk do better than treating all or none? The net benefit.

Recalibration keeps the ranks of the patients and replaces z by a + z, or by a' + b z. What it would give is
estimated by cross-validation, since on the patients that a and b come from it always looks good.

Example: risks 10 % and 50 % with a = 0.7 become 18 % and 67 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from heart.ml.difference import Difference, Predictions, differences
from heart.ml.scores import Array, bootstrap_weights, interval, weighted_roc_auc

CLASS_PATIENTS = 10  # of each outcome: with fewer there is no verdict
FOLDS = 10
LOWEST_AUC = 0.7  # of the upper end: below, the ranks are too poor for any recalibration to help
LIMIT = 1e-6  # of risks: a risk of 0 or 1 has no log odds
Z95 = 1.959964
TOO_FEW, AS_IT_IS = "too few patients", "use as it is"
RECALIBRATE, DO_NOT_USE = "recalibrate first", "do not use here"


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A logistic regression on the log odds of the risks: coefficients, standard errors, log-likelihood."""

    coefficients: Array
    errors: Array
    log_likelihood: float

    def estimate(self, number: int) -> Estimate:
        """A coefficient with its Wald interval."""
        value, margin = float(self.coefficients[number]), Z95 * float(self.errors[number])
        return Estimate(value, value - margin, value + margin)


@dataclass(frozen=True)
class Recalibration:
    """What a recalibration gives: its coefficients, and the figures of cross-validated risks against today's."""

    name: str
    coefficients: tuple[float, float]
    figures: dict[str, Difference]


@dataclass(frozen=True)
class Validation:
    """The result for one model on labelled patients."""

    patients: int
    with_disease: int
    verdict: str
    reasons: list[str]
    roc_auc: Estimate | None = None
    intercept: Estimate | None = None
    slope: Estimate | None = None
    miscalibration_p: float | None = None
    expected_share: float | None = None
    net_benefit: Estimate | None = None
    recalibrations: Sequence[Recalibration] = ()


def validate(
    outcome: Array, risks: Array, threshold: float, draws: int = 2000, seed: int = 0
) -> Validation:
    """The validation of risks [n] against outcomes 0 or 1 [n]; without a verdict for too few patients."""
    ill = int(outcome.sum())
    if min(ill, len(outcome) - ill) < CLASS_PATIENTS:
        reason = (
            f"{ill} patients with disease and {len(outcome) - ill} without: a verdict needs at least "
            f"{CLASS_PATIENTS} of each"
        )
        return Validation(len(outcome), ill, TOO_FEW, [reason])
    z = log_odds(risks)
    zero, offset, both = (fit(outcome, z, free) for free in (0, 1, 2))
    p_value = float(chi2.sf(2 * (both.log_likelihood - zero.log_likelihood), 2))
    weights = list(bootstrap_weights(outcome, draws, seed))
    auc = _estimate(outcome, risks, weights)
    recalibrations = [
        _recalibration(name, outcome, risks, threshold, free, (draws, seed))
        for name, free in (("intercept", 1), ("intercept and slope", 2))
    ]
    best = max(recalibrations, key=lambda r: -(r.figures["log_loss"].difference or 0.0))
    benefit = _net_benefit(outcome, risks, threshold, weights)
    verdict, reasons = _verdict(auc, p_value, best)
    return Validation(
        len(outcome), ill, verdict, reasons, auc, offset.estimate(0), both.estimate(1), p_value,
        float(risks.mean()), benefit, recalibrations,
    )  # fmt: skip


def _verdict(auc: Estimate, p_value: float, best: Recalibration) -> tuple[str, list[str]]:
    ranks = f"ROC AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
    if auc.low <= 0.5:
        return DO_NOT_USE, [f"{ranks}: no better than chance cannot be excluded"]
    if auc.high < LOWEST_AUC:
        return DO_NOT_USE, [f"{ranks}: below {LOWEST_AUC:g}, which recalibration cannot change"]
    gain = best.figures["log_loss"].difference or 0.0
    fits = f"test of calibration intercept 0 and slope 1: p = {p_value:.2g}"
    if p_value < 0.05 and gain < 0:
        return RECALIBRATE, [
            ranks, fits, f"recalibration of {best.name} changes the log loss by {gain:+.3f}",
        ]  # fmt: skip
    return AS_IT_IS, [ranks, fits]


def log_odds(risks: Array) -> Array:
    """The log odds of risks [n]; a risk of 0 or 1 counts as LIMIT from it."""
    safe = np.clip(risks.astype(float), LIMIT, 1 - LIMIT)
    return np.asarray(np.log(safe / (1 - safe)))


def fit(outcome: Array, z: Array, free: int) -> Fit:
    """The logistic regression with `free` free coefficients: none, the intercept, or intercept and slope.

    Newton's method with halved steps. A tiny ridge keeps the coefficients finite where the risks separate
    the outcomes completely.
    """
    design = np.column_stack([np.ones_like(z), z])[:, :free]
    fixed = z if free < 2 else np.zeros_like(z)
    ridge = 1e-6 * np.eye(free)
    start = np.array([0.0, 1.0])[:free]

    def objective(b: Array) -> float:
        return _log_likelihood(outcome, fixed + design @ b) - float(b @ ridge @ b) / 2

    b = start
    for _ in range(100):
        p = expit(fixed + design @ b)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(hessian, design.T @ (outcome - p) - ridge @ b)
        while free and objective(b + step) < objective(b) - 1e-12:
            step = step / 2
        b = b + step
        if not free or np.abs(step).max() < 1e-9:
            break
    errors = np.sqrt(np.diag(np.linalg.inv(hessian))) if free else np.zeros(0)
    return Fit(b, errors, _log_likelihood(outcome, fixed + design @ b))


def _log_likelihood(outcome: Array, z: Array) -> float:
    return float((outcome * z - np.logaddexp(0, z)).sum())


def recalibrated(risks: Array, coefficients: Array, free: int) -> Array:
    """Risks after the recalibration with the coefficients of `fit`."""
    z = log_odds(risks)
    moved = coefficients[0] + (z if free == 1 else coefficients[1] * z)
    return np.asarray(expit(moved))


def _recalibration(
    name: str, outcome: Array, risks: Array, threshold: float, free: int, bootstrap: tuple[int, int]
) -> Recalibration:
    fold = _folds(outcome, bootstrap[1])
    held_out = np.empty(len(risks))
    for number in range(FOLDS):
        inside = fold != number
        coefficients = fit(outcome[inside], log_odds(risks[inside]), free).coefficients
        held_out[~inside] = recalibrated(risks[~inside], coefficients, free)
    figures = differences(
        outcome, Predictions(risks, threshold), Predictions(held_out, threshold), *bootstrap
    )
    whole = fit(outcome, log_odds(risks), free).coefficients
    return Recalibration(name, (float(whole[0]), float(whole[1]) if free == 2 else 1.0), figures)


def _folds(outcome: Array, seed: int) -> Array:
    """The fold of each patient [n], both outcomes spread evenly."""
    random = np.random.default_rng(seed)
    fold = np.empty(len(outcome))
    for value in (0, 1):
        rows = random.permutation(np.flatnonzero(outcome == value))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def _estimate(outcome: Array, risks: Array, weights: Sequence[Array]) -> Estimate:
    once = float(weighted_roc_auc(outcome, risks, np.ones((1, len(outcome))))[0])
    return Estimate(
        once, *interval(np.concatenate([weighted_roc_auc(outcome, risks, w) for w in weights]))
    )


def _net_benefit(
    outcome: Array, risks: Array, threshold: float, weights: Sequence[Array]
) -> Estimate:
    """Net benefit at the threshold, less that of the better of treating all and none."""
    odds = threshold / (1 - threshold)
    gain = outcome - odds * (1 - outcome)
    treated = (risks >= threshold) * gain
    best = gain if gain.mean() > 0 else np.zeros_like(gain)
    draws = np.concatenate([w @ (treated - best) for w in weights]) / len(outcome)
    return Estimate(float((treated - best).mean()), *interval(draws))
