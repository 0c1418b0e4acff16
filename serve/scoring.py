"""Scoring: from valid patients to predictions. It waits for nothing and shares nothing, so a thread may do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from heart.predictions.log import Record, check, new_ids
from heart.registry.model_version import Model
from heart.schema import OUTCOME, Floats
from serve.blocks import Counts
from serve.encoding import (
    Places,
    by_row,
    columns_of,
    encode_columns,
    missing_places,
    outside_places,
    values_of,
    warning,
)
from serve.patient_metrics import tally

ABSENCE, PRESENCE = (choice.name for choice in OUTCOME.choices)


@dataclass(frozen=True)
class ScoredPatients:
    """Predictions in the order of the patients, with the rows for the log, the metrics and the challenger."""

    predictions: list[dict[str, Any]]
    records: list[Record]
    counts: Counts
    rows: Floats


def score(model: Model, patients: Sequence[Mapping[str, Any]]) -> ScoredPatients:
    """The predictions of a model for valid patients."""
    values = [values_of(patient) for patient in patients]
    columns = columns_of(values)
    rows = encode_columns(columns)
    risks = model.predict(rows).tolist()
    ranges = model.training.get("numbers", {})
    missing, outside = missing_places(columns), outside_places(columns, ranges)
    missing_names, outside_names = by_row(missing), by_row(outside)
    keys = new_ids(len(risks))
    threshold, version = model.threshold, model.version
    predictions = [
        {
            "prediction_id": key,
            "probability": risk,
            "prediction": PRESENCE if risk >= threshold else ABSENCE,
            "threshold": threshold,
            "model_version": version,
            "missing": missing_names.get(row, []),
            "warnings": [warning(name, ranges) for name in outside_names.get(row, ())],
            "contributions": None,
        }
        for row, (key, risk) in enumerate(zip(keys, risks, strict=True))
    ]
    records = list(map(Record, keys, repeat(version), risks, values))
    check(records)
    present = sum(risk >= threshold for risk in risks)
    counts = tally(risks, present, _lengths(missing), _lengths(outside))
    return ScoredPatients(predictions, records, counts, rows)


def _lengths(places: Places) -> dict[str, int]:
    return {name: len(rows) for name, rows in places.items()}
