"""The decisions of nannyml, with its defaults (`windows.py` describes its input)."""

from typing import Any

import pandas as pd
from nannyml import UnivariateDriftCalculator, disable_usage_logging

from benchmarks.peers.frames import frame, names
from benchmarks.peers.windows import ignore_warnings, print_results


def fit(reference: pd.DataFrame, continuous: list[int], window: int) -> Any:
    """Thresholds from the reference, in chunks of the size of a window."""
    columns = list(reference.columns)
    categories = [n for n in columns if n not in names(continuous)]
    calculator = UnivariateDriftCalculator(
        columns, treat_as_categorical=categories, chunk_size=window
    )
    return calculator.fit(reference)


def alarms(calculator: Any, patients: pd.DataFrame) -> dict[str, list[bool]]:
    """Whether any column alerts, by chunk."""
    results = calculator.calculate(patients).filter(period="analysis").to_df()
    alerts = results[[column for column in results.columns if column[-1] == "alert"]]
    return {"nannyml, any column": alerts.any(axis=1).tolist()}


if __name__ == "__main__":
    ignore_warnings()
    disable_usage_logging()
    print_results(frame, fit, alarms, at_once=100)
