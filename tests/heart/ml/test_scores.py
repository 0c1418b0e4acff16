import tracemalloc

import numpy as np
import pytest
from sklearn import metrics

from heart.ml import scores
from heart.ml.scores import (
    all_scores,
    bootstrap_weights,
    interval,
    roc_auc,
    weighted_ece,
    with_intervals,
)

random = np.random.default_rng(7)
Y = random.integers(2, size=60).astype(float)
# Rounded, so that there are ties.
P = np.clip(0.3 * Y + 0.7 * random.random(60), 0.01, 0.99).round(1)


@pytest.mark.parametrize("draw", range(5))
def test_scores_equal_those_of_scikit_learn_on_the_drawn_rows(draw: int) -> None:
    [weights] = bootstrap_weights(Y, 5, seed=1)
    rows = np.repeat(np.arange(len(Y)), weights[draw].astype(int))
    y, p = Y[rows], P[rows]

    scores = {name: values[draw] for name, values in all_scores(Y, P, weights, 0.5, 5).items()}

    yes = p >= 0.5
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(y, p))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(y, yes))
    assert scores["precision"] == pytest.approx(metrics.precision_score(y, yes))
    assert scores["recall"] == pytest.approx(metrics.recall_score(y, yes))
    assert scores["f1"] == pytest.approx(metrics.f1_score(y, yes))
    assert scores["brier"] == pytest.approx(metrics.brier_score_loss(y, p))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(y, p))


def test_bootstrap_draws_keep_the_number_of_each_outcome() -> None:
    weights, again, others = (next(bootstrap_weights(Y, 200, seed)) for seed in (0, 0, 1))

    assert (weights.sum(axis=1) == len(Y)).all()
    assert (weights @ Y == Y.sum()).all()
    assert np.array_equal(weights, again)
    assert not np.array_equal(weights, others)


def test_the_draws_of_many_rows_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK", 7 * len(Y))

    blocks = list(bootstrap_weights(Y, 20, seed=0))

    assert [len(block) for block in blocks] == [7, 7, 6]
    assert len({row.tobytes() for block in blocks for row in block}) == 20
    assert all((block.sum(axis=1) == len(Y)).all() for block in blocks)
    assert all((block @ Y == Y.sum()).all() for block in blocks)


def test_every_block_counts_for_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    [weights] = bootstrap_weights(Y, 40, seed=0)
    blocks = [weights[:7], weights[7:33], weights[33:]]

    whole = with_intervals(Y, P, 40, 0, 0.5, 5)
    monkeypatch.setattr(scores, "bootstrap_weights", lambda *_: iter(blocks))

    assert with_intervals(Y, P, 40, 0, 0.5, 5) == pytest.approx(whole)


def test_the_bootstrap_interval_covers_the_true_auc() -> None:
    # Normal scores one standard deviation apart: the true AUC is Phi(1 / sqrt 2) = 0.760.
    y = np.repeat([0.0, 1.0], 60)
    covered = 0
    for seed in range(200):
        p = np.random.default_rng(seed).normal(y)
        [weights] = bootstrap_weights(y, 200, seed)
        low, high = interval(all_scores(y, p, weights, 0.5, 5)["roc_auc"])
        covered += low <= 0.7602 <= high

    assert 0.90 <= covered / 200 <= 0.99


def test_an_interval_leaves_out_half_of_the_rest_at_each_end() -> None:
    values = np.append(np.linspace(0, 1, 101), np.nan)

    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(values, confidence=0.8) == pytest.approx((0.1, 0.9))


def test_calibration_error_is_the_mean_gap_of_equal_groups() -> None:
    y = np.array([0.0, 0.0, 1.0, 1.0])
    p = np.array([0.1, 0.3, 0.6, 0.6])

    assert weighted_ece(y, p, np.ones((1, 4)), bins=2)[0] == pytest.approx((0.4 + 0.8) / 4)


def test_a_score_that_cannot_be_computed_is_none() -> None:
    negative = np.zeros(12)

    figures = with_intervals(negative, P[:12], 20, 0, 0.5, 3)

    assert figures["roc_auc"] is None
    assert figures["roc_auc_low"] is None
    assert np.isnan(roc_auc(negative, P[:12]))
    assert figures["brier_low"] <= figures["brier"] <= figures["brier_high"]


def test_roc_auc_of_many_rows_takes_little_memory() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([1.0, 0.0], 10_000)
    p = np.append(random.random(10_000) / 2 + 0.5, random.random(10_000))

    tracemalloc.start()
    try:
        auc = roc_auc(y, p)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert auc == pytest.approx(0.75, abs=0.01)
    assert peak < 10e6
