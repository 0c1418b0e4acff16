"""Challenger against champion: the scores of both on the same held-out patients, by group.

Both models are evaluated on the same patients, so that most of their sampling error is common to both. A
paired bootstrap uses that: draw patients with replacement, score both models on each draw, and take the
percentile interval of the difference (Efron and Tibshirani 1993, "An introduction to the bootstrap",
chapter 13). Draws are stratified by outcome, so that every draw has a ROC AUC.

Example: a challenger with a ROC AUC of 0.925 and a champion with 0.933 on 73 patients each have an interval
of about 0.12. If they rank the patients nearly alike, the interval of their difference is much shorter, for
example -0.02 to 0.005: a margin of 0.03 can be verified, although the two single intervals overlap widely.
"""

from typing import Any, Protocol

import numpy as np
import pandas as pd

from heart.ml.groups import groups
from heart.ml.scores import Array, bootstrap_weights, interval, weighted_brier, weighted_roc_auc
from heart.schema import OUTCOME

SCORES = {"roc_auc": weighted_roc_auc, "brier": weighted_brier}
ALL = "all"


class BootstrapOptions(Protocol):
    """How the paired bootstrap draws, as in section `register` of params.yaml."""

    @property
    def bootstrap(self) -> int:
        """The number of draws."""

    @property
    def seed(self) -> int:
        """The seed of the draws."""

    @property
    def confidence(self) -> float:
        """The confidence of the interval."""


def paired(
    outcome: Array, challenger: Array, champion: Array, options: BootstrapOptions
) -> dict[str, dict[str, float | None]]:
    """Each score of both models, challenger minus champion, and the interval of that difference.

    `outcome` is 0 or 1 [n], the others are probabilities [n]. None where a score cannot be computed.
    """
    once = np.ones((1, len(outcome)))
    blocks = [
        {name: score(outcome, challenger, w) - score(outcome, champion, w) for name, score in SCORES.items()}
        for w in bootstrap_weights(outcome, options.bootstrap, options.seed)
    ]  # fmt: skip
    scores = {}
    for name, score in SCORES.items():
        challenger_score, champion_score = (
            float(score(outcome, p, once)[0]) for p in (challenger, champion)
        )
        low, high = interval(np.concatenate([block[name] for block in blocks]), options.confidence)
        figures = {
            "challenger": challenger_score,
            "champion": champion_score,
            "difference": challenger_score - champion_score,
        }
        figures |= {"low": low, "high": high}
        scores[name] = {k: None if np.isnan(value) else value for k, value in figures.items()}
    return scores


def compare(
    test: pd.DataFrame, challenger: Array, champion: Array, options: BootstrapOptions
) -> dict[str, dict[str, Any]]:
    """`paired` for all held-out patients and for each group, with the counts of rows and of presence."""
    positive = (test[OUTCOME.name] == OUTCOME.choices[1].name).to_numpy()
    by_group = {}
    for name, rows in {ALL: np.ones(len(test), dtype=bool), **groups(test)}.items():
        if rows.any():
            counts = {"rows": int(rows.sum()), "presence": int(positive[rows].sum())}
            scores = paired(positive[rows].astype(float), challenger[rows], champion[rows], options)
            by_group[name] = counts | scores
    return by_group
