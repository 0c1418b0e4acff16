from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from heart.registry.model_card import MEMBERSHIP_LIMIT
from heart.schema import MEASUREMENTS, OUTCOME
from heart.synthesis.attack import (
    LIMIT,
    density_scores,
    distance_scores,
    membership_attack,
    weighted_areas,
)

FOLDS = [str(fold) for fold in range(5)]


def patients(rows: int, seed: int) -> pd.DataFrame:
    """Independent random patients, some values missing."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            m.name: random.choice([c.name for c in m.choices], rows)
            if m.choices
            else [
                m.text(round(float(v), 1) if m.step < 1 else float(round(v)))
                for v in random.uniform(m.low, m.high, rows)
            ]
            for m in (*MEASUREMENTS, OUTCOME)
        }
    )
    table.loc[::7, "thallium"] = ""
    table.loc[::11, "cholesterol"] = ""
    return table.assign(fold=[FOLDS[row % 5] for row in range(rows)])


REAL = patients(100, seed=0)


def of_each_fold(draw: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([draw(fold).assign(fold=fold) for fold in FOLDS], ignore_index=True)


def test_copies_of_the_members_are_caught() -> None:
    copies = of_each_fold(lambda fold: REAL[REAL["fold"] != fold])

    attack = membership_attack(REAL, copies, seed=0)

    assert attack["by_attacker"]["distance"] == {"auc": 1, "low": 1, "high": 1}
    assert attack["auc"] == 1


def test_a_generator_that_repeats_one_member_in_four_is_caught() -> None:
    def draw(fold: str) -> pd.DataFrame:
        return pd.concat([REAL[REAL["fold"] != fold].head(20), patients(200, seed=int(fold) + 1)])

    attack = membership_attack(REAL, of_each_fold(draw), seed=0)

    assert attack["low"] > 0.5
    assert attack["high"] > LIMIT


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_generator_that_saw_nobody_tell_nothing(seed: int) -> None:
    independent = of_each_fold(lambda fold: patients(300, seed=10 * seed + int(fold) + 1))

    attack = membership_attack(REAL, independent, seed=0)

    for part in attack["by_attacker"].values():
        assert part["low"] < 0.5 < part["high"]
        assert part["auc"] == pytest.approx(0.5, abs=0.06)


def test_the_stronger_attacker_counts() -> None:
    attack = membership_attack(REAL, of_each_fold(lambda fold: REAL[REAL["fold"] != fold]), 0)

    by_attacker = attack["by_attacker"]
    assert attack["auc"] == max(part["auc"] for part in by_attacker.values())
    assert {name: attack[name] for name in ("auc", "low", "high")} == by_attacker[
        attack["attacker"]
    ]


def test_members_score_higher_the_closer_and_the_denser_the_rows_are() -> None:
    synthetic = pd.concat([REAL.head(1)] * 5 + [patients(200, seed=3)], ignore_index=True)

    for scores in (distance_scores(REAL, synthetic), density_scores(REAL, synthetic)):
        assert scores.argmax() == 0


def test_areas_count_ties_half_and_draws_by_weight() -> None:
    scores = np.array([3.0, 1.0, 1.0, 2.0])
    member = np.array([True, True, False, False])

    areas = weighted_areas(scores, member, np.array([[1.0, 1, 1, 1], [2, 0, 1, 1], [0, 1, 0, 2]]))

    assert areas.tolist() == [(2 + 0.5) / 4, 1, 0]


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = of_each_fold(lambda fold: patients(100, seed=int(fold) + 1))

    assert membership_attack(REAL, rows, 4) == membership_attack(REAL, rows, 4)


def test_the_model_card_has_the_same_limit() -> None:
    assert MEMBERSHIP_LIMIT == LIMIT
