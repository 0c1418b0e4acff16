"""A table of patients as a pandas frame, for stage `prepare`, the data report and external validation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart import files
from heart.dataset import headings, translation
from heart.dataset.detection import Detected
from heart.dataset.likelihood import Cells
from heart.dataset.reader import RawTable, listed
from heart.dataset.translation import Problem
from heart.errors import UserError
from heart.schema import NAMES

SHOWN_DROPPED = 1000  # dropped rows that are listed in metrics/

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


def good_rows(
    source: RawTable, detected: Detected, bad_rows: str, keep: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The good rows of a file as the schema's texts, with their lines, and what was dropped.

    `bad_rows` is refuse or drop; `keep` are extra columns to keep. Raises UserError for bad rows unless they
    are to be dropped.
    """
    columns, problems = translation.translate(source, detected.coding)
    others, other_problems = translation.words(source)
    columns |= others
    problems += other_problems
    if (problems or source.bad_lines) and bad_rows == "refuse":
        texts = translation.described(problems, source)
        raise UserError(
            listed(source.name, texts) + "\ncorrect these rows, or leave them out with "
            "prepare.bad_rows: drop"
        )
    bad = rows_with(problems, len(source.lines))
    if bad.all():
        texts = translation.described(problems, source)
        raise UserError(
            f"{listed(source.name, texts)}\nno row is left, expected some without a problem"
        )
    lines = [*source.lines[bad].tolist(), *(line for line, _ in source.bad_lines)]
    by_column = Counter({p.column: len(p.rows) for p in problems})
    dropped = {
        "rows": len(lines),
        "by_column": dict(sorted(by_column.items())) | {"(row)": len(source.bad_lines)},
        "lines": sorted(lines)[:SHOWN_DROPPED],
    }
    kept = {name: f"{files.KEPT}{headings.plain(name)}" for name in keep}
    table = frame_of(columns, len(bad)).rename(columns=kept)
    return table.assign(line=source.lines)[~bad], dropped


def inverted(outcomes: "pd.Series[Any]") -> "pd.Series[str]":
    """The outcomes of a file whose label means the opposite."""
    return outcomes.astype(str).map(_INVERTED)
