"""The candidates of stage train. All take encoded rows [n, 13], in which NaN is a missing value.

`ChainedLogisticRegression` is a ridge logistic regression with two additions: coefficients keep the signs
that are medically established (`risk` in heart/schema.py), and missing values are marginalized analytically:

1. A chain of linear regressions predicts the terms z_j of each measurement from those before it, with a
   residual covariance. It gives any set of missing terms a conditional mean and covariance.
2. The logit b0 + b'z is then normal, with a mean m that is linear in the measured terms, and a variance v.
3. The mean of the sigmoid of a normal variable is about sigmoid(m / sqrt(1 + pi v / 8)) (MacKay 1992, "The
   evidence framework applied to classification networks"): again a logistic regression.

Example: b = (1, 2), and z_2 has the mean 0.5 z_1 and the variance 0.5. If z_2 is missing, z_1 has the weight
1 + 2 * 0.5 = 2, v = 2 * 0.5 * 2 = 2, and the weight shrinks to 2 / sqrt(1 + pi / 4) = 1.50.

`CalibratedTrees` makes scikit-learn's ensembles robust to missing values by augmentation.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from heart.schema import MEASUREMENTS, NAMES, SECOND_EXAM

Array = npt.NDArray[np.float64]
SECOND_EXAM_COLUMNS = [NAMES.index(name) for name in SECOND_EXAM]


@dataclass(frozen=True)
class Feature:
    """One term of the linear model: a measurement's value, or whether it equals or reaches `value`.

    `sign` is the required sign of its coefficient, 0 if both are allowed.
    """

    column: int
    kind: str
    value: float
    sign: int


def _features() -> tuple[Feature, ...]:
    """Numbers; each choice of a category but the first; and whether there is any colored vessel.

    The first colored vessel changes the risk more than a further one.
    """
    features = []
    for column, measurement in enumerate(MEASUREMENTS):
        if not measurement.choices:
            features.append(Feature(column, "value", 0.0, measurement.risk))
        for code, choice in enumerate(measurement.choices[1:], start=1):
            features.append(Feature(column, "equals", float(code), choice.risk))
        if measurement.name == "major_vessels":
            features.append(Feature(column, "at_least", 1.0, measurement.risk))
    return tuple(features)


FEATURES = _features()
# The model reads lower values as this. Negative ST depression (an elevation) is valid, but no patient of
# the Cleveland study has one: a straight line drawn beyond them would call it protective.
LOWEST = np.array([0.0 if name == "st_depression" else -np.inf for name in NAMES])
SIGNS = np.array([feature.sign for feature in FEATURES])
TERMS = [
    np.flatnonzero([feature.column == column for feature in FEATURES])
    for column in range(len(NAMES))
]


def expand(rows: npt.ArrayLike) -> Array:
    """The terms [n, k] of the linear model for encoded rows [n, 13]; those of a missing value are 0."""
    bounded = np.maximum(np.asarray(rows, dtype=np.float64), LOWEST)  # NaN stays NaN
    filled, missing = np.nan_to_num(bounded, nan=0.0), np.isnan(bounded)
    terms = np.empty((len(filled), len(FEATURES)))
    for i, feature in enumerate(FEATURES):
        values = filled[:, feature.column]
        if feature.kind == "value":
            terms[:, i] = values
        elif feature.kind == "equals":
            terms[:, i] = values == feature.value
        else:
            terms[:, i] = values >= feature.value
    return np.where(missing[:, [feature.column for feature in FEATURES]], 0.0, terms)


def pattern(rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The number of each row's pattern of missing measurements: bit j is set if measurement j is missing."""
    missing = np.isnan(np.asarray(rows, dtype=np.float64))
    numbers: npt.NDArray[np.int64] = missing @ (1 << np.arange(len(NAMES)))
    return numbers


