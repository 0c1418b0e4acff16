"""The routes that answer with predictions of the log as FHIR."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from heart.http.messages import header
from serve.api.models import Patient
from serve.fhir.errors import DESCRIPTION, FHIR_JSON, RESPONSES, with_outcomes
from serve.fhir.risk_assessment import risk_assessment
from serve.metrics import V1
from serve.service import Service

NO_PREDICTION = "no prediction has this id: it is wrong, or the prediction was erased"
ANY = ("application/json", "application/*", "*/*")


def fhir(service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]) -> APIRouter:
    """The route that shows predictions of the log as FHIR."""
    router = APIRouter(
        tags=["fhir"], route_class=with_outcomes(route_class), dependencies=dependencies
    )

    @router.get(
        "/fhir/RiskAssessment/{id}",
        operation_id="read_risk_assessment",
        summary="Read a prediction as FHIR",
        response_class=Response,
        responses={200: DESCRIPTION, **RESPONSES},
    )
    def read(id: str) -> Response:  # noqa: A002  # FHIR's name
        """Return a prediction as a FHIR R4 RiskAssessment, computed from the log."""
        return _resource(service, id)

    return router


def fhir_scoring(
    service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]
) -> APIRouter:
    """The route that scores a patient for those who accept FHIR. It must be before that of the API."""
    router = APIRouter(
        route_class=with_outcomes(_accepting(route_class)), dependencies=dependencies
    )

    @router.post("/predict", response_class=Response, include_in_schema=False)
    @router.post(f"{V1}/predict", response_class=Response, include_in_schema=False)
    async def predict(patient: Patient, request: Request) -> Response:
        """Predict the risk of one patient, as a FHIR R4 RiskAssessment."""
        if "idempotency-key" in request.headers:
            raise HTTPException(
                400, "Idempotency-Key is not for answers as FHIR: leave one of them out"
            )
        prediction = (await service.predict([patient.__dict__]))[0]
        return await asyncio.to_thread(_resource, service, prediction["prediction_id"])

    return router


def _resource(service: Service, prediction_id: str) -> Response:
    kept = service.log.get(prediction_id)
    if kept is None:
        raise HTTPException(404, NO_PREDICTION)
    return Response(risk_assessment(kept).model_dump_json(), media_type=FHIR_JSON)


def _accepting(route_class: type[APIRoute]) -> type[APIRoute]:
    """A class of routes that match only if the client prefers FHIR to other JSON."""

    class AcceptRoute(route_class):  # type: ignore[valid-type, misc]
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            match, child = super().matches(scope)
            if match is Match.FULL and prefers_fhir(header(scope, b"accept").decode("latin-1")):
                return match, child
            return Match.NONE, {}

    return AcceptRoute


def prefers_fhir(accept: str) -> bool:
    """Whether a header Accept lists FHIR, and no other JSON before it or with a higher weight."""
    best, weight = "", 0.0
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if name in (FHIR_JSON, *ANY) and (number := _number(quality)) > weight:
            best, weight = name, number
    return best == FHIR_JSON


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
