"""Scoring: from valid patients to predictions. It waits for nothing and shares nothing, so a thread may do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """Scored patients in their order. `records` are logged; predictions and counts are made meanwhile.

    `rows` are encoded, [n, 13]; `columns` has the values of each measurement.
    """

    model: Model
    records: list[Record]
    rows: Floats
    columns: Sequence[Sequence[Any]]

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions as the API returns them."""
        missing, outside = by_row(self._missing), by_row(self._outside)
        ranges, threshold, version = self._ranges, self.model.threshold, self.model.version
        return [
            {
                "prediction_id": record.id,
                "probability": record.probability,
                "prediction": PRESENCE if record.probability >= threshold else ABSENCE,
                "threshold": threshold,
                "model_version": version,
                "missing": missing.get(row, []),
                "warnings": [warning(name, ranges) for name in outside.get(row, ())],
                "contributions": None,
            }
            for row, record in enumerate(self.records)
        ]

    @cached_property
    def counts(self) -> Counts:
        """The counts for the metrics."""
        risks = [record.probability for record in self.records]
        present = sum(risk >= self.model.threshold for risk in risks)
        return tally(risks, present, _lengths(self._missing), _lengths(self._outside))

    @cached_property
    def _missing(self) -> Places:
        return missing_places(self.columns)

    @cached_property
    def _outside(self) -> Places:
        return outside_places(self.columns, self._ranges)

    @property
    def _ranges(self) -> Mapping[str, Any]:
        ranges: Mapping[str, Any] = self.model.training.get("numbers", {})
        return ranges


def score(model: Model, patients: Sequence[Mapping[str, Any]]) -> ScoredPatients:
    """The risks of valid patients."""
    values = [values_of(patient) for patient in patients]
    columns = columns_of(values)
    rows = encode_columns(columns)
    risks = model.predict(rows).tolist()
    records = list(map(Record, new_ids(len(risks)), repeat(model.version), risks, values))
    check(records)
    return ScoredPatients(model, records, rows, columns)


def _lengths(places: Places) -> dict[str, int]:
    return {name: len(rows) for name, rows in places.items()}
