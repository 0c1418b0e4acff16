"""The routes of the API. Each function returns a router for one purpose, given the parts that it needs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.problems import PAGE, Problem, problems_page, unavailable
from heart.http.tokens import DEFAULT, METRICS, Tokens
from heart.predictions.log import OutcomeConflict, OutcomeOfAnother, UnknownPrediction
from heart.registry.errors import RegistryUnavailable
from serve.api.bodies import CSV
from serve.api.drift import Drift, drift_response
from serve.api.errors import BODY_ERRORS, ERRORS, error_response
from serve.api.models import (
    Batch,
    Feedback,
    Patient,
    Prediction,
    Predictions,
    ReloadResult,
    Withdrawal,
    WithdrawalResult,
)
from serve.api.protected import token_of
from serve.guard import ChampionGuard
from serve.scrapes import SharedScrape
from serve.service import Service

REGISTRY_RETRY_SECONDS = 5
CSV_BODY = {
    "schema": {"type": "string"},
    "example": "age,sex,cp,thalach,thal\n57,1,4,131,7\n44,0,2,175,3\n",
}
CODING = {
    "name": "coding",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "default": "auto"},
    "description": "Of a table: auto, a coding such as uci, or the codings of single columns, such as "
    "auto,thallium=heart_csv",
}
NO_PREDICTION = "no prediction has this prediction_id: it is wrong, or the prediction was erased"


def scoring(
    service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]
) -> APIRouter:
    """The routes that score patients."""
    router = APIRouter(route_class=route_class, dependencies=dependencies)

    @router.post("/predict", response_model=Prediction, responses=BODY_ERRORS)
    async def predict(patient: Patient, explain: bool = False) -> Response:
        """Predict the risk of one patient. The prediction is logged before the response is sent."""
        return _json((await service.predict([patient.__dict__], explain))[0])

    @router.post(
        "/predict/batch",
        response_model=Predictions,
        response_model_exclude_unset=True,
        responses=BODY_ERRORS,
        openapi_extra={"parameters": [CODING], "requestBody": {"content": {CSV: CSV_BODY}}},
    )
    async def predict_batch(batch: Batch) -> Response:
        """Predict the risks of up to 10,000 patients. All of them are logged, or none.

        The body is JSON, or a table as text/csv in any layout that stage prepare reads.
        """
        predictions = await service.predict(batch.rows())
        return _json({"predictions": predictions, **batch.reading()})

    return router


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")


def records(
    service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]
) -> APIRouter:
    """The route for outcomes."""
    router = APIRouter(route_class=route_class, dependencies=dependencies)

    @router.post(
        "/feedback",
        responses={
            **BODY_ERRORS,
            404: error_response("No such prediction"),
            409: error_response("The prediction has a different outcome; see `replace`"),
            429: error_response("The token has sent too many outcomes", "Retry-After"),
        },
    )
    def feedback(outcome: Feedback, request: Request) -> dict[str, str]:
        """Record the outcome of a patient, with the name of the token: the model is evaluated and trained on it."""
        try:
            status = service.record_outcome(
                outcome.prediction_id,
                outcome.outcome,
                outcome.source,
                outcome.replace,
                token_of(request.scope),
            )
        except UnknownPrediction:
            raise Problem("unknown-prediction", NO_PREDICTION) from None
        except OutcomeOfAnother:
            raise Problem(
                "outcome-of-another",
                "another token recorded a different outcome: a token with the scope admin can replace it",
            ) from None
        except OutcomeConflict:
            raise Problem(
                "outcome-conflict",
                "a different outcome is recorded for this prediction: send replace: true to replace it",
            ) from None
        return {"prediction_id": outcome.prediction_id, "status": status}

    return router


def reports(
    service: Service, guard: ChampionGuard, route_class: type[APIRoute], dependencies: Sequence[Any]
) -> APIRouter:
    """The routes that report on the model and on drift."""
    router = APIRouter(route_class=route_class, dependencies=dependencies)

    @router.get("/model", responses=ERRORS)
    def model() -> dict[str, Any]:
        """Describe the model in service: version, run, scores with intervals, training data, and the
        comparisons with the challenger and with the version before it.
        """
        current, result = service.model(), guard.result
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
            "labeled": service.labeled_scores(),
            "challenger": service.shadow_scores(),
            "guard": result and {**asdict(result), "alarm": result.alarm},
        }

    @router.get(
        "/drift",
        responses={**ERRORS, 503: error_response("No drift check is complete yet", "Retry-After")},
    )
    def drift() -> Drift:
        """Return the last drift check: whether the last patients differ from the training patients."""
        return drift_response(service.drift())

    return router


def administration(
    service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]
) -> APIRouter:
    """The routes that change the state of the service or of its log."""
    router = APIRouter(route_class=route_class, dependencies=dependencies)

    @router.post("/admin/reload", response_model=ReloadResult, responses=ERRORS)
    def reload() -> Any:
        """Poll the registry now, and try a rejected version again."""
        try:
            return service.reload()
        except RegistryUnavailable as error:
            return unavailable("registry-unavailable", str(error), REGISTRY_RETRY_SECONDS)

    @router.post("/admin/outcomes/withdraw", responses=BODY_ERRORS)
    def withdraw(chosen: Withdrawal, request: Request) -> WithdrawalResult:
        """Withdraw the outcomes that a token sent within a time. The predictions stay."""
        token = token_of(request.scope)
        withdrawn = service.withdraw_outcomes(chosen.sender, chosen.since, chosen.until, token)
        return WithdrawalResult(sender=chosen.sender, withdrawn=withdrawn)

    @router.delete(
        "/predictions/{prediction_id}",
        status_code=204,
        responses={**ERRORS, 404: error_response("No such prediction")},
    )
    def erase(prediction_id: str) -> None:
        """Erase a prediction and its outcome, on the patient's request. Aggregate figures stay."""
        try:
            service.erase(prediction_id)
        except UnknownPrediction:
            raise Problem("unknown-prediction", NO_PREDICTION) from None

    return router


def operations(
    service: Service, guard: ChampionGuard, limiter: ConcurrencyLimiter, tokens: Tokens
) -> APIRouter:
    """The routes for probes and monitoring.

    The metrics require a token if one of those with a name has the scope for them.
    """
    closed = any(token.name != DEFAULT for token in tokens.with_scope(METRICS))
    router = APIRouter()
    scrape = SharedScrape(lambda: generate_latest(service.metrics.registry))

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Report that the process runs."""
        return {"status": "live"}

    @router.get("/health/ready", responses={503: {"description": "Not ready, with the reasons"}})
    def ready(response: Response) -> dict[str, Any]:
        """Report whether a model is loaded and the prediction log can be written."""
        state = service.champion.state()
        if limiter.draining:
            reasons = ["stopping"]  # without waiting for the log
        else:
            reasons = list(state.reasons)
            if problem := service.log.ready():
                reasons.append(f"prediction log: {problem}")
        response.status_code = 503 if reasons else 200
        status = "not ready" if reasons else "ready"
        notes = [*state.notes, *guard.notes(), *service.log.notes()]
        return {"status": status, "reasons": reasons, "notes": notes}

    @router.get(PAGE, include_in_schema=False)
    async def problems() -> Response:
        return HTMLResponse(problems_page())

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if closed:
            tokens.identify(request.scope, METRICS)
        return Response(await scrape.text(), media_type=CONTENT_TYPE_LATEST)

    return router
