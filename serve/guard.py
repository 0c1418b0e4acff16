"""What every request meets before its route: measurement, admission, authentication, limits."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schema import MEASUREMENTS, OUTCOME
from serve.metrics import Metrics

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
            self.metrics.requests.labels(_method(scope["method"]), route, str(status)).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - start)


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


def guarded(admission: Admission, max_body_bytes: int, token: str | None) -> type[APIRoute]:
    """A route class whose routes are admitted, authenticated and limited before the body is read."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()

            async def guard(request: Request) -> Response:
                authenticate(request, token)
                with admission:
                    limited = Request(request.scope, _limited(request, max_body_bytes))
                    return await handle(limited)

            return guard

    return Guarded


def authenticate(request: Request, token: str | None) -> None:
    """Raise 401 unless the request carries the bearer token; none is asked for where none is set."""
    if token is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def _limited(request: Request, limit: int) -> Receive:
    """The request's body, cut off with 413 once it is too long."""
    too_long = HTTPException(413, f"the body is longer than {limit} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_long
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_long
        return message

    return receive


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
