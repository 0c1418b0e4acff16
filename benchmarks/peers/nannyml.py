"""The decisions of nannyml, at its defaults (`windows.py` says what it is given)."""

from typing import Any

import pandas as pd
from nannyml import UnivariateDriftCalculator, disable_usage_logging

from benchmarks.peers.frames import frame, names
from benchmarks.peers.windows import quiet, tell


def fit(reference: pd.DataFrame, continuous: list[int], window: int) -> Any:
    """Thresholds are set by the reference in chunks as large as a window."""
    columns = list(reference.columns)
    categories = [n for n in columns if n not in names(continuous)]
    calculator = UnivariateDriftCalculator(
        columns, treat_as_categorical=categories, chunk_size=window
    )
    return calculator.fit(reference)


def alarms(calculator: Any, patients: pd.DataFrame) -> dict[str, list[bool]]:
    """Whether any column alerts, by chunk."""
    found = calculator.calculate(patients).filter(period="analysis").to_df()
    alerts = found[[column for column in found.columns if column[-1] == "alert"]]
    return {"nannyml, any column": alerts.any(axis=1).tolist()}


if __name__ == "__main__":
    quiet()
    disable_usage_logging()
    tell(frame, fit, alarms, at_once=100)
