"""The responses that describe the service: its model and its health."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from monitoring.estimated import EstimatedPerformance
from serve.guard import GuardResult
from serve.service import Service


class Report(BaseModel):
    """A response of which every key is documented."""

    model_config = ConfigDict(extra="forbid")


class LabeledScores(Report):
    """The champion's scores on predictions with an outcome."""

    labels: Annotated[float, Field(description="Predictions with an outcome")]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    roc_auc: Annotated[float, Field(ge=0, le=1)]


class EstimatedScore(Report):
    """A score that the risks imply, with the 95 % interval of the score that outcomes will show."""

    value: float
    low: float
    high: float


class EstimatedScores(Report):
    """The champion's scores on the last patients, estimated without outcomes.

    They hold if other patients come, but not if the disease has changed.
    """

    patients: int
    accuracy: EstimatedScore | None
    brier: EstimatedScore | None
    roc_auc: EstimatedScore | None


class EstimateComparison(Report):
    """Whether recorded outcomes contradict what the risks imply."""

    labels: Annotated[int, Field(description="Predictions with an outcome")]
    brier: float
    expected_brier: Annotated[float, Field(description="The Brier score that the risks imply")]
    evidence_ratio: Annotated[
        float, Field(description="Evidence that they differ; an alarm from 1 on", ge=0)
    ]
    contradicted: bool


class ChallengerScores(Report):
    """Challenger and champion on the same patients; scores of too few patients are null."""

    version: str
    rows: Annotated[int, Field(description="Patients whom both have scored")]
    difference_mean: Annotated[
        float | None, Field(description="Mean of the challenger's risk minus the champion's")
    ]
    disagreement_ratio: Annotated[
        float | None, Field(description="Share of patients with different predictions", ge=0, le=1)
    ]
    labels: Annotated[int, Field(description="Those with an outcome")]
    champion_accuracy: float | None
    champion_brier: float | None
    challenger_accuracy: float | None
    challenger_brier: float | None


class Guard(Report):
    """The champion compared with the version before it, on the champion's predictions with an outcome."""

    champion: str
    fallback: Annotated[str, Field(description="The version before the champion")]
    labels: int
    champion_brier: float
    fallback_brier: float
    evidence_ratio: Annotated[
        float, Field(description="Evidence that the champion is worse; an alarm from 1 on", ge=0)
    ]
    corroborated_ratio: Annotated[
        float,
        Field(description="The lowest ratio without the outcomes of any one sender", ge=0),
    ]
    alarm: bool


class ModelDescription(Report):
    """The model in service."""

    name: str
    version: str
    run_id: Annotated[str, Field(description="The run in MLflow that registered the version")]
    sha256: Annotated[str, Field(description="Hash of the model's file")]
    schema_fingerprint: Annotated[str, Field(description="Hash of the measurements' schema")]
    threshold: Annotated[
        float, Field(description="The probability from which the prediction is presence")
    ]
    loaded_at: datetime
    from_cache: Annotated[
        bool, Field(description="The registry has not confirmed the version since the start")
    ]
    tags: Annotated[
        dict[str, str], Field(description="Tags of the version, among them hashes of data")
    ]
    figures: Annotated[
        dict[str, Any],
        Field(description="Figures on held-out patients, with intervals and by group"),
    ]
    labeled: Annotated[LabeledScores | None, Field(description="null for too few outcomes")]
    estimated: Annotated[
        EstimatedScores | None, Field(description="null before the first drift check")
    ]
    estimate_check: Annotated[
        EstimateComparison | None, Field(description="null for too few outcomes")
    ]
    challenger: Annotated[ChallengerScores | None, Field(description="null without a challenger")]
    guard: Annotated[
        Guard | None, Field(description="null without a version before, or for too few outcomes")
    ]


def model_description(service: Service, guard: GuardResult | None) -> ModelDescription:
    """The description of the model in service with its scores. Raises NoModel, LogUnavailable."""
    model = service.model()
    labeled, challenger = service.labeled_scores(), service.shadow_scores()
    check = service.estimate_check()
    return ModelDescription(
        name=model.name,
        version=model.version,
        run_id=model.run_id,
        sha256=model.sha256,
        schema_fingerprint=model.schema_fingerprint,
        threshold=model.threshold,
        loaded_at=model.loaded_at,
        from_cache=model.from_cache,
        tags=dict(model.tags),
        figures=dict(model.figures),
        labeled=labeled and LabeledScores(**labeled),
        estimated=_estimated(service.estimate()),
        estimate_check=check
        and EstimateComparison(**asdict(check), contradicted=check.contradicted),
        challenger=challenger and ChallengerScores(**challenger),
        guard=guard and Guard(**asdict(guard), alarm=guard.alarm),
    )


def _estimated(estimate: EstimatedPerformance | None) -> EstimatedScores | None:
    if estimate is None:
        return None
    scores = {
        name: score and EstimatedScore(**asdict(score)) for name, score in estimate.figures.items()
    }
    return EstimatedScores(patients=estimate.patients, **scores)


class Live(Report):
    """The process runs."""

    status: Literal["live"] = "live"


class Ready(Report):
    """Whether predictions can be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"status": "ready", "reasons": [], "notes": []}]},
    )
    status: Literal["ready", "not ready"]
    reasons: Annotated[list[str], Field(description="Why the service is not ready")]
    notes: Annotated[list[str], Field(description="What does not prevent predictions")]
