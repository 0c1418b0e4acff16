"""What a request for a route of the API meets: authentication, limits, and the words of a refusal."""

import hmac
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from schema import MEASUREMENTS, NAMES, OUTCOME
from serve.gate import Patience, again, header, whole_body

JSON = (b"application/json", b"application/json; charset=utf-8")
BY_NAME = {measurement.name: measurement for measurement in (*MEASUREMENTS, OUTCOME)}


def guarded(
    patience: Patience, max_body_bytes: int, token: str | None, direct: bool = False
) -> type[APIRoute]:
    """A route class whose routes are authenticated and limited before FastAPI sees a request.

    With `direct`, a valid body of JSON without a query goes straight from pydantic to the endpoint,
    whose only argument it is and which gives a `Response`: FastAPI's own way to it takes longer than
    scoring the patient and logging it. All else, and so every refusal, goes FastAPI's way.
    """

    class Guarded(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] not in (self.methods or ()):
                await super().handle(scope, receive, send)  # says which methods there are
                return
            authenticate(scope, token)
            body = await whole_body(scope, receive, max_body_bytes, patience)
            response = await self._directly(scope, body) if direct else None
            if response is None:
                await super().handle(scope, again(body, receive), send)
                return
            with suppress(TimeoutError), patience:  # who does not take the answer is cut off
                await response(scope, receive, send)

        async def _directly(self, scope: Scope, body: bytes) -> Response | None:
            usual = not scope["query_string"] and header(scope, b"content-type") in JSON
            if not usual or self.body_field is None:
                return None
            model: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]
            try:
                given = model.model_validate_json(body)
            except ValidationError:
                return None
            response: Response = await self.endpoint(given)
            return response

    return Guarded


def authenticate(scope: Scope, token: str | None) -> None:
    """Raise 401 unless the request carries the bearer token; none is asked for where none is set."""
    if token is None:
        return
    if not hmac.compare_digest(header(scope, b"authorization"), f"Bearer {token}".encode()):
        raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def unavailable(reason: str, retry_after: float) -> JSONResponse:
    """A refusal for now."""
    seconds = str(max(1, round(retry_after)))
    return JSONResponse({"detail": reason}, 503, headers={"Retry-After": seconds})


async def invalid(request: Request, error: Exception) -> JSONResponse:
    """422: each problem with its row, field, value, and what was expected."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    request.app.state.service.metrics.refused_values(out_of_range(found))
    return JSONResponse({"detail": [_problem(item) for item in found[:20]]}, 422)


def out_of_range(errors: Sequence[Any]) -> list[str]:
    """The measurements whose value was given and refused, once a patient."""
    places = {
        tuple(error["loc"][: error["loc"].index(name) + 1])
        for error in errors
        for name in NAMES
        if name in error["loc"]
        and error["type"] not in ("missing", "extra_forbidden")
        and error["input"] is not None
    }
    return [place[-1] for place in places]


def _problem(item: Any) -> dict[str, Any]:
    place = [part for part in item["loc"] if part != "body"]
    fields = [part for part in place if isinstance(part, str) and part != "patients"]
    rows = [part for part in place if isinstance(part, int)]
    found: dict[str, Any] = {"type": item["type"], "message": item["msg"]}
    if rows and item["type"] != "json_invalid":
        found["row"] = rows[0]
    if fields:
        found["field"] = fields[0]
    measurement = BY_NAME.get(fields[0]) if fields else None
    if measurement is not None and item["type"] != "extra_forbidden":
        found["expected"] = measurement.expected
        if measurement.choices:
            found["choices"] = [choice.name for choice in measurement.choices]
        else:
            found |= {
                "unit": measurement.unit,
                "minimum": measurement.low,
                "maximum": measurement.high,
            }
    if "input" in item and item["type"] not in ("missing", "json_invalid"):
        found["value"] = _shown(item["input"])
    return found


def _shown(value: Any) -> Any:
    """A value as it was given, or only its kind where it is long or no JSON."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)[:100]
    return value if len(text) <= 100 else f"{type(value).__name__} of {len(text)} characters"
