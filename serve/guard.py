"""What every request meets before its route: measurement, admission, authentication, limits."""

import asyncio
import hmac
import json
import time
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schema import MEASUREMENTS, OUTCOME
from serve.metrics import Metrics

BODY_SECONDS = 10  # a slow body takes the place of others
JSON = (b"application/json", b"application/json; charset=utf-8")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"connect-src 'self'; frame-ancestors 'none'",
    ),
]
BY_NAME = {measurement.name: measurement for measurement in (*MEASUREMENTS, OUTCOME)}


class Observer:
    """Counts and times every answer by route template, and sets the security headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in HEADERS if pair[0] not in own]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            # The template and never the path: a path is the client's, and may hold anything.
            route = getattr(scope.get("route"), "path", "page")
            self.metrics.answered(
                _method(scope["method"]), route, status, time.perf_counter() - start
            )


def _method(method: str) -> str:
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT") else "other"


class Admission:
    """One bounded count of requests in work; beyond it, refusal at once."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self.metrics = metrics
        self.active = 0
        self.draining = False

    def __enter__(self) -> None:
        if self.draining or self.active >= self.limit:
            self.metrics.refused.inc()
            raise unavailable("too many requests at once", retry_after=1)
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1


def unavailable(reason: str, retry_after: float) -> HTTPException:
    """A refusal for now."""
    seconds = str(max(1, round(retry_after)))
    return HTTPException(503, reason, headers={"Retry-After": seconds})


def guarded(
    admission: Admission, max_body_bytes: int, token: str | None, direct: bool = False
) -> type[APIRoute]:
    """A route class whose routes are authenticated, admitted and limited before FastAPI sees them.

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
            with admission:
                body = await _body(scope, receive, max_body_bytes)
                response = await self._directly(scope, body) if direct else None
                if response is None:
                    await super().handle(scope, _again(body, receive), send)
            if response is not None:
                await response(scope, receive, send)

        async def _directly(self, scope: Scope, body: bytes) -> Response | None:
            if (
                scope["query_string"]
                or _header(scope, b"content-type") not in JSON
                or self.body_field is None
            ):
                return None
            model: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]
            try:
                given = model.model_validate_json(body)
            except ValidationError:
                return None
            response: Response = await self.endpoint(given)
            return response

    return Guarded


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def authenticate(scope: Scope, token: str | None) -> None:
    """Raise 401 unless the request carries the bearer token; none is asked for where none is set."""
    if token is None:
        return
    if not hmac.compare_digest(_header(scope, b"authorization"), f"Bearer {token}".encode()):
        raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request. Raises 413 once it is too long, 408 if it does not come."""
    declared = _header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_long(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, limit)
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {BODY_SECONDS} s") from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks, length, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the client went away")
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
        length += len(chunks[-1])
        if length > limit:
            raise _too_long(limit)
    return b"".join(chunks)


def _too_long(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {limit} bytes")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for one who reads it again."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


async def invalid(_: Request, error: Exception) -> JSONResponse:
    """422: each problem with its row, field, value, and what was expected."""
    assert isinstance(error, RequestValidationError)
    problems = [_problem(item) for item in error.errors()[:20]]
    return JSONResponse({"detail": problems}, 422)


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
