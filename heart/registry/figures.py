"""The figures of a version's run: what pages show about it, and what no prediction depends on."""

import csv
import math
import sys
from collections.abc import Mapping
from typing import Any

from heart.registry.errors import VersionRejected
from heart.registry.model_version import (
    CALIBRATION,
    DECISION,
    EVALUATE,
    ROC,
    TRAIN,
    Files,
    read_json,
    text_of,
)

GROUPS = "groups"  # the figures of groups of patients, in those of stage evaluate
LABEL = "label"  # the column of a plot that is text
# The columns of a plot that the page draws.
COLUMNS = {
    CALIBRATION: ("predicted", "observed", "patients"),
    ROC: ("false_positive_rate", "true_positive_rate"),
    DECISION: ("threshold", "model", "treat_all"),
}
PLOTS = {"calibration": CALIBRATION, "roc": ROC, "decision": DECISION}  # by the part of the card


def parts(files: Files) -> dict[str, Any]:
    """The parts of a card that the files of a run have. Raises VersionRejected for a damaged one."""
    content: dict[str, Any] = {part: _points(files, file) for part, file in PLOTS.items()}
    content["figures"] = _scores(files)
    content["train_figures"] = read_json(files, TRAIN) if TRAIN in files else {}
    return content


def _scores(files: Files) -> dict[str, Any]:
    """The figures of stage evaluate: numbers, and numbers of groups."""
    scores = read_json(files, EVALUATE) if EVALUATE in files else {}
    groups = scores.get(GROUPS, {})
    single = {name: value for name, value in scores.items() if name != GROUPS}
    if not isinstance(groups, dict) or not all(map(_are_numbers, (single, *groups.values()))):
        raise VersionRejected("unreadable", f"{EVALUATE}: expected numbers, and numbers of groups")
    return scores


def _are_numbers(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        value is None or (isinstance(value, int | float) and abs(value) <= sys.float_info.max)
        for value in values.values()
    )


def _points(files: Files, file: str) -> list[dict[str, float]]:
    """The points of a plot, without its labels; empty if the run has none."""
    if file not in files:
        return []
    try:
        rows = csv.DictReader(text_of(files, file).decode().splitlines(), strict=True)
        points = [
            {name: float(value) for name, value in row.items() if name != LABEL} for row in rows
        ]
    except (ValueError, TypeError, csv.Error) as error:
        raise VersionRejected("unreadable", f"{file}: {error}") from error
    if points and not set(COLUMNS[file]) <= points[0].keys():
        raise VersionRejected("unreadable", f"{file}: expected columns {', '.join(COLUMNS[file])}")
    return [point for point in points if all(map(math.isfinite, point.values()))]
