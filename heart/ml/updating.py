"""Model updating: what recorded outcomes of a service's patients change about a model, from little to much.

With few outcomes a refit is worse than no change, and a recalibration better than both (Steyerberg 2019, "Clinical
Prediction Models", chapter 20; Steyerberg et al. 2004, "Validation and updating of predictive logistic regression
models"). The candidates are the rungs of a ladder:

1. keep: the model of the study's patients as it is;
2. intercept: its log odds z become a + z, for patients who are ill more or less often;
3. intercept and slope: z becomes a + b z, for risks that are too extreme as well;
4. pooled: the model is fitted again, on the patients of the study and of the service together;
5. pooled and recalibrated: the same with more weight for the service's patients, and a + b z of its log odds.

A rung is climbed only on evidence. For 2 and 3 that is a likelihood ratio test: without it, recalibration harms a
hospital at which nothing is wrong more often than not. For 4 and 5 it is the loss of the service's patients in
cross-validation, paired by patient. Every rung must also lower that loss.

Cross-validation is nested. The loss of a rung on a fold is that of a model fitted without the fold; the risk of a
patient under the whole procedure (`Ladder.out_of_fold`) is from a choice without the patient's fold too. Both
need models that are fitted without one, two or three folds, of which each is fitted once. If the whole procedure is
clearly worse than no change, nothing is changed.

Example: at a hospital 93 % instead of 46 % of 60 patients are ill. z = 0 (50 %) becomes 2.4 + z (92 %), with a
likelihood ratio of 60: the intercept is taken. The slope adds 0.4 to the likelihood ratio, too little, and a refit
has the higher loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from heart.ml.scores import Array
from heart.ml.validation import fit as fit_calibration
from heart.ml.validation import log_odds

Mask = npt.NDArray[np.bool_]

KEEP, INTERCEPT, SLOPE = "keep", "intercept", "intercept and slope"
POOLED, WEIGHTED = "pooled", "pooled and recalibrated"
RUNGS = (KEEP, INTERCEPT, SLOPE, POOLED, WEIGHTED)

LEAST_OUTCOMES = 12  # of the training patients: of 20 recorded outcomes, about a fifth is held out
REFIT_OUTCOMES = 10  # of each kind, from which on a refit is a candidate
LIKELIHOOD_RATIO = 3.84  # chi-squared with one degree of freedom, 5 %
REFIT_ERRORS = 1.0  # standard errors by which a refit must lower the loss


@dataclass(frozen=True)
class Rung:
    """The evidence for one rung: its cross-validated log loss, and how much lower that is than the one below.

    `error` is the standard error of the difference, `likelihood_ratio` that of a recalibration.
    """

    name: str
    log_loss: float
    gain: float
    error: float
    likelihood_ratio: float | None
    taken: bool


@dataclass(frozen=True)
class Update:
    """The rung that was chosen, the evidence on every rung, and how much the whole procedure lowers the log loss.

    `nested_gain` is None if no rung above the first was supported.
    """

    rung: str
    evidence: tuple[Rung, ...]
    nested_gain: float | None = None


@dataclass(frozen=True)
class Recalibrated:
    """A model whose log odds z are replaced by `intercept` + `slope` z."""

    model: Any
    intercept: float
    slope: float

    def predict_proba(self, rows: npt.ArrayLike) -> Array:
        """Probabilities of absence and presence [n, 2]."""
        presence = expit(self.intercept + self.slope * logits(self.model, rows))
        return np.column_stack([1 - presence, presence])


def logits(model: Any, rows: npt.ArrayLike) -> Array:
    """The log odds [n] of the probabilities of a model."""
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(rows))
    return log_odds(np.asarray(model.predict_proba(rows)[:, 1]))


class Ladder:
    """The candidates for one model and the patients of a service, with everything that is fitted for them.

    `fit` takes which of the service's patients [n] to fit on beside those of the study, and the weight of each of
    them; it returns a model with `predict_proba`. `rows` are encoded [n, 13], `outcome` 0 or 1 [n], `fold` [n].
    With `intercept_only`, the ladder ends there: outcomes that may say little about single patients still say
    how many are ill.
    """

    def __init__(
        self,
        fit: Callable[[Mask, float], Any],
        rows: Array,
        outcome: Array,
        fold: npt.NDArray[Any],
        weight: float,
        *,
        intercept_only: bool = False,
    ) -> None:
        self._fit = fit
        self._rows, self._outcome, self._fold = rows, outcome.astype(float), fold
        self._weights = {KEEP: 0.0, POOLED: 1.0, WEIGHTED: weight}
        self._folds = sorted(set(fold.tolist()))
        self._intercept_only = intercept_only
        self._fitted: dict[tuple[str, frozenset[Any]], tuple[Any, Array]] = {}

    def choose(self, without: frozenset[Any] = frozenset()) -> Update:
        """The rung that the evidence supports, from the patients outside of some folds."""
        used = ~np.isin(self._fold, list(without))
        outcome, z = self._outcome[used], self._log_odds(KEEP, frozenset())[used]
        losses = {rung: self._losses(rung, without, used) for rung in self._candidates(outcome)}
        ratios = _likelihood_ratios(outcome, z)
        chosen, evidence = KEEP, [_rung(KEEP, losses[KEEP], losses[KEEP], None, taken=False)]
        for rung in list(losses)[1:]:
            ratio = ratios.get((chosen, rung))
            gain = losses[chosen] - losses[rung]
            supported = (
                gain.mean() > REFIT_ERRORS * _error(gain)
                if rung in (POOLED, WEIGHTED)
                else ratio is not None and ratio[0] > ratio[1]
            )
            taken = bool(supported and gain.mean() > 0)
            evidence.append(
                _rung(rung, losses[rung], losses[chosen], ratio and ratio[0], taken=taken)
            )
            chosen = rung if taken else chosen
        return Update(chosen, tuple(evidence))

    def update(self) -> tuple[Update, Array]:
        """The rung to use, and the out-of-fold risks [n] that go with it."""
        chosen, keep = self.choose(), np.asarray(expit(self._log_odds(KEEP, frozenset())))
        if chosen.rung == KEEP:
            return chosen, keep
        risks = self.out_of_fold()
        gains = _log_loss(self._outcome, keep) - _log_loss(self._outcome, risks)
        gain = float(gains.mean())
        if gain > -_error(gains):
            return replace(chosen, nested_gain=gain), risks
        return replace(chosen, rung=KEEP, nested_gain=gain), keep

    def out_of_fold(self) -> Array:
        """The risk of each patient [n] by the whole procedure without the patient's fold."""
        risks = np.empty(len(self._fold))
        for fold in self._folds:
            without, own = frozenset([fold]), self._fold == fold
            risks[own] = self._risks(self.choose(without).rung, without)[own]
        return risks

    def model(self, rung: str) -> Any:
        """The model of a rung, fitted on all patients."""
        everyone: frozenset[Any] = frozenset()
        model, _ = self._model(rung if rung in self._weights else KEEP, everyone)
        if rung in (KEEP, POOLED):
            return model
        return Recalibrated(model, *self._coefficients(rung, everyone))

    def _candidates(self, outcome: Array) -> tuple[str, ...]:
        if self._intercept_only:
            return RUNGS[:2]
        ill = int(outcome.sum())
        return RUNGS if min(ill, len(outcome) - ill) >= REFIT_OUTCOMES else RUNGS[:3]

    def _losses(self, rung: str, without: frozenset[Any], used: Mask) -> Array:
        """The log loss of each patient used, by models without the patient's fold."""
        losses = np.empty(len(self._fold))
        for fold in self._folds:
            if fold not in without:
                own = self._fold == fold
                losses[own] = _log_loss(
                    self._outcome[own], self._risks(rung, without | {fold})[own]
                )
        return losses[used]

    def _risks(self, rung: str, without: frozenset[Any]) -> Array:
        """The risks of all patients [n] by a rung that was fitted without some folds."""
        z = self._log_odds(rung if rung in self._weights else KEEP, without)
        if rung in (KEEP, POOLED):
            return np.asarray(expit(z))
        intercept, slope = self._coefficients(rung, without)
        return np.asarray(expit(intercept + slope * z))

    def _coefficients(self, rung: str, without: frozenset[Any]) -> tuple[float, float]:
        """Intercept and slope of a recalibration, from patients outside of some folds."""
        used = ~np.isin(self._fold, list(without))
        z = self._log_odds(KEEP, frozenset())
        if rung == WEIGHTED:
            # The model's own training patients would make it look too certain.
            z = np.empty(len(self._fold))
            for fold in self._folds:
                if fold not in without:
                    own = self._fold == fold
                    z[own] = self._log_odds(WEIGHTED, without | {fold})[own]
        outcome = self._outcome[used]
        if rung != INTERCEPT:
            intercept, slope = fit_calibration(outcome, z[used], 2).coefficients
            if slope > 0:  # else a few outcomes of one kind would reverse the ranks
                return float(intercept), float(slope)
        return float(fit_calibration(outcome, z[used], 1).coefficients[0]), 1.0

    def _log_odds(self, kind: str, without: frozenset[Any]) -> Array:
        return self._model(kind, without)[1]

    def _model(self, kind: str, without: frozenset[Any]) -> tuple[Any, Array]:
        """A fitted model and its log odds for all patients [n]; that of the study needs no fold left out."""
        key = (kind, frozenset() if kind == KEEP else without)
        if key not in self._fitted:
            used = (
                ~np.isin(self._fold, list(without))
                if kind != KEEP
                else np.zeros(len(self._fold), bool)
            )
            model = self._fit(used, self._weights[kind])
            self._fitted[key] = model, logits(model, self._rows)
        return self._fitted[key]


def _likelihood_ratios(outcome: Array, z: Array) -> dict[tuple[str, str], tuple[float, float]]:
    """The likelihood ratio of a recalibration over another, and the limit that it must exceed."""
    zero, one, two = (fit_calibration(outcome, z, free).log_likelihood for free in (0, 1, 2))
    return {
        (KEEP, INTERCEPT): (2 * (one - zero), LIKELIHOOD_RATIO),
        (INTERCEPT, SLOPE): (2 * (two - one), LIKELIHOOD_RATIO),
        (KEEP, SLOPE): (2 * (two - zero), 5.99),  # two degrees of freedom
    }


def _rung(name: str, loss: Array, below: Array, ratio: float | None, *, taken: bool) -> Rung:
    gain = below - loss
    return Rung(name, float(loss.mean()), float(gain.mean()), _error(gain), ratio, taken)


def _log_loss(outcome: Array, risks: Array) -> Array:
    safe = np.clip(risks, 1e-6, 1 - 1e-6)
    return np.asarray(-(outcome * np.log(safe) + (1 - outcome) * np.log(1 - safe)))


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
