"""Request and response models of the API, created from the schema of the measurements."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
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
from heart.schema import MEASUREMENTS, OUTCOME, Measurement
from heart.utc import in_utc
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
ID = "01a20a3c5f2c7ab01d7e4c3388d1a9f0"
PREDICTION: dict[str, Any] = {
    "prediction_id": ID,
    "probability": 0.848,
    "prediction": "presence",
    "threshold": 0.5,
    "model_version": "1",
    "missing": ["major_vessels", "thallium"],
    "warnings": [],
    "contributions": None,
}


def _whole(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Also validate as an integer: `multiple_of` alone accepts 57.00000000001."""
    return chain_schema([handler(source), int_schema(strict=False)])


def _field(measurement: Measurement) -> Any:
    """The type of a measurement in the API, with its unit, bounds and an example."""
    info: dict[str, Any] = {"description": f"{label(measurement, DEFAULT)}: {measurement.expected}"}
    if measurement.choices:
        kind: Any = Literal[tuple(choice.name for choice in measurement.choices)]
        info["examples"] = [measurement.choices[0].name]
    else:
        bounds = Field(ge=measurement.low, le=measurement.high, allow_inf_nan=False)
        kind = Annotated[float, bounds]
        if measurement.step == 1:
            kind = Annotated[kind, Field(multiple_of=1), GetPydanticSchema(_whole)]
        info["examples"] = [EXAMPLE[measurement.name] or measurement.low]
        if measurement.unit:
            info["json_schema_extra"] = {"unit": measurement.unit}
    if measurement.required:
        return (Annotated[kind, Field(**info)], ...)
    return (Annotated[kind | None, Field(**info)], None)


class _Patient(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [dict(EXAMPLE)]}
    )


# A patient: a field for each measurement, None for a missing one.
Patient: Any = create_model(
    "Patient", __base__=_Patient, **{m.name: _field(m) for m in MEASUREMENTS}
)


class Batch(BaseModel):
    """Patients to score together."""

    model_config = ConfigDict(extra="forbid", strict=True)
    patients: Annotated[list[Patient], Field(min_length=1, max_length=MAX_BATCH)]

    def rows(self) -> list[dict[str, Any]]:
        """The patients as dictionaries."""
        return [patient.__dict__ for patient in self.patients]

    def reading(self) -> dict[str, Any]:
        """How the patients were read, if that could be in doubt."""
        return {}


class RiskRange(BaseModel):
    """A range of the risk."""

    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class Interval(RiskRange):
    """An interval of the risk."""

    confidence: Annotated[float, Field(description="Of the interval, such as 0.95", gt=0, lt=1)]
    covers: Annotated[
        Literal["training_sample", "unknown_hospital"],
        Field(
            description="training_sample: how much the risk would vary if the model were trained on other "
            "patients of the same hospital. unknown_hospital: also how much it varies between hospitals, "
            "for one of which nothing is known. Neither is an interval of this patient's outcome"
        ),
    ]


class Prediction(BaseModel):
    """The prediction for one patient."""

    model_config = ConfigDict(json_schema_extra={"examples": [PREDICTION]})
    prediction_id: Annotated[
        str, Field(description="For recording the outcome or erasing the prediction")
    ]
    probability: Annotated[
        float, Field(description="Probability of coronary artery disease", ge=0, le=1)
    ]
    prediction: Annotated[
        Literal["presence", "absence"],
        Field(description="presence if the probability is at least the threshold"),
    ]
    threshold: float
    model_version: str
    missing: Annotated[list[str], Field(description="Measurements without a value")]
    warnings: Annotated[
        list[str], Field(description="Values outside the range of the training patients")
    ]
    contributions: Annotated[
        dict[str, float] | None,
        Field(
            description="With ?explain=true: the Shapley value of each measurement; they add up to the "
            "difference between `probability` and `baseline_risk`"
        ),
    ] = None
    baseline_risk: Annotated[
        float | None,
        Field(description="With ?explain=true: the risk of a patient without any measurement"),
    ] = None
    interval: Annotated[
        Interval | None,
        Field(
            description="With ?details=true: the interval of `probability`; null if the model has no "
            "standard error"
        ),
    ] = None
    hospital_interval: Annotated[
        Interval | None,
        Field(
            description="With ?details=true: the wider interval of `probability` at a hospital of which "
            "nothing is known"
        ),
    ] = None
    average_risk: Annotated[
        float | None,
        Field(
            description="With ?details=true: the average risk of patients of the same age and sex, of whom "
            "nothing else is known",
            ge=0,
            le=1,
        ),
    ] = None
    missing_effects: Annotated[
        dict[str, RiskRange] | None,
        Field(
            description="With ?details=true, for each missing measurement: the range of the risk over its "
            "categories, or over the middle 90 % of the training patients; the widest first"
        ),
    ] = None


class Predictions(BaseModel):
    """The predictions for a batch, in its order."""

    predictions: list[Prediction]
    read_as: Annotated[
        str, Field(description="Of a table: its layout and coding, such as commas; coding uci")
    ] = ""
    coding_log10_odds: Annotated[
        dict[str, float],
        Field(description="Of a table: the evidence for the coding of each column"),
    ] = {}


class Feedback(BaseModel):
    """The outcome of a patient."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"prediction_id": ID, "outcome": "presence", "source": "angiography"}]
        },
    )
    prediction_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    outcome: Annotated[
        Literal["absence", "presence"],
        Field(description=f"{label(OUTCOME, DEFAULT)}, as diagnosed since"),
    ]
    source: Annotated[Source, Field(description="Who reported the outcome")]
    replace: Annotated[bool, Field(description="Overwrite a different outcome")] = False


class FeedbackResult(BaseModel):
    """What the log did with an outcome."""

    prediction_id: str
    status: Annotated[
        Literal["created", "same", "replaced"],
        Field(description="same: the outcome was recorded before"),
    ]


UtcTime = Annotated[AwareDatetime, AfterValidator(in_utc)]


def _not_a_number(value: object) -> object:
    """A number would be read as seconds since 1970."""
    if isinstance(value, int | float):
        raise ValueError("expected a time such as 2026-11-27T08:00:00Z")  # noqa: TRY004 - pydantic's
    return value


class Withdrawal(BaseModel):
    """Which outcomes are withdrawn: all those of a sender, or those that it sent within a time."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"sender": "registry", "since": "2026-11-27T08:00:00Z"}]},
    )
    sender: Annotated[str, Field(description="The name of the token", min_length=1, max_length=40)]
    since: Annotated[
        UtcTime | None,
        BeforeValidator(_not_a_number),
        Field(description="The first time, such as 2026-11-27T08:00:00Z"),
    ] = None
    until: Annotated[
        UtcTime | None,
        BeforeValidator(_not_a_number),
        Field(description="The last time; now, if it is not given"),
    ] = None


class WithdrawalResult(BaseModel):
    """The result of a withdrawal."""

    sender: str
    withdrawn: Annotated[int, Field(description="The number of outcomes withdrawn")]


class RejectedVersion(BaseModel):
    """A version that failed a check and is not served."""

    version: str
    kind: Annotated[Kind, Field(description="The check that failed")]
    reason: str


class ReloadResult(BaseModel):
    """The result of a poll of the registry."""

    before: Annotated[str | None, Field(description="Version in service before, if any")]
    after: Annotated[str | None, Field(description="Version in service now")]
    rejected: Annotated[
        RejectedVersion | None, Field(description="Version that has the alias but failed a check")
    ]
    challenger: Annotated[
        str | None, Field(description="Version with the alias challenger, if any")
    ]
