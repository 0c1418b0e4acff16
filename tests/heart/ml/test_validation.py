"""Calibration, recalibration and the verdict, on simulated patients whose truth is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from heart.ml.validation import (
    AS_IT_IS,
    DO_NOT_USE,
    RECALIBRATE,
    TOO_FEW,
    fit,
    log_odds,
    recalibrated,
    validate,
)

Z = np.random.default_rng(0).normal(0, 1.5, 500)
RISKS = 1 / (1 + np.exp(-Z))


def outcomes(intercept: float, slope: float, seed: int = 1) -> np.ndarray:
    chance = 1 / (1 + np.exp(-(intercept + slope * Z)))
    return (np.random.default_rng(seed).random(len(Z)) < chance).astype(float)


def test_intercept_and_slope_are_those_of_scikit_learn() -> None:
    y = outcomes(0.7, 0.6)

    both = fit(y, Z, 2)

    library = LogisticRegression(C=1e9, tol=1e-10).fit(Z[:, None], y)
    expected = [library.intercept_[0], library.coef_[0, 0]]
    assert both.coefficients == pytest.approx(expected, abs=1e-4)


def test_the_intervals_hold_the_truth() -> None:
    hits = [
        (
            fit(outcomes(0.7, 1, seed), Z, 1).estimate(0),
            fit(outcomes(0, 0.6, seed), Z, 2).estimate(1),
        )
        for seed in range(200)
    ]

    shares = np.mean([[i.low < 0.7 < i.high, s.low < 0.6 < s.high] for i, s in hits], axis=0)

    # 95 % of 200, with four standard errors.
    assert (shares > 0.88).all()
    assert (shares < 1).all()


@pytest.mark.parametrize(
    ("intercept", "slope", "verdict"),
    [(0, 1, AS_IT_IS), (1.2, 1, RECALIBRATE), (0, 0.5, RECALIBRATE), (0, 0, DO_NOT_USE),
     (0, -1, DO_NOT_USE)],
)  # fmt: skip
def test_the_verdict_is_that_of_the_simulated_truth(
    intercept: float, slope: float, verdict: str
) -> None:
    result = validate(outcomes(intercept, slope), RISKS, 0.5, draws=300)

    assert result.verdict == verdict
    assert result.reasons


def test_a_deviation_that_recalibration_does_not_improve_is_no_reason_to_recalibrate() -> None:
    # The test says p < 0.05 by chance, and every cross-validated recalibration is worse.
    result = validate(outcomes(0, 1, seed=89), RISKS, 0.5, draws=200)

    assert result.miscalibration_p is not None
    assert result.miscalibration_p < 0.05
    assert min(r.figures["log_loss"].difference or 0.0 for r in result.recalibrations) > 0
    assert result.verdict == AS_IT_IS


def test_recalibration_by_the_fit_restores_the_share_of_disease() -> None:
    y = outcomes(1, 1)

    for free in (1, 2):
        moved = recalibrated(RISKS, fit(y, log_odds(RISKS), free).coefficients, free)
        assert moved.mean() == pytest.approx(y.mean(), abs=1e-6)
        assert (np.argsort(moved) == np.argsort(RISKS)).all()


def test_what_recalibration_would_give_is_judged_on_patients_it_was_not_fitted_on() -> None:
    y = outcomes(0, 1)
    right, shifted = (validate(o, RISKS, 0.5, draws=300) for o in (y, outcomes(1.2, 1)))

    for free, recalibration in enumerate(right.recalibrations, start=1):
        gain = fit(y, Z, free).log_likelihood - fit(y, Z, 0).log_likelihood
        assert gain > 0  # on the patients of the fit it always looks good
        change = recalibration.figures["log_loss"].difference
        assert change is not None
        assert change > -gain / len(y)
    end = shifted.recalibrations[0].figures["brier"].high
    assert end is not None
    assert end < 0


def test_too_few_patients_of_one_outcome_have_no_verdict() -> None:
    y = np.zeros(500)
    y[:9] = 1

    result = validate(y, RISKS, 0.5)

    assert (result.verdict, result.with_disease, result.roc_auc) == (TOO_FEW, 9, None)


def test_risks_of_zero_and_one_and_complete_separation_have_finite_figures() -> None:
    y = np.array([0.0, 1.0] * 30)

    result = validate(y, y.copy(), 0.5, draws=50)

    assert result.slope is not None
    assert result.miscalibration_p is not None
    assert np.isfinite([result.slope.value, result.miscalibration_p]).all()


def test_net_benefit_is_measured_against_the_better_simple_policy() -> None:
    y = np.array([1.0] * 30 + [0.0] * 10)
    useless = np.full(40, 0.6)  # treats all, which is the better policy here

    result = validate(y, useless, 0.5, draws=50)

    assert result.net_benefit is not None
    assert result.net_benefit.value == 0.0
