"""Rows as a data frame for evidently and nannyml: numbers, and categories as texts."""

from typing import Any

import pandas as pd


def names(columns: list[int]) -> list[str]:
    """The names of columns."""
    return [f"column{number}" for number in columns]


def frame(rows: Any, continuous: list[int]) -> pd.DataFrame:
    """Rows [n, columns] as a data frame."""
    columns = names(list(range(rows.shape[1])))
    kinds = {n: float if i in continuous else str for i, n in enumerate(columns)}
    return pd.DataFrame(rows, columns=columns).astype(kinds)
