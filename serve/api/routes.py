"""The routes of the API, by who asks: each router is made of the parts of the service that it needs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json

from heart.http.access import unavailable
from heart.http.concurrency import ConcurrencyLimiter
from heart.predictions.log import OutcomeConflict, UnknownPrediction
from heart.registry.errors import RegistryUnavailable
from serve.api.drift import Drift, drift_answer
from serve.api.errors import REFUSALS, WITH_BODY, refusal
from serve.api.models import Batch, Feedback, Patient, Prediction, Predictions, Reloaded
from serve.guard import ChampionGuard
from serve.service import Service

REGISTRY_RETRY_SECONDS = 5


def scoring(service: Service, route_class: type[APIRoute], secured: Sequence[Any]) -> APIRouter:
    """The routes that score patients."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.post("/predict", response_model=Prediction, responses=WITH_BODY)
    async def predict(patient: Patient, explain: bool = False) -> Response:
        """Predict the risk of one patient. The prediction is logged before the response is sent."""
        return _json((await service.predict([patient.__dict__], explain))[0])

    @router.post("/predict/batch", response_model=Predictions, responses=WITH_BODY)
    async def predict_batch(batch: Batch) -> Response:
        """Predict the risks of up to 10,000 patients. All of them are logged, or none."""
        answers = await service.predict([patient.__dict__ for patient in batch.patients])
        return _json({"predictions": answers})

    return router


def _json(answer: Any) -> Response:
    return Response(to_json(answer), media_type="application/json")


def records(service: Service, route_class: type[APIRoute], secured: Sequence[Any]) -> APIRouter:
    """The routes that deal with what is known of predictions."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.post(
        "/feedback",
        responses={
            **WITH_BODY,
            404: refusal("No such prediction"),
            409: refusal("It has a different outcome; see `replace`"),
        },
    )
    def feedback(given: Feedback) -> dict[str, str]:
        """Record the outcome of a patient: the model is evaluated and trained on it."""
        try:
            done = service.record_outcome(
                given.prediction_id, given.outcome, given.source, given.replace
            )
        except UnknownPrediction:
            raise HTTPException(404, "there is no such prediction") from None
        except OutcomeConflict:
            raise HTTPException(
                409, "a different outcome is recorded; send it with replace: true"
            ) from None
        return {"prediction_id": given.prediction_id, "status": done}

    @router.delete(
        "/predictions/{prediction_id}",
        status_code=204,
        responses={**REFUSALS, 404: refusal("No such prediction")},
    )
    def erase(prediction_id: str) -> None:
        """Erase a prediction and its outcome, on the patient's request. Aggregate figures stay."""
        try:
            service.erase(prediction_id)
        except UnknownPrediction:
            raise HTTPException(404, "there is no such prediction") from None

    return router


def findings(
    service: Service, guard: ChampionGuard, route_class: type[APIRoute], secured: Sequence[Any]
) -> APIRouter:
    """The routes that say what is known of the model and of those it answers."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.get("/model", responses=REFUSALS)
    def model() -> dict[str, Any]:
        """Describe the model that answers: version, run, figures with intervals, training data, and
        the comparison with the challenger and with the version before it.
        """
        current, judgement = service.model(), guard.judgement
        return {
            "name": current.name,
            "version": current.version,
            "run_id": current.run_id,
            "sha256": current.sha256,
            "schema_fingerprint": current.schema_fingerprint,
            "threshold": current.threshold,
            "loaded_at": current.loaded_at.isoformat(),
            "from_cache": current.from_cache,
            "tags": dict(current.tags),
            "figures": dict(current.figures),
            "labelled": service.labelled(current.version),
            "challenger": service.shadowed(),
            "guard": judgement and {**asdict(judgement), "alarm": judgement.alarm},
        }

    @router.get(
        "/drift",
        responses={**REFUSALS, 503: refusal("Nothing is known of drift yet", "Retry-After")},
    )
    def drift() -> Drift:
        """Return the last drift check: whether the last patients differ from the training patients."""
        return drift_answer(service.drift())

    return router


def administration(
    service: Service, route_class: type[APIRoute], secured: Sequence[Any]
) -> APIRouter:
    """The routes that change what the service does."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.post("/admin/reload", response_model=Reloaded, responses=REFUSALS)
    def reload() -> Any:
        """Poll the registry now, and try a rejected version again."""
        try:
            return service.reload()
        except RegistryUnavailable as error:
            return unavailable(str(error), REGISTRY_RETRY_SECONDS)

    return router


def operations(service: Service, limiter: ConcurrencyLimiter) -> APIRouter:
    """The routes for those who operate the service."""
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer while the process runs."""
        return {"status": "live"}

    @router.get("/health/ready", responses={503: {"description": "Not ready, with the reasons"}})
    def ready(response: Response) -> dict[str, Any]:
        """Report whether a model is loaded and the prediction log can be written."""
        state = service.champion.state()
        if limiter.draining:
            reasons = ["stopping"]  # at once, whatever the log waits for
        else:
            reasons = list(state.reasons)
            if broken := service.log.ready():
                reasons.append(f"prediction log: {broken}")
        response.status_code = 503 if reasons else 200
        status = "not ready" if reasons else "ready"
        return {"status": status, "reasons": reasons, "notes": list(state.notes)}

    @router.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
