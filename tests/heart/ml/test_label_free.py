"""Performance estimated without outcomes, and its contradiction by outcomes."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from heart.ml.label_free import FIGURES, contradiction, estimate

LIMIT = math.log(100)


def risks_of(random: np.random.Generator, patients: int) -> np.ndarray:
    return 1 / (1 + np.exp(-random.normal(0, 2, patients)))


def test_the_estimate_is_the_expected_score() -> None:
    figures = estimate([0.9, 0.8, 0.2, 0.1], 0.5, seed=0, draws=20_000)

    assert figures["accuracy"] is not None
    assert figures["brier"] is not None
    assert figures["accuracy"].value == pytest.approx(0.85, abs=0.01)
    assert figures["brier"].value == pytest.approx(0.125, abs=0.01)


def test_certain_risks_give_the_scores_of_scikit_learn() -> None:
    # With outcomes that are certain, each draw is the same; ties count half.
    risks = np.array([0.0, 0.0, 1.0, 1.0, 0.0])

    figures = estimate(risks, 0.5, seed=0, draws=10)

    auc, brier = figures["roc_auc"], figures["brier"]
    assert auc is not None
    assert brier is not None
    assert (auc.low, auc.value, auc.high) == (1, 1, 1)
    assert brier.value == brier_score_loss(risks, risks)


def test_roc_auc_of_draws_agrees_with_scikit_learn_where_risks_are_equal() -> None:
    risks = np.round(risks_of(np.random.default_rng(1), 60), 1)
    random = np.random.default_rng(0)
    draws = random.random((50, 60)) < np.sort(risks)
    expected = np.mean([roc_auc_score(draw, np.sort(risks)) for draw in draws])

    auc = estimate(risks, 0.5, seed=0, draws=50)["roc_auc"]

    assert auc is not None
    assert auc.value == pytest.approx(expected)


def test_the_interval_holds_the_observed_score_in_95_of_100_windows() -> None:
    random, windows = np.random.default_rng(0), 200
    held = dict.fromkeys(FIGURES, 0)
    for window in range(windows):
        risks = risks_of(random, 100)
        outcomes = random.random(100) < risks
        observed = {
            "accuracy": float(((risks >= 0.5) == outcomes).mean()),
            "brier": brier_score_loss(outcomes, risks),
            "roc_auc": roc_auc_score(outcomes, risks),
        }
        for name, figure in estimate(risks, 0.5, seed=window, draws=300).items():
            assert figure is not None
            held[name] += figure.low <= observed[name] <= figure.high
    assert all(0.91 <= count / windows <= 1 for count in held.values())


def test_without_patients_or_without_a_second_outcome_there_is_no_figure() -> None:
    assert estimate([], 0.5, seed=0) == dict.fromkeys(FIGURES)
    assert estimate([1.0, 1.0], 0.5, seed=0)["roc_auc"] is None


def test_blocks_do_not_change_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    risks = risks_of(np.random.default_rng(0), 40)
    whole = estimate(risks, 0.5, seed=3, draws=100)
    monkeypatch.setattr("heart.ml.label_free.BLOCK", 400)

    assert estimate(risks, 0.5, seed=3, draws=100) == whole


def test_right_risks_are_rarely_contradicted_however_often_it_is_evaluated() -> None:
    random, alarms, streams = np.random.default_rng(0), 0, 300
    for _ in range(streams):
        risks = risks_of(random, 300)
        outcomes = random.random(300) < risks
        looks = range(11, 301, 17)
        alarms += any(contradiction(risks[:n], outcomes[:n], 0.5) >= LIMIT for n in looks)
    assert alarms / streams <= 0.01 + 2 * math.sqrt(0.01 * 0.99 / streams)


@pytest.mark.parametrize("share", [0.5, 1.0], ids=["random outcomes", "inverted outcomes"])
def test_a_changed_disease_contradicts_the_estimate(share: float) -> None:
    random = np.random.default_rng(0)
    risks = risks_of(random, 120)
    outcomes = random.random(120) < (1 - share) * risks + share * (1 - risks)

    assert contradiction(risks, outcomes, 0.5) >= LIMIT


def test_scores_above_the_estimate_contradict_it_too() -> None:
    risks = np.array([0.3, 0.7] * 100)

    assert contradiction(risks, risks > 0.5, 0.5) >= LIMIT


def test_a_rarer_disease_contradicts_the_estimate() -> None:
    # Accuracy and Brier score hardly change: the number of ill patients does.
    risks = np.array([0.4, 0.6] * 50)
    outcomes = np.random.default_rng(0).random(100) < risks / 2

    assert contradiction(risks, outcomes, 0.5) >= LIMIT
