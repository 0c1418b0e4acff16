import numpy as np
import pandas as pd
import pytest

from heart.schema import OUTCOME
from heart.subsample import subsample

TABLE = pd.DataFrame(
    {
        OUTCOME.name: ["presence"] * 300 + ["absence"] * 700,
        "source": (["raw"] * 9 + ["production"]) * 100,
        "fold": [str(row // 10 % 5) for row in range(1000)],
    }
)


@pytest.mark.parametrize("rows", [1000, 5000])
def test_a_table_that_is_no_larger_is_taken_whole(rows: int) -> None:
    assert subsample(TABLE, rows, seed=0).all()


@pytest.mark.parametrize("rows", [100, 137])
def test_outcomes_sources_and_folds_keep_their_shares(rows: int) -> None:
    kept = subsample(TABLE, rows, seed=0)

    assert kept.sum() == rows
    columns = list(TABLE)
    before, after = TABLE.value_counts(columns), TABLE[kept].value_counts(columns)
    expected = before * rows / len(TABLE)
    assert (after.reindex(before.index, fill_value=0) - expected).abs().max() <= 1


def test_rows_are_drawn_at_random_and_the_same_again() -> None:
    first, again, other = (subsample(TABLE, 100, seed) for seed in (0, 0, 1))

    assert (first == again).all()
    assert (first != other).any()
    often = np.mean([subsample(TABLE, 500, seed) for seed in range(200)], axis=0)
    assert often.min() > 0.3
    assert often.max() < 0.7


def test_a_table_without_folds_has_none_to_keep() -> None:
    assert subsample(TABLE.drop(columns="fold"), 100, seed=0).sum() == 100
