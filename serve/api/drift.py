"""The response of GET /drift: the last drift check."""

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, Field

from heart.drift.baseline import MIN_CELL_COUNT
from heart.drift.snapshot import DriftSnapshot


class Feature(BaseModel):
    """The result for one measurement, or for the model's score."""

    ratio: Annotated[float, Field(description="`score` over `limit`; above 1 is drift", ge=0)]
    limit: Annotated[
        float, Field(description="The largest `score` that patients without drift may reach")
    ]
    score: Annotated[
        float,
        Field(
            description="Distance of the last patients from those before them, in standard deviations "
            "under no drift, for the test and the comparison with the largest `ratio`"
        ),
    ]
    drifted: bool
    window_rows: Annotated[int, Field(description="Last patients in that comparison", ge=0)]
    earlier_rows: Annotated[
        int,
        Field(
            description="Earlier patients of this version in that comparison, beside the training patients; "
            "0 if it is with the training patients alone",
            ge=0,
        ),
    ]
    summary: Annotated[str, Field(description="What has changed, as a sentence")]


class Drift(BaseModel):
    """Whether the last patients differ from the training patients, or from these and the earlier patients."""

    model_version: str
    window_rows: Annotated[int, Field(description="Patients in the drift check", ge=0)]
    minimum_rows: Annotated[
        int, Field(description="Patients that a drift check requires", ge=MIN_CELL_COUNT)
    ]
    drifted: Annotated[
        bool | None, Field(description="Whether any feature has drifted; null for too few patients")
    ]
    features: Annotated[
        dict[str, Feature],
        Field(description="By measurement, and `score`; empty for too few patients"),
    ]


def drift_response(snapshot: DriftSnapshot) -> Drift:
    """A drift check as the API returns it."""
    report = snapshot.report
    return Drift(
        model_version=snapshot.version,
        window_rows=report.window_rows,
        minimum_rows=report.minimum_rows,
        drifted=report.drifted,
        features={name: Feature(**asdict(result)) for name, result in report.features.items()},
    )
