"""Scoring: from valid patients to predictions. It waits for nothing and shares nothing, so a thread may do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heart.predictions.log import Record, check, new_ids
from heart.registry.model_version import Model
from heart.schema import NAMES, OUTCOME, Floats
from serve.blocks import Counts
from serve.encoding import encode_rows, outside_training_range, values_of, warning
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
    rows = encode_rows(values)
    risks = model.predict(rows).tolist()
    ranges = model.training.get("numbers", {})
    out_of_range = [outside_training_range(patient, ranges) for patient in patients]
    keys = new_ids(len(risks))
    predictions = [
        {
            "prediction_id": key,
            "probability": risk,
            "prediction": PRESENCE if risk >= model.threshold else ABSENCE,
            "threshold": model.threshold,
            "model_version": model.version,
            "missing": [n for n, value in zip(NAMES, row, strict=True) if value is None],
            "warnings": [warning(name, ranges) for name in names],
            "contributions": None,
        }
        for key, row, risk, names in zip(keys, values, risks, out_of_range, strict=True)
    ]
    records = [
        Record(key, model.version, risk, row)
        for key, row, risk in zip(keys, values, risks, strict=True)
    ]
    check(records)
    return ScoredPatients(predictions, records, tally(predictions, out_of_range), rows)
