"""What the API takes and gives: models made from the schema, and their encoding for the model."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    create_model,
)
from pydantic_core.core_schema import CoreSchema, chain_schema, int_schema

from heart.predictions.sources import Source
from heart.registry.errors import Kind
from heart.schema import MEASUREMENTS, OUTCOME, Measurement
from serve.settings import MAX_BATCH

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
    about: dict[str, Any] = {"description": f"{measurement.label.en}: {measurement.expected}"}
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
        Literal["absence", "presence"], Field(description=f"{OUTCOME.label.en}, as found since")
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
