"""Whether the outcome is the right way round, by what medicine is sure of."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heart.errors import UserError
from heart.schema import OUTCOME

# Disease goes with each of these (Detrano et al. 1989): the column, and the value to count or, for
# a number, the sign of its association.
DIRECTIONS: tuple[tuple[str, str | int], ...] = (
    ("exercise_angina", "yes"),
    ("st_depression", +1),
    ("major_vessels", +1),
    ("thallium", "reversible_defect"),
    ("chest_pain_type", "asymptomatic"),
    ("max_heart_rate", -1),
)


def associations(table: pd.DataFrame) -> tuple[dict[str, float], float]:
    """How strongly the outcome goes with each clinical sign, and with all of them together.

    As z values, r sqrt(n - 1) of the correlation r with the outcome; positive is as expected. All
    together is the sum of the standardised signs: they are correlated, so their z values do not add
    up. A sign that does not vary has none; without any, all together is 0.
    """
    sick = (table[OUTCOME.name] == "presence").to_numpy().astype(float)
    found, total = {}, np.zeros(len(table))
    for column, sign in DIRECTIONS:
        values = _numbers(pd.Categorical(table[column]), sign)
        given = ~np.isnan(values)
        z = _association(values[given], sick[given])
        if z is not None:
            found[column] = z
            deviation = (values - values[given].mean()) / values[given].std()
            total += np.nan_to_num(deviation, nan=0.0)
    return found, _association(total, sick) or 0.0


def _association(values: "np.ndarray[Any, Any]", sick: "np.ndarray[Any, Any]") -> float | None:
    if len(values) < 2 or values.std() == 0 or sick.std() == 0:
        return None
    return float(np.corrcoef(values, sick)[0, 1] * np.sqrt(len(values) - 1))


def _numbers(cells: "pd.Categorical[str]", sign: str | int) -> "np.ndarray[Any, Any]":
    """A sign as a number [n]: whether a cell is the category, or its value; NaN where it is missing."""
    distinct = []
    for text in cells.categories:
        value = float(text == sign) if isinstance(sign, str) else sign * float(text or "nan")
        distinct.append(value if text else float("nan"))
    return np.asarray(np.array(distinct)[cells.codes])


def check_direction(table: pd.DataFrame, path: Path, remedy: str) -> dict[str, float]:
    """The associations with each sign. Raises UserError if the label is the wrong way round.

    It is when the signs together speak against it by more than three standard errors: one unusual
    sign in a small file is no evidence.
    """
    found, together = associations(table)
    if together > -3:
        return found
    against = sorted((z, column) for column, z in found.items() if z < 0)
    evidence = "\n".join(f"  {column}: z = {z:.1f}, expected above 0" for z, column in against)
    raise UserError(
        f"{path}: the label looks inverted: {len(against)} of {len(found)} clinical signs go with "
        f"absence of disease, all together z = {together:.1f}\n{evidence}\n{remedy}"
    )