class ChainedLogisticRegression(ClassifierMixin, BaseEstimator):
    """Sign-constrained ridge logistic regression that marginalizes missing measurements.

    The module's documentation describes the method. One fit gives a logistic regression for each of the
    2^13 patterns of missing measurements; the ONNX graph is a table of them.

    Parameters: `C`, the inverse strength of the ridge on standardized terms, as in scikit-learn;
    `chain_ridge`, the strength of the ridge of the chain, in units of one patient.
    """

    def __init__(self, C: float = 0.1, chain_ridge: float = 3.0) -> None:
        self.C = C
        self.chain_ridge = chain_ridge

    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Fit on encoded rows [n, 13] and outcomes 0 or 1 [n], with weights [n]."""
        rows, outcome = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
        self.classes_ = np.array([0, 1])
        terms = self._fit_chain(expand(rows), ~np.isnan(rows), weight)
        self._fit_coefficients(terms, outcome, weight)
        return self

    def _fit_chain(self, terms: Array, observed: npt.NDArray[np.bool_], weight: Array) -> Array:
        """Standardize the terms, fit the chain, and return the terms with the missing ones filled."""
        self.mean_ = np.zeros(len(FEATURES))
        self.scale_ = np.ones(len(FEATURES))
        self.chain_: list[Array] = []
        self.residual_: list[Array] = []
        filled = np.zeros_like(terms)
        before = np.array([], dtype=np.int64)
        for column, own in enumerate(TERMS):
            known = observed[:, column]
            w, values = weight[known], terms[np.ix_(known, own)]
            if w.sum() > 0:
                self.mean_[own] = np.average(values, axis=0, weights=w)
                spread = np.sqrt(np.average((values - self.mean_[own]) ** 2, axis=0, weights=w))
                self.scale_[own] = np.where(spread > 0, spread, 1.0)
            z = (values - self.mean_[own]) / self.scale_[own]
            past = filled[np.ix_(known, before)]
            gram = past.T @ (w[:, None] * past) + self.chain_ridge * np.eye(len(before))
            slope = np.linalg.solve(gram, past.T @ (w[:, None] * z))
            error = z - past @ slope
            # A measurement that no row has gets the variance of a standard normal one.
            covariance = (
                error.T @ (w[:, None] * error) / w.sum() if w.sum() > 0 else np.eye(len(own))
            )
            self.chain_.append(np.asarray(slope, dtype=np.float64))
            self.residual_.append(covariance)
            filled[np.ix_(known, own)] = z
            filled[np.ix_(~known, own)] = filled[np.ix_(~known, before)] @ slope
            before = np.append(before, own)
        return filled

    def _fit_coefficients(self, terms: Array, outcome: Array, weight: Array) -> None:
        def loss(parameters: Array) -> tuple[float, Array]:
            coefficients, intercept = parameters[:-1], parameters[-1]
            score = terms @ coefficients + intercept
            error = weight * (expit(score) - outcome)
            value = weight @ (np.logaddexp(0, score) - outcome * score)
            ridge = coefficients @ coefficients / (2 * self.C)
            return value + ridge, np.append(terms.T @ error + coefficients / self.C, error.sum())

        bounds = [{1: (0, None), -1: (None, 0), 0: (None, None)}[int(sign)] for sign in SIGNS]
        start = np.zeros(len(FEATURES) + 1)
        solution = minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)],
            options={"ftol": 1e-12, "gtol": 1e-7},
        )  # fmt: skip
        self.coef_, self.intercept_ = solution.x[:-1], float(solution.x[-1])
        self.covariance_ = self._covariance(terms, weight)

    def _covariance(self, terms: Array, weight: Array) -> Array:
        """The covariance of coefficients and intercept [k + 1, k + 1], by Laplace's approximation.

        The ridge is a normal prior of variance C; the covariance is the inverse curvature of the posterior.
        """
        p = expit(terms @ self.coef_ + self.intercept_)
        design = np.column_stack([terms, np.ones(len(terms))])
        curvature = design.T @ ((weight * p * (1 - p))[:, None] * design)
        curvature[np.arange(len(FEATURES)), np.arange(len(FEATURES))] += 1 / self.C
        return np.asarray(np.linalg.inv(curvature), dtype=np.float64)

    def models(self, patterns: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """The logistic regressions of patterns [p]: weights [p, k] on raw terms, intercepts [p].

        From the last measurement to the first, the weight of a missing one is moved to those that predict
        it. Weights keep the required sign in every pattern.
        """
        weights = np.tile(self.coef_, (len(patterns), 1))
        variance = np.zeros(len(patterns))
        for column in reversed(range(len(NAMES))):
            own = TERMS[column]
            before = np.arange(own[0])
            missing = (patterns >> column & 1).astype(bool)
            moved = weights[np.ix_(missing, own)]
            variance[missing] += np.einsum("pi,ij,pj->p", moved, self.residual_[column], moved)
            weights[np.ix_(missing, before)] += moved @ self.chain_[column].T
            weights[np.ix_(missing, own)] = 0.0
        weights = np.where(SIGNS * weights < 0, 0.0, weights) / self.scale_
        shrink = 1 / np.sqrt(1 + np.pi * variance / 8)
        return weights * shrink[:, None], (self.intercept_ - weights @ self.mean_) * shrink

    def decision_function(self, X: npt.ArrayLike) -> Array:
        """The logit of the probability of presence [n]."""
        patterns, which = np.unique(pattern(X), return_inverse=True)
        weights, intercepts = self.models(patterns)
        scores: Array = np.einsum("nk,nk->n", expand(X), weights[which]) + intercepts[which]
        return scores

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Probabilities of absence and presence [n, 2]."""
        presence = expit(self.decision_function(X))
        return np.column_stack([1 - presence, presence])

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """1 where presence is more likely than absence [n]."""
        return (self.decision_function(X) > 0).astype(np.int64)


