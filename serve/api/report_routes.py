"""The routes that describe the service: its model, drift, health and metrics."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.problems import PAGE, problems_page
from heart.http.tokens import DEFAULT, METRICS, Tokens
from serve.api.drift import Drift, drift_response
from serve.api.errors import ERRORS, InvalidRequest, error_response
from serve.api.queries import StrictRoute
from serve.api.reports import Live, ModelDescription, Ready, model_description
from serve.api.routing import Routing
from serve.guard import ChampionGuard
from serve.scrapes import SharedScrape
from serve.service import Service


def reports(service: Service, guard: ChampionGuard, routing: Routing) -> APIRouter:
    """The routes that report on the model and on drift."""
    router = routing.router("reports")

    @router.get(
        "/model", operation_id="describe_model", summary="Describe the model", responses=ERRORS
    )
    def model() -> ModelDescription:
        """Describe the model in service: version, run, scores with intervals, training data, and the
        comparisons with the challenger and with the version before it. `estimated` are scores on the last
        patients without outcomes, which hold if other patients come, but not if the disease has changed.
        """
        return model_description(service, guard.result)

    @router.get(
        "/drift",
        operation_id="check_drift",
        summary="Report drift",
        responses={**ERRORS, 503: error_response("No drift check is complete yet", "Retry-After")},
    )
    def drift() -> Drift:
        """Return the last drift check: whether the last patients differ from the training patients."""
        return drift_response(service.drift())

    return router


def operations(service: Service, guard: ChampionGuard, limiter: ConcurrencyLimiter) -> APIRouter:
    """The routes for probes, and the page of problems. Many places name them, so they have no version."""
    unknown: dict[int | str, Any] = {
        422: error_response("A query parameter is unknown", model=InvalidRequest)
    }
    router = APIRouter(tags=["operations"], route_class=StrictRoute)

    @router.get(
        "/health/live", operation_id="health_live", summary="Report liveness", responses=unknown
    )
    async def live() -> Live:
        """Report that the process runs."""
        return Live()

    @router.get(
        "/health/ready",
        operation_id="health_ready",
        summary="Report readiness",
        responses={**unknown, 503: {"model": Ready, "description": "Not ready, with the reasons"}},
    )
    def ready(response: Response) -> Ready:
        """Report whether a model is loaded and the prediction log can be written."""
        state = service.champion.state()
        if limiter.draining:
            reasons = ["stopping"]  # without waiting for the log
        else:
            reasons = list(state.reasons)
            if problem := service.log.ready():
                reasons.append(f"prediction log: {problem}")
        response.status_code = 503 if reasons else 200
        notes = [*state.notes, *guard.notes(), *service.log.notes()]
        return Ready(status="not ready" if reasons else "ready", reasons=reasons, notes=notes)

    @router.get(PAGE, include_in_schema=False)
    async def problems() -> Response:
        return HTMLResponse(problems_page())

    return router


def scraping(service: Service, tokens: Tokens) -> APIRouter:
    """The route for Prometheus. It requires a token if one of those with a name has the scope for it."""
    closed = any(token.name != DEFAULT for token in tokens.with_scope(METRICS))
    router = APIRouter(tags=["operations"], route_class=StrictRoute)
    scrape = SharedScrape(lambda: generate_latest(service.metrics.registry))

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if closed:
            tokens.identify(request.scope, METRICS)
        return Response(await scrape.text(), media_type=CONTENT_TYPE_LATEST)

    return router
