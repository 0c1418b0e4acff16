"""Membership attack: how well can somebody with synthetic rows tell whether a patient was among the generator's?

A fold's generator was fitted without the fold, so its members are known: the patients of the other folds. An attacker
gives each real patient a score; the ROC AUC of the scores, members against the fold's patients, is 0.5 if the rows
reveal nothing and 1 if they reveal everybody. Distances to the closest row and counts of exact copies alone do not
show this (Yao et al. 2025, "The DCR delusion", arXiv 2505.01524).

Two attackers, of which the stronger counts:

- distance: the closer the closest synthetic row, the likelier a member (Chen et al. 2020, "GAN-Leaks").
- density: the denser synthetic rows are around a patient relative to real patients, the likelier a member (van Breugel
  et al. 2023, "Membership inference attacks against synthetic data through overfitting detection", DOMIAS). A patient
  in a crowd has close rows anyway, and this attacker corrects for it; it needs further real patients.

Example: with 184 members, 46 others and rows that are copies of members, every member has the distance 0 and hardly any
other has, so the AUC is 1.

The interval is that of drawing patients with replacement within each fold. Each attacker's has the confidence
1 - 0.05 / 2 (Bonferroni), so that both hold together, and therefore the stronger one's, with 95 %.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import cdist

from heart.schema import NAMES, encode
from heart.synthesis.generator import COLUMNS

Array = npt.NDArray[np.float64]

LIMIT = 0.6  # an AUC beyond which synthetic rows should not be shared
NEIGHBORS = 5  # of a density
CLOSEST = 1e-6  # distances below it count as it, so that a copy has a logarithm
DRAWS = 2000
CONFIDENCE = 0.95


def membership_attack(real: pd.DataFrame, synthetic: pd.DataFrame, seed: int) -> dict[str, Any]:
    """The ROC AUC of the stronger attacker with its 95 % interval, over the generators of all folds; and of each.

    `fold` is that of a real patient, and the one without which the generator of a synthetic row was fitted.
    """
    folds = real["fold"].to_numpy()
    weights = _draws(folds, seed)
    tables = {fold: synthetic[synthetic["fold"] == fold] for fold in np.unique(folds)}
    attacks = {
        name: _pooled({f: scores(real, t) for f, t in tables.items()}, folds, weights)
        for name, scores in ATTACKERS.items()
    }
    stronger = max(attacks, key=lambda name: attacks[name]["auc"])
    return {"attacker": stronger, **attacks[stronger], "by_attacker": attacks}


def distance_scores(real: pd.DataFrame, synthetic: pd.DataFrame) -> Array:
    """Minus the distance of each real row to the closest synthetic one."""
    distances = cdist(_points(real, synthetic), _points(synthetic, synthetic))
    scores: Array = -distances.min(axis=1)
    return scores


def density_scores(real: pd.DataFrame, synthetic: pd.DataFrame) -> Array:
    """The logarithm of the density of synthetic rows at each real one, relative to that of other real rows.

    A density is estimated from the distance to the nearest rows (k-nearest-neighbor estimate), up to a factor
    that is common to all rows.
    """
    points, drawn = (_points(table, synthetic) for table in (real, synthetic))
    others = cdist(points, points)
    np.fill_diagonal(others, np.inf)
    return _log_distance(others) - _log_distance(cdist(points, drawn))


ATTACKERS: dict[str, Callable[[pd.DataFrame, pd.DataFrame], Array]] = {
    "distance": distance_scores,
    "density": density_scores,
}


def _log_distance(distances: Array) -> Array:
    """Of each row to its nearest neighbors, the mean of the logarithms."""
    count = min(NEIGHBORS, distances.shape[1])
    nearest = np.partition(distances, count - 1, axis=1)[:, :count]
    logs: Array = np.log(np.maximum(nearest, CLOSEST)).mean(axis=1)
    return logs


def _points(table: pd.DataFrame, scale: pd.DataFrame) -> Array:
    """Rows as points: numbers relative to their deviation in `scale`; two different categories are 1 apart."""
    names = [measurement.name for measurement in COLUMNS]
    codes, reference = (
        np.column_stack([
            encode({name: t[name].tolist() for name in NAMES}).astype(float),
            (t[names[-1]] == COLUMNS[-1].choices[1].name).astype(float),
        ])
        for t in (table, scale)
    )  # fmt: skip
    parts = []
    for column, measurement in enumerate(COLUMNS):
        values, known = codes[:, column, None], reference[:, column]
        known = known[~np.isnan(known)]
        if measurement.choices:
            parts.append((values == np.arange(len(measurement.choices))) / np.sqrt(2))
        elif len(known):
            deviation = known.std() or 1.0
            parts.append(np.nan_to_num((values - known.mean()) / deviation))
    return np.hstack(parts)


def _draws(folds: npt.NDArray[Any], seed: int) -> Array:
    """How often each patient is drawn [1 + draws, patients], within each fold; first, each once."""
    random = np.random.default_rng(seed)
    weights = np.ones((1 + DRAWS, len(folds)))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        weights[1:, rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), DRAWS)
    return weights


def _pooled(
    scores: Mapping[Any, Array], folds: npt.NDArray[Any], weights: Array
) -> dict[str, float]:
    """The mean AUC over the generators, and its interval for two attackers."""
    areas = np.mean(
        [weighted_areas(score, folds != fold, weights) for fold, score in scores.items()], axis=0
    )
    tail = (1 - CONFIDENCE) / 2 / len(ATTACKERS)
    low, high = np.quantile(areas[1:], [tail, 1 - tail])
    return {"auc": float(areas[0]), "low": float(low), "high": float(high)}


def weighted_areas(scores: Array, member: npt.NDArray[np.bool_], weights: Array) -> Array:
    """The ROC AUC for each row of weights: the probability that a member has the higher score, ties count half."""
    difference = scores[member][:, None] - scores[~member]
    wins = (np.sign(difference) + 1) / 2
    inside, outside = weights[:, member], weights[:, ~member]
    areas: Array = (inside @ wins * outside).sum(axis=1) / (
        inside.sum(axis=1) * outside.sum(axis=1)
    )
    return areas
