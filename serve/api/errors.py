"""Error responses of the API: their models, and the list of invalid values of a request."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from heart.dataset.headings import ALIASES, plain
from heart.http.problems import KINDS, PROBLEM_JSON, problem_response, type_uri
from heart.schema import BY_NAME, NAMES, OUTCOME, Measurement
from serve.api.bodies import LINE, MAX_ERRORS, UNKNOWN, InvalidBody

KNOWN = {**BY_NAME, OUTCOME.name: OUTCOME}
MAX_SHOWN = 100  # characters of a value or of an unknown name
JsonType = Literal["null", "boolean", "integer", "number", "string", "array", "object"]
# In this order: a bool is an int.
JSON_TYPES: tuple[tuple[Any, JsonType], ...] = (
    (type(None), "null"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    ((list, tuple), "array"),
)


def example(kind: str, detail: str, **members: Any) -> dict[str, Any]:
    """A problem as an example in the OpenAPI document."""
    title, status = KINDS[kind].title, KINDS[kind].status
    known = {"type": type_uri(kind), "title": title, "status": status, "detail": detail}
    return {**known, "instance": "5f2c9ab01d7e4c33", **members}


class ProblemDetails(BaseModel):
    """An error, as problem details (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [example("overloaded", "too many requests in progress")],
        }
    )
    type: Annotated[
        str,
        Field(
            description="A link to the page /problems; what follows the # is a stable identifier"
        ),
    ]
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong with this request, for people")]
    instance: Annotated[
        str, Field(description="The id of the request, as in the header X-Request-ID")
    ] = ""


class InvalidValue(BaseModel):
    """One error in a request; keys that do not apply are absent."""

    type: Annotated[str, Field(description="The kind of error, such as missing or literal_error")]
    message: str
    location: Literal["body", "query", "path", "header"]
    path: Annotated[
        str,
        Field(
            description="In a body of JSON, a JSON Pointer (RFC 6901); else the parameter's name"
        ),
    ] = ""
    row: Annotated[int, Field(description="The patient in a batch, from 0")] = 0
    line: Annotated[int, Field(description="In a table or in broken JSON, from 1")] = 0
    column: Annotated[int, Field(description="In broken JSON, in characters from 1")] = 0
    field: str = ""
    value: Annotated[Any, Field(description="The value, or only its type if it is long")] = None
    value_type: JsonType = "null"
    expected: str = ""
    expected_type: JsonType = "number"
    unit: str = ""
    minimum: float = 0
    maximum: float = 0
    choices: list[str] = []


