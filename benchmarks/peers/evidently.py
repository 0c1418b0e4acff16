"""The decisions of evidently, with its defaults (`windows.py` describes its input)."""

from typing import Any

from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount

from benchmarks.peers.frames import frame, names
from benchmarks.peers.windows import ignore_warnings, print_results

SHARE = 0.5  # of the columns from which the dataset has drifted


def prepare(rows: Any, continuous: list[int]) -> Dataset:
    """A dataset with the kinds of its columns."""
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
    report = Report([DriftedColumnsCount()]).run(window, reference).dict()
    share = report["metrics"][0]["value"]["share"]
    return {
        "evidently, half of the columns": [share >= SHARE],
        "evidently, any column": [share > 0],
    }


if __name__ == "__main__":
    ignore_warnings()
    print_results(prepare, lambda reference, *_: reference, alarms)