MISSING = -1.0
CLIP = 0.005


class CalibratedTrees(ClassifierMixin, BaseEstimator):
    """An ensemble of trees, trained with and without the further tests, then Platt-scaled.

    A missing value is the number -1, outside of every measurement's bounds. Each row is used twice with
    half its weight: as it is, and without the further tests (slope, vessels, thallium). The probability is
    a logistic function of the ensemble's logit, fitted on out-of-fold values of rows of both kinds.
    """

    def __init__(self, trees: Any = None, folds: int = 3, seed: int = 0) -> None:
        self.trees = trees
        self.folds = folds
        self.seed = seed

    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Fit on encoded rows [n, 13] and outcomes 0 or 1 [n], with weights [n]."""
        rows, outcome = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.int64)
        weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
        self.classes_ = np.array([0, 1])
        withheld = withhold(rows)
        scores = np.empty((2, len(rows)))
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        for inside, outside in folds.split(rows, outcome):
            trees = self._fit_trees(rows[inside], withheld[inside], outcome[inside], weight[inside])
            scores[0, outside] = _score(trees, rows[outside])
            scores[1, outside] = _score(trees, withheld[outside])
        platt = LogisticRegression(C=1e6).fit(
            scores.reshape(-1, 1), np.tile(outcome, 2), np.tile(weight, 2)
        )
        self.slope_, self.intercept_ = float(platt.coef_[0, 0]), float(platt.intercept_[0])
        self.trees_ = self._fit_trees(rows, withheld, outcome, weight)
        return self

    def _fit_trees(
        self, rows: Array, withheld: Array, y: npt.NDArray[np.int64], weight: Array
    ) -> Any:
        both = np.nan_to_num(np.maximum(np.vstack([rows, withheld]), LOWEST), nan=MISSING)
        return clone(self.trees).fit(both, np.tile(y, 2), sample_weight=np.tile(weight / 2, 2))

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Probabilities of absence and presence [n, 2]."""
        scores = _score(self.trees_, np.asarray(X, dtype=np.float64))
        presence = expit(self.slope_ * scores + self.intercept_)
        return np.column_stack([1 - presence, presence])

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """1 where presence is more likely than absence [n]."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)


def _score(trees: Any, rows: Array) -> Array:
    filled = np.nan_to_num(np.maximum(rows, LOWEST), nan=MISSING)
    probability = trees.predict_proba(filled)[:, 1]
    clipped: Array = logit(np.clip(probability, CLIP, 1 - CLIP))
    return clipped


def withhold(rows: npt.ArrayLike, columns: list[int] = SECOND_EXAM_COLUMNS) -> Array:
    """A copy of encoded rows [n, 13] in which the further tests (or `columns`) are missing."""
    copy = np.array(rows, dtype=np.float64)
    copy[:, columns] = np.nan
    return copy


def candidates(
    logistic_c: list[float], trees: int, min_samples_leaf: int, seed: int
) -> dict[str, list[Any]]:
    """The candidate models by name, each with its settings."""
    forest = {"n_estimators": trees, "min_samples_leaf": min_samples_leaf, "random_state": seed}
    boosting = {**forest, "max_depth": 2, "learning_rate": 0.05, "subsample": 0.7}
    return {
        "logistic_regression": [ChainedLogisticRegression(C=c) for c in logistic_c],
        "random_forest": [CalibratedTrees(RandomForestClassifier(**forest), seed=seed)],
        "extra_trees": [CalibratedTrees(ExtraTreesClassifier(**forest), seed=seed)],
        "gradient_boosting": [CalibratedTrees(GradientBoostingClassifier(**boosting), seed=seed)],
    }
