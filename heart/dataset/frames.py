"""A table of patients as a pandas frame, for stage `prepare` and the data report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart.dataset.likelihood import Cells
from heart.dataset.translation import Problem
from heart.schema import NAMES

_INVERTED = {"absence": "presence", "presence": "absence"}


def frame_of(columns: Mapping[str, Cells], rows: int) -> pd.DataFrame:
    """The columns of a table with that many rows; a measurement without a column is empty."""
    empty = Cells([""], np.zeros(rows, dtype=np.int32))
    cells = {**dict.fromkeys(NAMES, empty), **columns}
    table: dict[str, Any] = {
        name: pd.Categorical.from_codes(c.positions, categories=pd.Index(list(c.texts)))
        for name, c in cells.items()
    }
    return pd.DataFrame(table)


def rows_with(problems: Sequence[Problem], rows: int) -> npt.NDArray[np.bool_]:
    """Which rows [n] have one of these problems."""
    bad = np.zeros(rows, dtype=bool)
    for problem in problems:
        bad[problem.rows] = True
    return bad


def inverted(outcomes: "pd.Series[Any]") -> "pd.Series[str]":
    """The outcomes of a file whose label means the opposite."""
    return outcomes.astype(str).map(_INVERTED)
