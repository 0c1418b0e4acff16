"""What the API takes and gives: models made from the schema, and their encoding for the model."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    create_model,
)
from pydantic_core.core_schema import CoreSchema, chain_schema, int_schema

from heart.locale.catalog import DEFAULT
from heart.locale.language import label
from heart.predictions.sources import Source
from heart.registry.errors import Kind
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, Floats, Measurement

MAX_BATCH = 10_000
EXAMPLE: dict[str, Any] = {
    "age": 57,
    "sex": "male",
    "chest_pain_type": "asymptomatic",
    "resting_bp": 140,
    "cholesterol": 240,
    "fasting_blood_sugar_over_120": "no",
    "resting_ecg": "normal",
    "max_heart_rate": 125,
    "exercise_angina": "yes",
    "st_depression": 1.5,
    "st_slope": "flat",
    "major_vessels": None,
    "thallium": None,
}


def _whole(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """An integer in the end: `multiple_of` alone takes 57.00000000001 too."""
    return chain_schema([handler(source), int_schema(strict=False)])


def _field(measurement: Measurement) -> Any:
    """The type of a measurement in the API, with its unit, bounds and an example."""
    about: dict[str, Any] = {
        "description": f"{label(measurement, DEFAULT)}: {measurement.expected}"
    }
    if measurement.choices:
        kind: Any = Literal[tuple(choice.name for choice in measurement.choices)]
        about["examples"] = [measurement.choices[0].name]
    else:
        bounds = Field(ge=measurement.low, le=measurement.high, allow_inf_nan=False)
        kind = Annotated[float, bounds]
        if measurement.step == 1:
            kind = Annotated[kind, Field(multiple_of=1), GetPydanticSchema(_whole)]
        about["examples"] = [EXAMPLE[measurement.name] or measurement.low]
        if measurement.unit:
            about["json_schema_extra"] = {"unit": measurement.unit}
    if measurement.required:
        return (Annotated[kind, Field(**about)], ...)
    return (Annotated[kind | None, Field(**about)], None)


class _Patient(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [dict(EXAMPLE)]}
    )


# One patient: a field for each measurement, None where it was not made.
Patient: Any = create_model(
    "Patient", __base__=_Patient, **{m.name: _field(m) for m in MEASUREMENTS}
)


class Batch(BaseModel):
    """Patients to score together."""

    model_config = ConfigDict(extra="forbid", strict=True)
    patients: Annotated[list[Patient], Field(min_length=1, max_length=MAX_BATCH)]


class Prediction(BaseModel):
    """The answer for one patient."""

    prediction_id: Annotated[str, Field(description="To record the outcome by, or to erase it")]
    probability: Annotated[float, Field(description="Of coronary artery disease", ge=0, le=1)]
    prediction: Annotated[
        Literal["presence", "absence"], Field(description="Presence from the threshold on")
    ]
    threshold: float
    model_version: str
    missing: Annotated[list[str], Field(description="Measurements that were not given")]
    warnings: Annotated[list[str], Field(description="Values unlike the training patients'")]
    contributions: Annotated[
        dict[str, float] | None,
        Field(
            description="With ?explain=true: by how much each measurement moves the risk away from "
            "the average patient's; they add up to the difference"
        ),
    ] = None


class Predictions(BaseModel):
    """The answers for a batch, in its order."""

    predictions: list[Prediction]


class Feedback(BaseModel):
    """What became of a patient."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prediction_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    outcome: Annotated[
        Literal["absence", "presence"],
        Field(description=f"{label(OUTCOME, DEFAULT)}, as found since"),
    ]
    source: Annotated[Source, Field(description="Who says so")]
    replace: Annotated[bool, Field(description="Overwrite a different outcome")] = False


class RefusedVersion(BaseModel):
    """A version that did not pass the checks before it is served."""

    version: str
    kind: Annotated[Kind, Field(description="Which check")]
    reason: str


class Reloaded(BaseModel):
    """What a look into the registry came to."""

    before: Annotated[str | None, Field(description="Version that answered before, if any")]
    after: Annotated[str | None, Field(description="Version that answers now")]
    refused: Annotated[
        RefusedVersion | None, Field(description="Version that has the alias but is not served")
    ]
    challenger: Annotated[
        str | None, Field(description="Version that scores beside it, unseen, if any")
    ]


# The same as `schema.encode`, without its checks: 40 times as fast for a single patient.
_CODES: tuple[dict[str | None, float] | None, ...] = tuple(
    {None: math.nan} | {choice.name: float(code) for code, choice in enumerate(m.choices)}
    if m.choices
    else None
    for m in MEASUREMENTS
)


def values_of(patient: Mapping[str, Any]) -> list[Any]:
    """The 13 measurements in the order of the schema, None where one was not made."""
    return [patient.get(name) for name in NAMES]


def encoded(measured: Sequence[Sequence[Any]]) -> Floats:
    """Encoded rows [n, 13] of valid patients, each as `values_of` gives it."""
    rows = [
        [value if codes is None else codes[value] for codes, value in zip(_CODES, row, strict=True)]
        for row in measured
    ]
    return np.array(rows, dtype=np.float32).reshape(-1, len(NAMES))  # None becomes NaN


def rows_of(patients: Sequence[Mapping[str, Any]]) -> Floats:
    """Encoded rows [n, 13] of valid patients."""
    return encoded([values_of(patient) for patient in patients])


def outside_training_range(patient: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
    """The numbers outside what the model was trained on; `numbers` is from the version's training.json."""
    found = []
    for name, known in numbers.items():
        value = patient.get(name)
        if value is not None and not known["low"] <= value <= known["high"]:
            found.append(name)
    return found


def warning(name: str, numbers: Mapping[str, Any]) -> str:
    """Why a number is unusual, in words."""
    known = numbers[name]
    return f"{name} is outside the training patients' {known['low']:g} to {known['high']:g}"


def shapley(patient: Floats, predict: Any) -> tuple[dict[str, float], float]:
    """How much each given measurement moves the risk, and the average patient's risk.

    Exact Shapley values (Shapley 1953): the mean, over all orders in which the measurements could
    have been told, of what telling one changes. The model itself integrates out what is not told, so
    all 2^m subsets of the m given measurements are one batch of it. They add up to the difference
    between this patient's risk and the average.
    """
    given = np.flatnonzero(~np.isnan(patient))
    count = len(given)
    subsets = np.arange(2**count)[:, None] >> np.arange(count) & 1 == 1
    told = np.zeros((2**count, len(NAMES)), dtype=bool)
    told[:, given] = subsets
    risk = predict(np.where(told, patient, np.float32(np.nan)).astype(np.float32)).astype(float)
    weight = _shapley_weights(count)
    moved = {}
    for bit, column in enumerate(given):
        without = np.flatnonzero(~subsets[:, bit])
        gained = risk[without | 1 << bit] - risk[without]
        moved[NAMES[column]] = float(gained @ weight[subsets[without].sum(axis=1)])
    return moved, float(risk[0])


def _shapley_weights(count: int) -> Any:
    """The weight of a subset by its size: |S|! (m - |S| - 1)! / m!."""
    return np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
