"""The routes about predictions. Each function returns a router for one purpose, given the parts that it needs."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from heart.http.problems import Problem, unavailable
from heart.predictions.log import OutcomeConflict, OutcomeOfAnother, UnknownPrediction
from heart.registry.errors import RegistryUnavailable
from serve.api.bodies import CSV
from serve.api.errors import BODY_ERRORS, ERRORS, error_response
from serve.api.idempotency import PARAMETER, REPLAY, REPLAYED, answered
from serve.api.models import (
    Batch,
    Feedback,
    FeedbackResult,
    Patient,
    Prediction,
    Predictions,
    ReloadResult,
    Withdrawal,
    WithdrawalResult,
)
from serve.api.protected import token_of
from serve.api.queries import BatchQuery, PredictQuery
from serve.api.routing import Routing
from serve.api.stored import StoredPrediction, stored_prediction
from serve.service import Service

REGISTRY_RETRY_SECONDS = 5
CSV_BODY = {
    "schema": {"type": "string"},
    "example": "age,sex,cp,thalach,thal\n57,1,4,131,7\n44,0,2,175,3\n",
}
PREDICT_ERRORS: dict[int | str, dict[str, Any]] = {
    **BODY_ERRORS,
    409: error_response("The idempotency key was sent with another body or other parameters"),
    410: error_response("A prediction of the answer to this idempotency key was erased"),
}
NO_PREDICTION = "no prediction has this prediction_id: it is wrong, or the prediction was erased"


def scoring(service: Service, routing: Routing) -> APIRouter:
    """The routes that score patients."""
    router = routing.router("predictions")

    headers = {"responses": {"200": {"headers": {REPLAYED: REPLAY}}}, "parameters": [PARAMETER]}

    @router.post(
        "/predict",
        operation_id="predict",
        summary="Predict one patient",
        response_model=Prediction,
        responses=PREDICT_ERRORS,
        openapi_extra=headers,
    )
    async def predict(
        patient: Patient, query: Annotated[PredictQuery, Query()], request: Request
    ) -> Response:
        """Predict the risk of one patient. The prediction is logged before the response is sent."""
        patients = [patient.__dict__]
        return await answered(service, patients, query, request, lambda rows: to_json(rows[0]))

    @router.post(
        "/predict/batch",
        operation_id="predict_batch",
        summary="Predict a batch",
        response_model=Predictions,
        responses=PREDICT_ERRORS,
        openapi_extra={**headers, "requestBody": {"content": {CSV: CSV_BODY}}},
    )
    async def predict_batch(
        batch: Batch, query: Annotated[BatchQuery, Query()], request: Request
    ) -> Response:
        """Predict the risks of up to 10,000 patients. All of them are logged, or none.

        The body is JSON, or a table as text/csv in any layout that stage prepare reads.
        """
        patients = batch.rows()
        query.require_short(len(patients))

        def encode(rows: Any) -> bytes:
            return to_json({"predictions": rows, **batch.reading()})

        return await answered(service, patients, query, request, encode)

    return router


def reading(service: Service, routing: Routing) -> APIRouter:
    """The route that reads a prediction of the log."""
    router = routing.router("predictions")

    @router.get(
        "/predictions/{prediction_id}",
        operation_id="read_prediction",
        summary="Read a prediction",
        responses={**ERRORS, 404: error_response("No such prediction")},
    )
    def read(prediction_id: str) -> StoredPrediction:
        """Return a prediction of the log: what was given, what was answered, and the outcome if it is recorded."""
        kept = service.log.get(prediction_id)
        if kept is None:
            raise Problem("unknown-prediction", NO_PREDICTION)
        return stored_prediction(kept, service.model_of(kept["model_version"]))

    return router


def records(service: Service, routing: Routing) -> APIRouter:
    """The route for outcomes."""
    router = routing.router("outcomes")

    @router.post(
        "/feedback",
        operation_id="record_outcome",
        summary="Record an outcome",
        responses={
            **BODY_ERRORS,
            404: error_response("No such prediction"),
            409: error_response("The prediction has a different outcome; see `replace`"),
            429: error_response("The token has sent too many outcomes", "Retry-After"),
        },
    )
    def feedback(outcome: Feedback, request: Request) -> FeedbackResult:
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
        return FeedbackResult(prediction_id=outcome.prediction_id, status=status)

    return router


def administration(service: Service, routing: Routing) -> APIRouter:
    """The routes that change the state of the service or of its log."""
    router = routing.router("administration")

    @router.post(
        "/admin/reload",
        operation_id="reload_model",
        summary="Poll the registry",
        response_model=ReloadResult,
        responses=ERRORS,
    )
    def reload() -> Any:
        """Poll the registry now, and try a rejected version again."""
        try:
            return service.reload()
        except RegistryUnavailable as error:
            return unavailable("registry-unavailable", str(error), REGISTRY_RETRY_SECONDS)

    @router.post(
        "/admin/outcomes/withdraw",
        operation_id="withdraw_outcomes",
        summary="Withdraw outcomes",
        responses=BODY_ERRORS,
    )
    def withdraw(chosen: Withdrawal, request: Request) -> WithdrawalResult:
        """Withdraw the outcomes that a token sent within a time. The predictions stay."""
        token = token_of(request.scope)
        withdrawn = service.withdraw_outcomes(chosen.sender, chosen.since, chosen.until, token)
        return WithdrawalResult(sender=chosen.sender, withdrawn=withdrawn)

    @router.delete(
        "/predictions/{prediction_id}",
        operation_id="erase_prediction",
        summary="Erase a prediction",
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
