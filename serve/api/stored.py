"""The response of GET /predictions/ID: a prediction of the log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from heart.predictions.sources import Source
from heart.registry.model_version import Card
from heart.schema import NAMES
from serve.api.models import EXAMPLE, ID
from serve.encoding import outside_training_range, warning


class RecordedOutcome(BaseModel):
    """The outcome that is recorded for a prediction."""

    outcome: Literal["absence", "presence"]
    source: Source
    recorded_at: datetime


class StoredPrediction(BaseModel):
    """A prediction of the log. What the log does not have is null if the version is not loaded any more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prediction_id": ID,
                    "created_at": "2026-11-27T08:00:00Z",
                    "model_version": "1",
                    "probability": 0.848,
                    "threshold": 0.5,
                    "prediction": "presence",
                    "warnings": [],
                    "measurements": EXAMPLE,
                    "missing": ["major_vessels", "thallium"],
                    "outcome": {
                        "outcome": "presence",
                        "source": "angiography",
                        "recorded_at": "2026-12-04T09:30:00Z",
                    },
                }
            ]
        }
    )
    prediction_id: str
    created_at: datetime
    model_version: str
    probability: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[
        float | None, Field(description="null: the version is not loaded any more")
    ]
    prediction: Annotated[
        Literal["presence", "absence"] | None,
        Field(description="null: the version is not loaded any more"),
    ]
    warnings: Annotated[
        list[str] | None, Field(description="null: the version is not loaded any more")
    ]
    measurements: Annotated[
        dict[str, int | float | str | None], Field(description="As they were given")
    ]
    missing: Annotated[list[str], Field(description="Measurements without a value")]
    outcome: Annotated[RecordedOutcome | None, Field(description="null: none is recorded")]


def stored_prediction(kept: Mapping[str, Any], model: Card | None) -> StoredPrediction:
    """The response for a row of the log, given its model version if it is loaded."""
    measurements = {name: _whole(kept[name]) for name in NAMES}
    ranges = model.training.get("numbers", {}) if model else {}
    return StoredPrediction(
        prediction_id=kept["id"],
        created_at=kept["created_at"],
        model_version=kept["model_version"],
        probability=kept["probability"],
        threshold=model and model.threshold,
        prediction=model and _label(kept["probability"], model.threshold),
        warnings=model
        and [warning(name, ranges) for name in outside_training_range(measurements, ranges)],
        measurements=measurements,
        missing=[name for name in NAMES if kept[name] is None],
        outcome=kept["outcome"]
        and RecordedOutcome(
            outcome=kept["outcome"], source=kept["source"], recorded_at=kept["recorded_at"]
        ),
    )


def _label(risk: float, threshold: float) -> Literal["presence", "absence"]:
    return "presence" if risk >= threshold else "absence"


def _whole(value: Any) -> Any:
    """A whole number without a fraction; the log has all numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
