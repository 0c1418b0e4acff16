"""What GET /drift answers: the newest look for drift."""

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, Field

from heart.drift.baseline import MIN_CELL_COUNT
from heart.drift.snapshot import DriftSnapshot


class Feature(BaseModel):
    """What was found of one measurement, or of the model's score."""

    ratio: Annotated[float, Field(description="`score` over `limit`; above 1 is drift", ge=0)]
    limit: Annotated[
        float, Field(description="The largest `score` that patients without drift may reach")
    ]
    score: Annotated[
        float,
        Field(
            description="How far from the training patients, in standard deviations of what is no "
            "drift: the test and the number of last patients with the largest `ratio`"
        ),
    ]
    drifted: bool
    summary: Annotated[str, Field(description="What has changed, in words")]


class Drift(BaseModel):
    """Whether the last patients look like those that the model learnt from."""

    model_version: str
    window_rows: Annotated[int, Field(description="Patients that were looked at", ge=0)]
    minimum_rows: Annotated[
        int, Field(description="Patients that a verdict needs", ge=MIN_CELL_COUNT)
    ]
    drifted: Annotated[
        bool | None, Field(description="The verdict: any feature; null for too few patients")
    ]
    features: Annotated[
        dict[str, Feature],
        Field(description="By measurement, and `score`; empty for too few patients"),
    ]


def drift_answer(snapshot: DriftSnapshot) -> Drift:
    """A look as the API gives it."""
    report = snapshot.report
    return Drift(
        model_version=snapshot.version,
        window_rows=report.window_rows,
        minimum_rows=report.minimum_rows,
        drifted=report.drifted,
        features={name: Feature(**asdict(found)) for name, found in report.features.items()},
    )
