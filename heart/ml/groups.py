"""Groups of patients on which a model is evaluated: sex, age band and source."""

import numpy as np
import numpy.typing as npt
import pandas as pd

AGE_BANDS = {"under_50": (0, 50), "50_to_59": (50, 60), "60_and_over": (60, 200)}


def groups(table: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """The rows [n] of each sex, age band and source."""
    age = pd.to_numeric(table["age"], errors="coerce")
    masks = {f"sex_{sex}": table["sex"] == sex for sex in ("female", "male")}
    masks |= {f"age_{name}": (age >= low) & (age < high) for name, (low, high) in AGE_BANDS.items()}
    sources = sorted(table["source"].unique())
    if len(sources) > 1:
        masks |= {source_group(source): table["source"] == source for source in sources}
    return {name: rows.to_numpy(dtype=bool) for name, rows in masks.items()}


def source_group(source: str) -> str:
    """The name of the group of rows from a source."""
    return f"source_{source}"
