"""The routes for FHIR. Their errors are resources OperationOutcome."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.routing import APIRoute
from fhir.resources.R4B.operationoutcome import OperationOutcome
from starlette.types import Receive, Scope, Send

from heart.predictions.log import LogUnavailable
from serve.api.bodies import InvalidBody
from serve.fhir.risk_assessment import risk_assessment
from serve.service import Service

FHIR_JSON = "application/fhir+json"
CODES = {
    401: "login",
    403: "forbidden",
    404: "not-found",
    422: "invalid",
    503: "transient",
}  # of the value set issue-type
NO_PREDICTION = "no prediction has this id: it is wrong, or the prediction was erased"
DESCRIPTION: dict[str, Any] = {"content": {FHIR_JSON: {"schema": {"type": "object"}}}}


def fhir(service: Service, route_class: type[APIRoute], dependencies: Sequence[Any]) -> APIRouter:
    """The route that shows predictions of the log as FHIR."""
    router = APIRouter(
        tags=["fhir"], route_class=_answering(route_class), dependencies=dependencies
    )

    @router.get(
        "/fhir/RiskAssessment/{id}",
        operation_id="read_risk_assessment",
        summary="Read a prediction as FHIR",
        response_class=Response,
        responses={
            200: DESCRIPTION,
            **{status: {"description": code, **DESCRIPTION} for status, code in CODES.items()},
        },
    )
    def read(id: str) -> Response:  # noqa: A002  # FHIR's name
        """Return a prediction as a FHIR R4 RiskAssessment, computed from the log."""
        kept = service.log.get(id)
        if kept is None:
            raise HTTPException(404, NO_PREDICTION)
        return Response(risk_assessment(kept).model_dump_json(), media_type=FHIR_JSON)

    return router


def _answering(route_class: type[APIRoute]) -> type[APIRoute]:
    """The class of routes, with errors as OperationOutcome, whether raised before the endpoint or in it."""

    class FhirRoute(route_class):  # type: ignore[valid-type, misc]
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().handle(scope, receive, send)
            except HTTPException as error:
                await _outcome(error.status_code, error.detail, error.headers)(scope, receive, send)
            except InvalidBody as error:
                text = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors)
                await _outcome(422, text, None)(scope, receive, send)

        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def handle(request: Any) -> Response:
                try:
                    response: Response = await handler(request)
                except HTTPException as error:
                    return _outcome(error.status_code, error.detail, error.headers)
                except LogUnavailable as error:
                    wait = {"Retry-After": str(max(1, round(error.retry_after)))}
                    return _outcome(503, "the prediction log is unavailable", wait)
                return response

            return handle

    return FhirRoute


def _outcome(status: int, text: str, headers: Mapping[str, str] | None) -> Response:
    issue = {"severity": "error", "code": CODES.get(status, "processing"), "diagnostics": text}
    content = OperationOutcome.model_validate({"issue": [issue]}).model_dump_json()
    return Response(content, status, dict(headers or {}), media_type=FHIR_JSON)
