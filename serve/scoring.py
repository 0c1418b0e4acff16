"""From patients to answers. Nothing here waits or is shared, so that a thread can do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heart.predictions.log import Record, check, new_ids
from heart.registry.model_version import Model
from heart.schema import NAMES, OUTCOME, Floats
from serve.blocks import Counts
from serve.encoding import encoded, outside_training_range, values_of, warning
from serve.patient_metrics import tally

ABSENCE, PRESENCE = (choice.name for choice in OUTCOME.choices)


@dataclass(frozen=True)
class ScoredPatients:
    """Answers in the order of the patients, and what log, metrics and challenger get of them."""

    answers: list[dict[str, Any]]
    records: list[Record]
    counts: Counts
    rows: Floats


def score(model: Model, patients: Sequence[Mapping[str, Any]]) -> ScoredPatients:
    """The answers of a model for patients that are valid."""
    measured = [values_of(patient) for patient in patients]
    rows = encoded(measured)
    risks = model.predict(rows).tolist()
    numbers = model.training.get("numbers", {})
    out_of_range = [outside_training_range(patient, numbers) for patient in patients]
    keys = new_ids(len(risks))
    answers = [
        {
            "prediction_id": key,
            "probability": risk,
            "prediction": PRESENCE if risk >= model.threshold else ABSENCE,
            "threshold": model.threshold,
            "model_version": model.version,
            "missing": [n for n, value in zip(NAMES, row, strict=True) if value is None],
            "warnings": [warning(name, numbers) for name in names],
            "contributions": None,
        }
        for key, row, risk, names in zip(keys, measured, risks, out_of_range, strict=True)
    ]
    records = [
        Record(key, model.version, risk, row)
        for key, row, risk in zip(keys, measured, risks, strict=True)
    ]
    check(records)
    return ScoredPatients(answers, records, tally(answers, out_of_range), rows)
