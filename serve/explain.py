"""What explains a prediction, for API and page: interval, comparison, contributions, effects of missing values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heart.ml.transfer import BETWEEN_HOSPITALS
from heart.registry.model_version import Model
from heart.schema import MEASUREMENTS, NAMES, Floats, Measurement
from serve.encoding import outside_training_range, rows_of
from serve.shapley import shapley

Patient = Mapping[str, Any]
Z95 = 1.959964  # 95 % of a normal distribution are within so many standard deviations of its mean
CONFIDENCE = 0.95
# What the interval covers: how much the risk would vary if the model were trained on other patients.
COVERS = "training_sample"
COVERS_HOSPITALS = "unknown_hospital"  # and how much it varies between hospitals


@dataclass(frozen=True)
class Parts:
    """What a prediction has beside the risk; each part takes longer than the risk itself."""

    details: bool = False  # intervals, average risk, effects of missing measurements
    contributions: bool = False

    def __bool__(self) -> bool:
        return self.details or self.contributions


NONE, ALL = Parts(), Parts(details=True, contributions=True)


@dataclass(frozen=True)
class OutOfRangeValue:
    """A number outside the range `low` to `high` of the training patients."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Assessment:
    """The risk of a patient and its explanation.

    `low` and `high` are the 95 % interval of the risk at a hospital like that of the training, `hospital_low`
    and `hospital_high` at a hospital of which nothing is known; None if the model has no standard error. `average`
    is the risk with only age and sex known, `start` with nothing known; `contributions` add up to `risk` -
    `start`. `risk_ranges` has, for each missing measurement, the range of the risk over its categories or
    over the middle 90 % of the training patients, if the model has their quantiles.
    """

    patient: dict[str, Any]
    threshold: float
    risk: float
    low: float | None
    high: float | None
    hospital_low: float | None
    hospital_high: float | None
    average: float
    start: float
    contributions: dict[str, float]
    risk_ranges: dict[str, tuple[float, float]]
    warnings: tuple[OutOfRangeValue, ...]

    @property
    def measurement_count(self) -> int:
        """The number of measurements that are known."""
        return len(self.patient)

    @property
    def frequency(self) -> int:
        """The number of patients with the disease among 100 patients of this risk."""
        return round(100 * self.risk)


def assess(model: Model, patient: Patient) -> Assessment:
    """The assessment of one valid patient, which is not logged. Raises SchemaError."""
    rows = rows_of([patient])
    risks = model.predict(rows).tolist()
    return assessment(
        model, patient, {"probability": risks[0], **explained(model, rows, risks, ALL)[0]}
    )


def assessment(model: Model, patient: Patient, prediction: Mapping[str, Any]) -> Assessment:
    """The assessment of a patient whose prediction has all parts."""
    values = {name: patient[name] for name in NAMES if patient.get(name) is not None}
    bounds, hospital = prediction["interval"] or {}, prediction["hospital_interval"] or {}
    ranges, effects = model.training.get("numbers", {}), prediction["missing_effects"].items()
    return Assessment(
        patient=values,
        threshold=model.threshold,
        risk=prediction["probability"],
        low=bounds.get("low"),
        high=bounds.get("high"),
        hospital_low=hospital.get("low"),
        hospital_high=hospital.get("high"),
        average=prediction["average_risk"],
        start=prediction["baseline_risk"],
        contributions=prediction["contributions"],
        risk_ranges={name: (effect["low"], effect["high"]) for name, effect in effects},
        warnings=tuple(
            OutOfRangeValue(name, values[name], ranges[name]["low"], ranges[name]["high"])
            for name in outside_training_range(values, ranges)
        ),
    )


def explained(
    model: Model, rows: Floats, risks: Sequence[float], parts: Parts
) -> list[dict[str, Any]]:
    """The parts of the predictions `risks` for encoded rows [n, 13], as the API returns them."""
    answers: list[dict[str, Any]] = [{} for _ in risks]
    if parts.details:
        errors = model.standard_error(rows)
        for at, (row, risk, answer) in enumerate(zip(rows, risks, answers, strict=True)):
            error = None if errors is None else errors[at : at + 1]
            answer.update(_details(model, row, risk, error))
    if parts.contributions:
        for row, answer in zip(rows, answers, strict=True):
            values, start = shapley(row, model.predict)
            answer.update(contributions=values, baseline_risk=start)
    return answers


def _details(model: Model, row: Floats, risk: float, error: Floats | None) -> dict[str, Any]:
    """The intervals, the average risk, and the effects of missing measurements of one patient."""
    owners, variants = _variants(row, model.training.get("numbers", {}))
    risks = model.predict(np.vstack([_only(row, ("age", "sex")), *variants])).astype(float)
    ranges = _risk_ranges(owners, risks[1:])
    return {
        "interval": _interval(risk, error, 0.0, COVERS),
        "hospital_interval": _interval(risk, error, BETWEEN_HOSPITALS, COVERS_HOSPITALS),
        "average_risk": float(risks[0]),
        "missing_effects": {
            name: {"low": low, "high": high} for name, (low, high) in ranges.items()
        },
    }


def _interval(
    risk: float, error: Floats | None, between: float, covers: str
) -> dict[str, Any] | None:
    low, high = interval(risk, error, between)
    if low is None:
        return None
    return {"low": low, "high": high, "confidence": CONFIDENCE, "covers": covers}


def interval(
    risk: float, standard_error: Floats | None, between: float = 0.0
) -> tuple[float | None, float | None]:
    """The 95 % interval of a risk from the standard error [1] of its logit; None without one.

    It is the uncertainty of the model's coefficients (Laplace approximation): how much the risk would vary
    if the model were trained on other patients of the same hospital. With `between`, the standard deviation of the
    log odds between hospitals (`heart/ml/transfer.py`), it is that of the risk at a hospital of which nothing is
    known. Neither is an interval of the patient's outcome.
    """
    error = math.nan if standard_error is None else math.hypot(float(standard_error[0]), between)
    if not math.isfinite(error):
        return None, None
    clipped = min(max(risk, 1e-7), 1 - 1e-7)
    logit = math.log(clipped / (1 - clipped))
    return _expit(logit - Z95 * error), _expit(logit + Z95 * error)


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _only(row: Floats, names: Iterable[str]) -> Floats:
    columns = np.isin(NAMES, list(names))
    return np.where(columns, row, np.float32(np.nan)).astype(np.float32)


def _variants(row: Floats, ranges: Mapping[str, Any]) -> tuple[list[str], list[Floats]]:
    """The row with one missing measurement filled in, for each possible value; and that measurement."""
    owners, variants = [], []
    for column, measurement in enumerate(MEASUREMENTS):
        if np.isnan(row[column]):
            for value in _possible_values(measurement, ranges):
                variant = row.copy()
                variant[column] = value
                owners.append(measurement.name)
                variants.append(variant)
    return owners, variants


def _possible_values(measurement: Measurement, ranges: Mapping[str, Any]) -> Sequence[float]:
    if measurement.choices:
        return range(len(measurement.choices))
    quantiles: Sequence[float] = ranges.get(measurement.name, {}).get("quantiles", ())
    return quantiles


def _risk_ranges(owners: Sequence[str], risks: Any) -> dict[str, tuple[float, float]]:
    """Lowest and highest risk for each missing measurement, the widest range first."""
    by_name: dict[str, list[float]] = {}
    for name, risk in zip(owners, risks, strict=True):
        by_name.setdefault(name, []).append(float(risk))
    ranges = {name: (min(values), max(values)) for name, values in by_name.items()}
    return dict(sorted(ranges.items(), key=lambda item: item[1][0] - item[1][1]))
