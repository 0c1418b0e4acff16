"""Groups of patients on which a model is evaluated: sex, age band, source, and site.

A site is a value of a column that was kept (prepare.keep), such as the hospital.
"""

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from heart.files import KEPT

MAX_SITES = 50  # of one column: with more it tells patients apart, not groups

AGE_BANDS = {"under_50": (0, 50), "50_to_59": (50, 60), "60_and_over": (60, 200)}


def groups(table: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """The rows [n] of each sex, age band, source and site."""
    age = pd.to_numeric(table["age"], errors="coerce")
    masks = {f"sex_{sex}": table["sex"] == sex for sex in ("female", "male")}
    masks |= {f"age_{name}": (age >= low) & (age < high) for name, (low, high) in AGE_BANDS.items()}
    sources = sorted(table["source"].unique())
    if len(sources) > 1:
        masks |= {source_group(source): table["source"] == source for source in sources}
    for column in (name for name in map(str, table) if name.startswith(KEPT)):
        sites = sorted(set(table[column]) - {""})
        if len(sites) <= MAX_SITES:
            prefix = column.removeprefix(KEPT)
            masks |= {f"{prefix}_{_key(site)}": table[column] == site for site in sites}
    return {name: rows.to_numpy(dtype=bool) for name, rows in masks.items()}


def source_group(source: str) -> str:
    """The name of the group of rows from a source."""
    return f"source_{source}"


def _key(site: str) -> str:
    """A site as part of a group's name."""
    return re.sub(r"\W+", "_", site.lower()).strip("_")
