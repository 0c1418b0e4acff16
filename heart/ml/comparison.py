"""Challenger against champion: what both score on the same held-out patients, by group.

Both are scored on the same bootstrap draws, so that the interval is that of the difference.
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
        """Of the draws."""

    @property
    def confidence(self) -> float:
        """Of the interval."""


def paired(
    outcome: Array, challenger: Array, champion: Array, options: BootstrapOptions
) -> dict[str, dict[str, float | None]]:
    """Each score of both, challenger minus champion, and the interval of that difference.

    Of outcomes 0 or 1 [n] and probabilities [n]; None where a score cannot be computed.
    """
    once = np.ones((1, len(outcome)))
    drawn = [
        {name: score(outcome, challenger, w) - score(outcome, champion, w) for name, score in SCORES.items()}
        for w in bootstrap_weights(outcome, options.bootstrap, options.seed)
    ]  # fmt: skip
    scores = {}
    for name, score in SCORES.items():
        challenger_score, champion_score = (
            float(score(outcome, p, once)[0]) for p in (challenger, champion)
        )
        low, high = interval(np.concatenate([block[name] for block in drawn]), options.confidence)
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
    """`paired` for all held-out patients and for each group of them, with the counts of both outcomes."""
    positive = (test[OUTCOME.name] == OUTCOME.choices[1].name).to_numpy()
    by_group = {}
    for name, rows in {ALL: np.ones(len(test), dtype=bool), **groups(test)}.items():
        if rows.any():
            counts = {"rows": int(rows.sum()), "presence": int(positive[rows].sum())}
            scores = paired(positive[rows].astype(float), challenger[rows], champion[rows], options)
            by_group[name] = counts | scores
    return by_group
