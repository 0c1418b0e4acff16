"""Errors as resources OperationOutcome, which FHIR requires and CDS Hooks 3.0 recommends."""

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Response
from fastapi.routing import APIRoute
from fhir.resources.R4B.operationoutcome import OperationOutcome
from starlette.types import Receive, Scope, Send

from heart.predictions.log import LogUnavailable
from heart.registry.errors import ScoringFailed
from serve.api.bodies import InvalidBody
from serve.api.errors import message_of
from serve.service import NoModel

FHIR_JSON = "application/fhir+json"
# Of the value set issue-type, by the status of the response.
CODES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    408: "timeout",
    412: "required",
    413: "too-long",
    415: "not-supported",
    422: "invalid",
    501: "not-supported",
    503: "transient",
}
DESCRIPTION: dict[str, Any] = {"content": {FHIR_JSON: {"schema": {"type": "object"}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": code, **DESCRIPTION} for status, code in CODES.items()
}
HANDLED = (HTTPException, InvalidBody, LogUnavailable, NoModel, ScoringFailed)
MODEL_RETRY_SECONDS = 5


def outcome(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response with an OperationOutcome."""
    issue = {"severity": "error", "code": CODES.get(status, "processing"), "diagnostics": text}
    content = OperationOutcome.model_validate({"issue": [issue]}).model_dump_json()
    return Response(content, status, dict(headers or {}), media_type=FHIR_JSON)


def outcome_of(error: Exception) -> Response:
    """The response to one of the errors HANDLED."""
    if isinstance(error, HTTPException):
        return outcome(error.status_code, error.detail, error.headers)
    if isinstance(error, InvalidBody):
        places = (".".join(map(str, item["loc"][1:])) or "body" for item in error.errors[:5])
        texts = map(message_of, error.errors)
        return outcome(422, "; ".join(f"{p}: {t}" for p, t in zip(places, texts, strict=False)))
    if isinstance(error, LogUnavailable):
        wait = {"Retry-After": str(max(1, round(error.retry_after)))}
        return outcome(503, "the prediction log is unavailable", wait)
    if isinstance(error, ScoringFailed):
        return outcome(500, str(error))
    return outcome(503, f"no model: {error}", {"Retry-After": str(MODEL_RETRY_SECONDS)})


def with_outcomes(route_class: type[APIRoute]) -> type[APIRoute]:
    """A class of routes that answer errors so, whether raised before the endpoint or in it."""

    class FhirRoute(route_class):  # type: ignore[valid-type, misc]
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().handle(scope, receive, send)
            except HANDLED as error:
                await outcome_of(error)(scope, receive, send)

        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def handle(request: Any) -> Response:
                try:
                    response: Response = await handler(request)
                except HANDLED as error:
                    return outcome_of(error)
                return response

            return handle

    return FhirRoute
