"""Scoring: from valid patients to predictions. It waits for nothing and shares nothing, so a thread may do it."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from heart.predictions.log import Record, new_ids
from heart.registry.errors import ScoringFailed
from heart.registry.model_version import Model
from heart.schema import OUTCOME, Floats
from serve.encoding import (
    by_row,
    columns_of,
    encode_columns,
    missing_places,
    outside_places,
    values_of,
    warning,
)
from serve.patient_metrics import Predicted

ABSENCE, PRESENCE = (choice.name for choice in OUTCOME.choices)


class Scored(NamedTuple):
    """Scored patients in their order. `records` are logged; the predictions are made meanwhile.

    `rows` are encoded, [n, 13]; `columns` has the values of each measurement.
    """

    model: Model
    records: list[Record]
    rows: Floats
    columns: Sequence[Sequence[Any]]

    def predictions(self) -> tuple[list[dict[str, Any]], Predicted]:
        """The predictions as the API returns them, and what the metrics count of them."""
        model, risks = self.model, [record.probability for record in self.records]
        threshold, version = model.threshold, model.version
        ranges: Mapping[str, Any] = model.training.get("numbers", {})
        missing, outside = missing_places(self.columns), outside_places(self.columns, ranges)
        missing_of, outside_of = by_row(missing), by_row(outside)
        predictions = [
            {
                "prediction_id": record.id,
                "probability": record.probability,
                "prediction": PRESENCE if record.probability >= threshold else ABSENCE,
                "threshold": threshold,
                "model_version": version,
                "missing": missing_of.get(row, []),
                "warnings": [warning(name, ranges) for name in outside_of.get(row, ())],
                "contributions": None,
            }
            for row, record in enumerate(self.records)
        ]
        return predictions, Predicted(risks, threshold, missing, outside)


def score(model: Model, patients: Sequence[Mapping[str, Any]]) -> Scored:
    """The risks of valid patients. Raises ScoringFailed, before anything is logged."""
    values = [values_of(patient) for patient in patients]
    columns = columns_of(values)
    rows = encode_columns(columns)
    risks = model.predict(rows).tolist()
    if not all(0 <= risk <= 1 for risk in risks):
        raise ScoringFailed(model.version, "a risk is not a probability")
    records = list(map(Record, new_ids(len(risks)), repeat(model.version), risks, values))
    return Scored(model, records, rows, columns)
