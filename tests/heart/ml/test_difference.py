"""The difference of two models' figures on the same patients, in words."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, recall_score, roc_auc_score

from heart.ml.difference import BETTER, MIXED, NO_EVIDENCE, WORSE, Predictions, differences, overall

OUTCOME = np.array([0.0, 1.0] * 60)
NOISE = np.random.default_rng(1).random(120)
GOOD, POOR = (Predictions(share * OUTCOME + (1 - share) * NOISE, 0.5) for share in (0.5, 0.1))


def test_the_differences_are_those_of_scikit_learn() -> None:
    result = differences(OUTCOME, POOR, GOOD, draws=50, seed=0)

    for name, score in (
        ("roc_auc", roc_auc_score), ("brier", brier_score_loss), ("log_loss", log_loss),
    ):  # fmt: skip
        expected = score(OUTCOME, GOOD.risks) - score(OUTCOME, POOR.risks)
        assert result[name].difference == pytest.approx(expected)
    assert result["recall"].b == pytest.approx(recall_score(OUTCOME, GOOD.risks >= 0.5))


def test_the_better_model_is_better_and_the_other_worse() -> None:
    forward, backward = (
        differences(OUTCOME, a, b, draws=200, seed=0) for a, b in ((POOR, GOOD), (GOOD, POOR))
    )

    assert {forward[name].verdict for name in ("roc_auc", "brier")} == {BETTER}
    assert {backward[name].verdict for name in ("roc_auc", "brier")} == {WORSE}
    assert (overall(forward), overall(backward)) == (BETTER, WORSE)
    assert overall(forward, backward) == MIXED


def test_equal_and_nearly_equal_models_have_no_evidence_of_a_difference() -> None:
    twin = Predictions(np.clip(GOOD.risks + 1e-4 * (NOISE[::-1] - 0.5), 0, 1), 0.5)

    for other in (GOOD, twin):
        result = differences(OUTCOME, GOOD, other, draws=200, seed=0)
        assert overall(result) == NO_EVIDENCE


def test_each_model_is_judged_at_its_own_threshold() -> None:
    strict = Predictions(GOOD.risks, 0.9)

    result = differences(OUTCOME, GOOD, strict, draws=50, seed=0)

    assert result["recall"].verdict == WORSE
    assert result["roc_auc"].difference == 0.0


def test_a_figure_that_cannot_be_computed_is_none() -> None:
    equal = Predictions(np.full(6, 0.6), 0.5)

    result = differences(np.ones(6), equal, equal, draws=20, seed=0)

    assert (result["roc_auc"].a, result["roc_auc"].low) == (None, None)
    assert result["roc_auc"].verdict == NO_EVIDENCE
