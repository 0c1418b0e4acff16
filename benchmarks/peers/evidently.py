"""The decisions of evidently, at its defaults (`windows.py` says what it is given)."""

from typing import Any

from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount

from benchmarks.peers.frames import frame, names
from benchmarks.peers.windows import quiet, tell

SHARE = 0.5  # of the columns: from here on the dataset has drifted


def prepare(rows: Any, continuous: list[int]) -> Dataset:
    """A dataset with its kinds of columns."""
    table = frame(rows, continuous)
    numbers = names(continuous)
    return Dataset.from_pandas(
        table,
        data_definition=DataDefinition(
            numerical_columns=numbers,
            categorical_columns=[n for n in table.columns if n not in numbers],
        ),
    )


def alarms(reference: Dataset, window: Dataset) -> dict[str, list[bool]]:
    """Whether half of the columns have drifted, and whether any has."""
    found = Report([DriftedColumnsCount()]).run(window, reference).dict()
    share = found["metrics"][0]["value"]["share"]
    return {
        "evidently, half of the columns": [share >= SHARE],
        "evidently, any column": [share > 0],
    }


if __name__ == "__main__":
    quiet()
    tell(prepare, lambda reference, *_: reference, alarms)