class InvalidRequest(ProblemDetails):
    """An error about values of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                example(
                    "invalid-request",
                    "/age: expected a whole number from 18 to 110 years",
                    errors=[
                        {
                            "type": "less_than_equal",
                            "message": "Input should be less than or equal to 110",
                            "location": "body",
                            "path": "/age",
                            "field": "age",
                            "value": 300,
                            "value_type": "integer",
                            "expected": "a whole number from 18 to 110 years",
                            "expected_type": "integer",
                            "unit": "years",
                            "minimum": 18,
                            "maximum": 110,
                        }
                    ],
                    more=False,
                )
            ]
        }
    )
    errors: Annotated[list[InvalidValue], Field(description=f"The first {MAX_ERRORS} errors")] = []
    more: Annotated[
        bool, Field(description="There are or may be more errors: validation stopped early")
    ] = False


def error_response(
    description: str, *headers: str, model: type[BaseModel] = ProblemDetails
) -> dict[str, Any]:
    """An entry of `responses` in the OpenAPI document."""
    schemas = {
        name: {"schema": {"type": "string"}, "required": True}
        for name in (*headers, "X-Request-ID")
    }
    return {"model": model, "description": description, "headers": schemas}


def with_media_type(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document with the media type of problems; FastAPI has that of the route for all responses."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                schema = content.get("application/json", {}).get("schema", {})
                if int(status) >= 400 and schema.get("$ref", "").endswith(MODELS):
                    content[PROBLEM_JSON] = content.pop("application/json")
    return document


MODELS = (f"/{ProblemDetails.__name__}", f"/{InvalidRequest.__name__}")
ERRORS: dict[int | str, dict[str, Any]] = {
    401: error_response("The bearer token is missing or wrong", "WWW-Authenticate"),
    403: error_response("The token lacks the scope, or a page of another origin sent the request"),
    421: error_response("The request's host is not in HEART_ALLOWED_HOSTS"),
    422: error_response("A query parameter is unknown or invalid", model=InvalidRequest),
    503: error_response("No model, no prediction log, or overload: retry later", "Retry-After"),
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    400: error_response("The client disconnected before the body was complete"),
    408: error_response("The body was not complete in time"),
    413: error_response("The body is too long"),
    415: error_response("The body is neither JSON nor, for a batch, text/csv, or it is compressed"),
    422: error_response(
        "The body is not valid JSON or no table that can be read, or a value is invalid",
        model=InvalidRequest,
    ),
    501: error_response("The body has a transfer coding other than chunked"),
}


async def invalid(request: Request, error: Exception) -> Response:
    """422: each error with its place, value and expectation."""
    assert isinstance(error, InvalidBody | RequestValidationError)
    complete = error.complete if isinstance(error, InvalidBody) else True
    errors: Sequence[Any] = error.errors if isinstance(error, InvalidBody) else error.errors()
    request.app.state.service.metrics.patients.count_rejected_values(out_of_range(errors))
    shown = [_invalid_value(item) for item in errors[:MAX_ERRORS]]
    return problem_response(
        "invalid-request",
        _detail(shown, len(errors)),
        errors=shown,
        more=not complete or len(errors) > MAX_ERRORS,
    )


def _detail(shown: Sequence[dict[str, Any]], count: int) -> str:
    """The first error, and how many more there are at least."""
    first = shown[0]
    place = first.get("path") or (f"line {first[LINE]}" if LINE in first else "")
    others = f"; {count - 1} more in errors" if count > 1 else ""
    # pydantic's message names no unit: 5.2 mmol/l of cholesterol is "no multiple of 1".
    wrong = {"path", "value", "expected"} <= first.keys()
    text = f"expected {first['expected']}" if wrong else first["message"]
    return f"{place}{place and ': '}{text}{others}"


def out_of_range(errors: Sequence[Any]) -> list[list[str]]:
    """The measurements with an invalid value, for each patient that has any."""
    patients: dict[int | None, dict[str, None]] = {}
    for error in errors:
        if error["loc"][0] != "body":
            continue
        row, name = _row_and_field(error["loc"])
        has_value = error["type"] not in ("missing", UNKNOWN)
        if name in NAMES and has_value and error.get("input") is not None:
            patients.setdefault(row, {})[name] = None
    return [list(names) for names in patients.values()]


def _row_and_field(loc: Sequence[Any]) -> tuple[int | None, str | None]:
    """Row and field of an error, from ("body", "patients", 3, "age") or, without a row, ("body", "age")."""
    path = [part for part in loc[1:] if part not in ("patients", LINE)]
    rows = [part for part in path if isinstance(part, int)]
    fields = [part for part in path if isinstance(part, str)]
    return rows[0] if rows else None, fields[0] if fields else None


def _invalid_value(item: Any) -> dict[str, Any]:
    loc = item["loc"]
    row, field = _row_and_field(loc)
    error: dict[str, Any] = {"type": item["type"], "message": message_of(item), "location": loc[0]}
    if LINE not in loc[:2] and loc[1:]:
        error["path"] = _path(loc)
    if row is not None:
        error[LINE if LINE in loc[:2] else "row"] = row
    error |= {name: item[name] for name in (LINE, "column") if name in item}
    if field is not None:
        error["field"] = field[:MAX_SHOWN]
    measurement = KNOWN.get(field or "") if loc[0] == "body" else None
    if measurement is not None and item["type"] != UNKNOWN:
        error |= _expectation(measurement)
    if "choices" in item:
        error["choices"] = item["choices"]
    if "input" in item and item["type"] not in ("missing", "json_invalid"):
        error["value"] = _shortened(item["input"])
        error["value_type"] = _json_type(item["input"])
    return error


def message_of(item: Any) -> str:
    """The message of an error; for an unknown field, with the one that its name means in files or is like."""
    if item["type"] != UNKNOWN or "choices" not in item:
        return str(item["msg"])
    name, known = str(item["loc"][-1])[:MAX_SHOWN], item["choices"]
    meant = [field for field in (ALIASES.get(plain(name)),) if field in known]
    close = meant or get_close_matches(name.lower(), known, 1)
    return f"unknown field: expected {close[0]}" if close else "unknown field"


def _path(loc: Sequence[Any]) -> str:
    """The JSON Pointer of a place in the body, or the name of a parameter."""
    if loc[0] != "body":
        return str(loc[1])[:MAX_SHOWN]
    names = (str(part)[:MAX_SHOWN].replace("~", "~0").replace("/", "~1") for part in loc[1:])
    return "".join(f"/{name}" for name in names)


def _expectation(measurement: Measurement) -> dict[str, Any]:
    """What the schema allows."""
    if measurement.choices:
        choices = [choice.name for choice in measurement.choices]
        return {
            "expected": measurement.expected,
            "expected_type": "string",
            "choices": choices,
        }
    return {
        "expected": measurement.expected,
        "expected_type": "integer" if measurement.step == 1 else "number",
        "unit": measurement.unit,
        "minimum": measurement.low,
        "maximum": measurement.high,
    }


def _json_type(value: Any) -> JsonType:
    return next((name for kind, name in JSON_TYPES if isinstance(value, kind)), "object")


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
