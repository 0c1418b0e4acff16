"""What the model says about one patient: the risk, what moved it, what is not known; in numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heart.locale.language import Language, of, percent, translate, value_of
from heart.registry.model_version import Model
from heart.schema import MEASUREMENTS, NAMES, Floats, Measurement
from serve.encoding import outside_training_range, rows_of
from serve.shapley import shapley

Patient = Mapping[str, Any]
BY_NAME = {measurement.name: measurement for measurement in MEASUREMENTS}
Z95 = 1.959964  # 95 % of a normal distribution lie within so many standard errors


@dataclass(frozen=True)
class Unusual:
    """A number outside the `low` to `high` of the training patients."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Assessment:
    """All that is said about one patient.

    `low` and `high` are the 95 % interval of the risk, None if the model states none. `average` is
    the model's risk with only age and sex known, `start` with nothing known; `contributions` add up
    to `risk` - `start`. `could_be` is, for each missing measurement, the range of the risk over its
    categories or the middle 90 % of the training patients; empty where that is not known.
    """

    patient: dict[str, Any]
    threshold: float
    risk: float
    low: float | None
    high: float | None
    average: float
    start: float
    contributions: dict[str, float]
    could_be: dict[str, tuple[float, float]]
    warnings: tuple[Unusual, ...]

    @property
    def given(self) -> int:
        """How many measurements are known."""
        return len(self.patient)

    @property
    def frequency(self) -> int:
        """Of 100 people like this, how many have the disease."""
        return round(100 * self.risk)


def assess(model: Model, patient: Patient) -> Assessment:
    """Everything about one valid patient, in two batches of the model. Raises SchemaError."""
    known = {name: patient[name] for name in NAMES if patient.get(name) is not None}
    row = rows_of([known])[0]
    numbers = model.training.get("numbers", {})
    owners, variants = _variants(row, numbers)
    risks = model.predict(np.vstack([row, _only(row, ("age", "sex")), *variants])).astype(float)
    contributions, start = shapley(row, model.predict)
    low, high = interval(float(risks[0]), model.standard_error(row[None]))
    return Assessment(
        patient=known,
        threshold=model.threshold,
        risk=float(risks[0]),
        low=low,
        high=high,
        average=float(risks[1]),
        start=start,
        contributions=contributions,
        could_be=_ranges(owners, risks[2:]),
        warnings=tuple(
            Unusual(name, known[name], numbers[name]["low"], numbers[name]["high"])
            for name in outside_training_range(known, numbers)
        ),
    )


def interval(risk: float, standard_error: Floats | None) -> tuple[float | None, float | None]:
    """The 95 % interval of a risk by the standard error [1] of its logit; None if there is none.

    The uncertainty of the model's coefficients (Laplace approximation): how much the risk would vary
    had it learnt from other patients. What this patient has is another, larger uncertainty.
    """
    error = math.nan if standard_error is None else float(standard_error[0])
    if not math.isfinite(error):
        return None, None
    sure = min(max(risk, 1e-7), 1 - 1e-7)
    logit = math.log(sure / (1 - sure))
    return _expit(logit - Z95 * error), _expit(logit + Z95 * error)


def sentence(found: Assessment, language: Language) -> str:
    """The answer in plain words."""
    difference = round(100 * found.risk) - round(100 * found.average)
    direction = "same" if abs(difference) < 2 else "higher" if difference > 0 else "lower"
    text = translate(
        f"sentence_{direction}",
        language,
        who=translate(f"who_{found.patient['sex']}", language, age=f"{found.patient['age']:g}"),
        risk=percent(found.risk),
        average=percent(found.average),
    )
    others = {n: v for n, v in found.contributions.items() if n not in ("age", "sex")}
    for wanted, sign, key in (("higher", 1, "sentence_up"), ("lower", -1, "sentence_down")):
        top = max(others, key=lambda name: sign * others[name], default=None)
        if direction == wanted and top is not None and sign * others[top] >= 0.01:
            measurement = BY_NAME[top]
            value = value_of(measurement, found.patient[top], language)
            text += translate(key, language, label=f"{of(measurement.label, language)} ({value})")
    return text + "."


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _only(row: Floats, names: Iterable[str]) -> Floats:
    kept = np.isin(NAMES, list(names))
    return np.where(kept, row, np.float32(np.nan)).astype(np.float32)


def _variants(row: Floats, numbers: Mapping[str, Any]) -> tuple[list[str], list[Floats]]:
    """The patient with one missing measurement told, for each value that it may have."""
    owners, variants = [], []
    for column, measurement in enumerate(MEASUREMENTS):
        if np.isnan(row[column]):
            for value in _possible(measurement, numbers):
                told = row.copy()
                told[column] = value
                owners.append(measurement.name)
                variants.append(told)
    return owners, variants


def _possible(measurement: Measurement, numbers: Mapping[str, Any]) -> Sequence[float]:
    if measurement.choices:
        return range(len(measurement.choices))
    quantiles: Sequence[float] = numbers.get(measurement.name, {}).get("quantiles", ())
    return quantiles


def _ranges(owners: Sequence[str], risks: Any) -> dict[str, tuple[float, float]]:
    """Lowest and highest risk for each measurement, the one that matters most first."""
    by_name: dict[str, list[float]] = {}
    for name, risk in zip(owners, risks, strict=True):
        by_name.setdefault(name, []).append(float(risk))
    ranges = {name: (min(found), max(found)) for name, found in by_name.items()}
    return dict(sorted(ranges.items(), key=lambda item: item[1][0] - item[1][1]))
