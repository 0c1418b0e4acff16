"""Two models on the same patients: figures and paired intervals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from heart.ml.comparison import compare, paired
from stages import params

LIMITS = params.Floors(roc_auc=0.8, recall=0.6, brier=0.18, group_roc_auc=0.65)
OPTIONS = params.Register(
    model_name="heart", margins=params.Margins(roc_auc=0.03, brier=0.03, recent_brier=0.02, frozen_roc_auc=0.1, frozen_brier=0.06, group_brier=0.06), confidence=0.9, recent_outcomes=20, floors=LIMITS,
    bootstrap=200, seed=0,
)  # fmt: skip
OUTCOME = np.array([0.0, 1.0] * 40)
NOISE = np.random.default_rng(1).random(80)
GOOD, POOR = 0.5 * OUTCOME + 0.5 * NOISE, 0.1 * OUTCOME + 0.9 * NOISE


def test_the_figures_equal_those_of_scikit_learn() -> None:
    scores = paired(OUTCOME, GOOD, POOR, OPTIONS)

    for name, score in (("roc_auc", roc_auc_score), ("brier", brier_score_loss)):
        challenger, champion = score(OUTCOME, GOOD), score(OUTCOME, POOR)
        assert scores[name]["challenger"] == pytest.approx(challenger)
        assert scores[name]["champion"] == pytest.approx(champion)
        assert scores[name]["difference"] == pytest.approx(challenger - champion)


def test_a_model_is_no_better_than_itself() -> None:
    for figures in paired(OUTCOME, GOOD, GOOD, OPTIONS).values():
        assert (figures["difference"], figures["low"], figures["high"]) == (0.0, 0.0, 0.0)


def test_the_interval_is_that_of_the_difference_and_not_of_two_samples() -> None:
    twin = GOOD + 0.001 * NOISE

    close, far = paired(OUTCOME, twin, GOOD, OPTIONS), paired(OUTCOME, POOR, GOOD, OPTIONS)

    width = {n: figures["roc_auc"]["high"] - figures["roc_auc"]["low"]  # type: ignore[operator]
             for n, figures in (("close", close), ("far", far))}  # fmt: skip
    assert width["close"] < width["far"] / 10
    assert far["roc_auc"]["high"] < 0 < far["brier"]["low"]  # type: ignore[operator]


def test_more_confidence_is_a_wider_interval() -> None:
    sure = OPTIONS.model_copy(update={"confidence": 0.99})

    wide, usual = (paired(OUTCOME, GOOD, POOR, o)["roc_auc"] for o in (sure, OPTIONS))

    assert wide["low"] < usual["low"] < usual["high"] < wide["high"]  # type: ignore[operator]


def test_the_comparison_repeats_for_a_seed() -> None:
    other = OPTIONS.model_copy(update={"seed": 1})

    first, again, another = (paired(OUTCOME, GOOD, POOR, o) for o in (OPTIONS, OPTIONS, other))

    assert first == again != another


def test_every_group_is_compared_on_its_own_patients() -> None:
    test = pd.DataFrame(
        {
            "sex": ["male"] * 40 + ["female"] * 40,
            "age": "55",
            "source": ["raw"] * 60 + ["production"] * 20,
            "heart_disease": np.where(OUTCOME == 1, "presence", "absence"),
        }
    )

    by_group = compare(test, np.append(GOOD[:60], POOR[60:]), POOR, OPTIONS)

    assert {name: figures["rows"] for name, figures in by_group.items()} == {
        "all": 80, "sex_female": 40, "sex_male": 40, "age_50_to_59": 80,
        "source_raw": 60, "source_production": 20,
    }  # fmt: skip
    assert by_group["source_production"]["roc_auc"]["difference"] == 0
    assert (
        by_group["source_raw"]["roc_auc"]
        == paired(OUTCOME[:60], GOOD[:60], POOR[:60], OPTIONS)["roc_auc"]
    )
    assert by_group["source_raw"]["presence"] == 30


def test_a_group_of_one_outcome_has_no_roc_auc() -> None:
    negative = np.zeros(12)

    scores = paired(negative, GOOD[:12], POOR[:12], OPTIONS)

    assert set(scores["roc_auc"].values()) == {None}
    assert scores["brier"]["difference"] is not None
