"""The receiver's routes."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from heart.http.access import require_json
from heart.http.concurrency import ConcurrencyLimiter, Overloaded
from heart.http.head import HeadMiddleware
from heart.http.hosts import AllowedHosts
from heart.http.origin import SameOriginMiddleware
from heart.http.problems import PAGE, Problem, answer_with_problems, problems_page, unavailable
from heart.http.request_body import read_body
from heart.http.request_id import RequestIdMiddleware
from heart.http.security_headers import SecurityHeadersMiddleware
from heart.http.tokens import DEFAULT, Token, Tokens
from monitoring.retraining.webhook.metrics import Metrics
from monitoring.retraining.webhook.notification import Notification, signed, validation_failure
from monitoring.retraining.webhook.retrainer import Retrainer
from monitoring.retraining.webhook.runs import Runs
from monitoring.retraining.webhook.settings import RetrainerSettings

RUNS_SHOWN = 20
CONNECTIONS = 100


def create_app(settings: RetrainerSettings, runs: Runs) -> FastAPI:
    """The receiver; it closes `runs` when it stops."""
    metrics = Metrics()
    admission = ConcurrencyLimiter(CONNECTIONS, settings.max_body_bytes)
    retrainer = Retrainer(settings, runs, metrics)

    # No OpenAPI: the only client is Grafana, and docs/retraining.md lists the routes.
    app = FastAPI(lifespan=lambda _: _running(retrainer, admission), openapi_url=None)
    _add_middleware(app, settings)
    answer_with_problems(app)
    app.add_exception_handler(sqlite3.Error, _runs_unavailable)
    app.add_exception_handler(Overloaded, _overloaded)

    @app.post("/hooks/grafana")
    async def grafana(request: Request) -> Response:
        try:
            notification = await _notification(request, settings, admission)
            answer = retrainer.handle(notification)
        except (Problem, Overloaded):
            metrics.hooks.labels("rejected").inc()
            raise
        except sqlite3.Error:
            metrics.hooks.labels("unavailable").inc()
            raise
        metrics.hooks.labels(answer).inc()
        return JSONResponse({"status": answer}, 202 if answer == "started" else 200)

    @app.get("/status")
    async def status(request: Request) -> dict[str, Any]:
        _tokens(settings).authenticate(request.scope)
        return retrainer.status(RUNS_SHOWN)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get(PAGE)
    async def problems() -> Response:
        return HTMLResponse(problems_page())

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _tokens(settings: RetrainerSettings) -> Tokens:
    """The receiver has one token, without scopes."""
    return Tokens((Token(DEFAULT, frozenset(), settings.token.get_secret_value()),))


def _add_middleware(app: FastAPI, settings: RetrainerSettings) -> None:
    hosts = AllowedHosts((*settings.allowed_hosts, settings.host))
    app.add_middleware(HeadMiddleware)
    app.add_middleware(SameOriginMiddleware, hosts=hosts, setting="HEART_RETRAIN_ALLOWED_HOSTS")
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)


@asynccontextmanager
async def _running(retrainer: Retrainer, admission: ConcurrencyLimiter) -> AsyncIterator[None]:
    """Enforce deadlines of clients while the receiver runs; at its end, stop the retraining."""
    deadlines = asyncio.create_task(admission.deadline.enforce())
    try:
        yield
    finally:
        deadlines.cancel()
        await retrainer.stop()
        retrainer.runs.close()


async def _notification(
    request: Request, settings: RetrainerSettings, admission: ConcurrencyLimiter
) -> Notification:
    """The notification of a request. Raises 401, 413, 408, 401, 415, 400 or 422 in this order."""
    _tokens(settings).authenticate(request.scope)
    limit = settings.max_body_bytes
    with admission:
        body = await read_body(request.scope, request.receive, limit, admission)
    if not signed(request.scope, body, settings.secret.get_secret_value(), time.time()):
        raise Problem(
            "invalid-signature",
            "the signature does not match the body, or its time stamp is not within five minutes",
        )
    require_json(request.scope)
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        raise Problem(*validation_failure(error)) from None


async def _overloaded(_: Request, __: Exception) -> Response:
    return unavailable("overloaded", "too many alerts at once", retry_after=1)


async def _runs_unavailable(_: Request, error: Exception) -> Response:
    detail = f"the run history cannot be read or written: {error}"
    return unavailable("history-unavailable", detail, retry_after=60)
