"""What the API answers when it refuses: for programs by status and type, for people in words."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from heart.schema import MEASUREMENTS, NAMES, OUTCOME
from serve.api.bodies import MAX_ERRORS, InvalidBody

MAX_SHOWN = 100  # characters of a value or of an unknown name
BY_NAME = {measurement.name: measurement for measurement in (*MEASUREMENTS, OUTCOME)}


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str


class Problem(BaseModel):
    """What is wrong with one value, and what was expected; absent is what does not apply."""

    type: str
    message: str
    row: int = Field(0, description="In a batch, from 0")
    field: str = ""
    value: Any = Field(None, description="As it was given, or its kind where it is long")
    expected: str = ""
    unit: str = ""
    minimum: float = 0
    maximum: float = 0
    choices: list[str] = []


class Problems(BaseModel):
    """What is wrong with a request."""

    detail: list[Problem] = Field(description=f"The first {MAX_ERRORS} problems")
    more: bool = Field(description="There are more problems, or there may be: validation stopped")


def refusal(description: str, *headers: str) -> dict[str, Any]:
    """One entry of the OpenAPI document's responses."""
    texts = {name: {"schema": {"type": "string"}, "required": True} for name in headers}
    return {"model": Refusal, "description": description, "headers": texts}


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: refusal("No or a wrong bearer token", "WWW-Authenticate"),
    403: refusal("Sent by a page of another origin"),
    421: refusal("The host that the request is for is not in HEART_ALLOWED_HOSTS"),
    503: refusal("Not now: no model, no log, or too much to do", "Retry-After"),
}
WITH_BODY: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: refusal("The body cannot be read"),
    408: refusal("The body did not come in time"),
    413: refusal("The body is too long"),
    415: refusal("The content type is not JSON"),
    422: {"model": Problems, "description": "The body is no JSON, or a value does not fit"},
}


async def invalid(request: Request, error: Exception) -> Response:
    """422: each problem with its row, field, value, and what was expected."""
    assert isinstance(error, InvalidBody | RequestValidationError)
    complete = error.complete if isinstance(error, InvalidBody) else True
    errors: Sequence[Any] = error.errors if isinstance(error, InvalidBody) else error.errors()
    request.app.state.service.metrics.patients.refused(out_of_range(errors))
    answer = {
        "detail": [_problem(item) for item in errors[:MAX_ERRORS]],
        "more": not complete or len(errors) > MAX_ERRORS,
    }
    text = json.dumps(answer, ensure_ascii=False)
    # JSON can spell half of a surrogate pair, UTF-8 cannot.
    return Response(text.encode("utf-8", "replace"), 422, media_type="application/json")


def out_of_range(errors: Sequence[Any]) -> list[list[str]]:
    """The measurements whose value was given and refused, for each patient with any."""
    patients: dict[int | None, dict[str, None]] = {}
    for error in errors:
        row, name = _row_and_field(error["loc"])
        given = error["type"] not in ("missing", "extra_forbidden")
        if name in NAMES and given and error["input"] is not None:
            patients.setdefault(row, {})[name] = None
    return [list(names) for names in patients.values()]


def _row_and_field(loc: Sequence[Any]) -> tuple[int | None, str | None]:
    """Where in a batch or in a single body an error is: ("body", "patients", 3, "age") or ("body", "age")."""
    place = [part for part in loc[1:] if part != "patients"]
    rows = [part for part in place if isinstance(part, int)]
    fields = [part for part in place if isinstance(part, str)]
    return rows[0] if rows else None, fields[0] if fields else None


def _problem(item: Any) -> dict[str, Any]:
    row, field = _row_and_field(item["loc"])
    found: dict[str, Any] = {"type": item["type"], "message": item["msg"]}
    if row is not None:
        found["row"] = row
    if field is not None:
        found["field"] = field[:MAX_SHOWN]
    measurement = BY_NAME.get(field or "")
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
    if isinstance(value, (str, bytes)) and len(value) > MAX_SHOWN:
        return f"{type(value).__name__} of {len(value)} characters"
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        return f"{type(value).__name__} of many levels"
    except (TypeError, ValueError):
        return str(value)[:MAX_SHOWN]
    if len(text) <= MAX_SHOWN:
        return value
    return f"{type(value).__name__} of {len(text)} characters"
