"""A part of a large table that stands for all of it."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart.schema import OUTCOME

STRATA = (OUTCOME.name, "source", "fold")


def subsample(table: pd.DataFrame, rows: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows [n] belong to a random part of at most `rows`; all of a table that is no larger.

    Outcomes, sources and folds, and what comes together of them, have the share that they have in
    the table, to within a row.
    """
    if len(table) <= rows:
        return np.ones(len(table), dtype=bool)
    stratum = table.groupby([name for name in STRATA if name in table]).ngroup().to_numpy()
    shuffled = np.random.default_rng(seed).permutation(len(table))
    by_stratum = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    chosen = np.zeros(len(table), dtype=bool)
    chosen[by_stratum[np.arange(rows) * len(table) // rows]] = True  # evenly over the strata
    return chosen
