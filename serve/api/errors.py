"""Error responses of the API: a status and a type for programs, a message for people."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from heart.schema import MEASUREMENTS, NAMES, OUTCOME
from serve.api.bodies import LINE, MAX_ERRORS, InvalidBody

MAX_SHOWN = 100  # characters of a value or of an unknown name
BY_NAME = {measurement.name: measurement for measurement in (*MEASUREMENTS, OUTCOME)}


class ErrorResponse(BaseModel):
    """The reason of an error."""

    detail: str


class Problem(BaseModel):
    """One problem of a request; keys that do not apply are absent."""

    type: str
    message: str
    row: int = Field(0, description="In a batch, from 0")
    line: int = Field(0, description="In a table, from 1")
    field: str = ""
    value: Any = Field(None, description="The value, or only its type if it is long")
    expected: str = ""
    unit: str = ""
    minimum: float = 0
    maximum: float = 0
    choices: list[str] = []


class Problems(BaseModel):
    """The problems of a request."""

    detail: list[Problem] = Field(description=f"The first {MAX_ERRORS} problems")
    more: bool = Field(description="There are or may be more problems: validation stopped early")


def error_response(description: str, *headers: str) -> dict[str, Any]:
    """An entry of `responses` in the OpenAPI document."""
    schemas = {name: {"schema": {"type": "string"}, "required": True} for name in headers}
    return {"model": ErrorResponse, "description": description, "headers": schemas}


ERRORS: dict[int | str, dict[str, Any]] = {
    401: error_response("The bearer token is missing or wrong", "WWW-Authenticate"),
    403: error_response("The token lacks the scope, or a page of another origin sent the request"),
    421: error_response("The request's host is not in HEART_ALLOWED_HOSTS"),
    503: error_response("No model, no prediction log, or overload: retry later", "Retry-After"),
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    400: error_response("The client disconnected before the body was complete"),
    408: error_response("The body was not complete in time"),
    413: error_response("The body is too long"),
    415: error_response("The body is neither JSON nor, for a batch, text/csv, or it is compressed"),
    422: {
        "model": Problems,
        "description": "The body is not valid JSON or no table that can be read, or a value is invalid",
    },
}


async def invalid(request: Request, error: Exception) -> Response:
    """422: each problem with its row, field, value and expectation."""
    assert isinstance(error, InvalidBody | RequestValidationError)
    complete = error.complete if isinstance(error, InvalidBody) else True
    errors: Sequence[Any] = error.errors if isinstance(error, InvalidBody) else error.errors()
    request.app.state.service.metrics.patients.count_rejected_values(out_of_range(errors))
    content = {
        "detail": [_problem(item) for item in errors[:MAX_ERRORS]],
        "more": not complete or len(errors) > MAX_ERRORS,
    }
    text = json.dumps(content, ensure_ascii=False)
    # JSON can have an escape for half of a surrogate pair, which UTF-8 cannot encode.
    return Response(text.encode("utf-8", "replace"), 422, media_type="application/json")


def out_of_range(errors: Sequence[Any]) -> list[list[str]]:
    """The measurements with an invalid value, for each patient that has any."""
    patients: dict[int | None, dict[str, None]] = {}
    for error in errors:
        row, name = _row_and_field(error["loc"])
        has_value = error["type"] not in ("missing", "extra_forbidden")
        if name in NAMES and has_value and error["input"] is not None:
            patients.setdefault(row, {})[name] = None
    return [list(names) for names in patients.values()]


def _row_and_field(loc: Sequence[Any]) -> tuple[int | None, str | None]:
    """Row and field of an error, from ("body", "patients", 3, "age") or, without a row, ("body", "age")."""
    path = [part for part in loc[1:] if part not in ("patients", LINE)]
    rows = [part for part in path if isinstance(part, int)]
    fields = [part for part in path if isinstance(part, str)]
    return rows[0] if rows else None, fields[0] if fields else None


def _problem(item: Any) -> dict[str, Any]:
    row, field = _row_and_field(item["loc"])
    problem: dict[str, Any] = {"type": item["type"], "message": item["msg"]}
    if row is not None:
        problem[LINE if LINE in item["loc"][:2] else "row"] = row
    if field is not None:
        problem["field"] = field[:MAX_SHOWN]
    measurement = BY_NAME.get(field or "")
    if measurement is not None and item["type"] != "extra_forbidden":
        problem["expected"] = measurement.expected
        if measurement.choices:
            problem["choices"] = [choice.name for choice in measurement.choices]
        else:
            problem |= {
                "unit": measurement.unit,
                "minimum": measurement.low,
                "maximum": measurement.high,
            }
    if "input" in item and item["type"] not in ("missing", "json_invalid"):
        problem["value"] = _shortened(item["input"])
    return problem


def _shortened(value: Any) -> Any:
    """A value, or only its type if it is long or has no JSON."""
    if isinstance(value, (str, bytes)) and len(value) > MAX_SHOWN:
        return f"{type(value).__name__} of {len(value)} characters"
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        return f"{type(value).__name__} with too many levels"
    except (TypeError, ValueError):
        return str(value)[:MAX_SHOWN]
    if len(text) <= MAX_SHOWN:
        return value
    return f"{type(value).__name__} of {len(text)} characters"
