"""The HTTP application: its parts, and the order in which they start and stop."""

import asyncio
import contextlib
import gc
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.gate import Gate
from heart.http.hosts import AllowedHosts
from heart.http.problems import answer_with_problems, problem_response, unavailable
from heart.http.rate import RateExceeded, RateLimit
from heart.http.sub_path import SubPath
from heart.http.tokens import ADMIN, FEEDBACK, PREDICT, Tokens
from heart.log_format import report_loop_error
from heart.predictions.log import LogQueueFull, LogUnavailable, PredictionLog
from heart.predictions.tables import AnswerErased, KeyReused
from heart.registry.errors import ScoringFailed
from monitoring.collector import DriftCollector
from monitoring.monitor import DriftMonitor
from serve import loop_lag
from serve.api.bodies import InvalidBody
from serve.api.errors import invalid, with_media_type
from serve.api.protected import Protection
from serve.api.report_routes import operations, reports, scraping
from serve.api.routes import administration, reading, records, scoring
from serve.api.routing import Routing
from serve.collectors import ServiceCollector, ShadowCollector
from serve.fhir_setup import add_cors, cds_clients, cds_routers, fhir_routers
from serve.guard import ChampionGuard
from serve.metrics import V1, Metrics
from serve.middleware.admission import encoded_rejection
from serve.middleware.authentication import Authentication
from serve.middleware.instrumentation import NO_TELEMETRY
from serve.middleware.stack import add_middleware
from serve.model_manager import ModelManager
from serve.service import DriftUnavailable, NoModel, Service
from serve.settings import Settings
from serve.ui import LazyPage, mount

logger = logging.getLogger(__name__)

PURGE_SECONDS = 3600
INSPECTION_PAUSE_SECONDS = 86_400
FREEZE_POLL_SECONDS = 0.5
TOKEN = HTTPBearer(auto_error=False, description="A token of HEART_API_TOKEN or HEART_TOKENS")
DESCRIPTION = """Risk of coronary artery disease from 13 measurements; all but age and sex may be missing.

**Not a medical device.** For research and teaching only. Do not base a decision about a patient on it."""

API_VERSION = "1.0.0"  # of the routes under /v1
TAGS = [
    {"name": "predictions", "description": "Score patients, and read what was answered."},
    {"name": "outcomes", "description": "Record what the diagnosis was."},
    {"name": "reports", "description": "The model in service, and drift."},
    {"name": "administration", "description": "Erase, withdraw, reload."},
    {"name": "operations", "description": "Probes."},
]


def create_app(
    settings: Settings,
    champion: ModelManager,
    log: PredictionLog,
    metrics: Metrics,
    with_page: bool = True,
    monitor: DriftMonitor | None = None,
) -> FastAPI:
    """The application. Its lifespan starts and stops the threads of its parts."""
    rate = RateLimit(settings.outcomes_per_minute)
    service = Service(champion, log, metrics, monitor, rate)
    guard = ChampionGuard(champion, log, settings)
    limiter = ConcurrencyLimiter(settings.max_concurrent, settings.max_body_bytes)
    app = _empty_app(settings)
    sub_path = SubPath(settings.root_path, settings.trust_forwarded_prefix)
    clients = cds_clients(settings)
    authentication = Authentication(
        clients or settings.all_tokens(),
        lambda scope: app.state.page is not None and app.state.page.has_session(scope),
        settings.root_path,
    )
    hosts = AllowedHosts((*settings.allowed_hosts, settings.host))
    add_middleware(
        app, hosts, authentication, limiter, metrics, sub_path, access_log=settings.access_log
    )
    add_cors(app, settings)
    # For the server, which rejects requests beyond the limit before they reach the application.
    app.state.gate = Gate(
        limiter, authentication.takes_slot, metrics.count_shed, encoded_rejection(sub_path)
    )
    app.state.sub_path = sub_path
    _handle_errors(app)
    _document(app)
    _add_routes(app, service, guard, limiter, settings, clients)
    app.state.clients = clients
    app.state.service, app.state.limiter, app.state.guard = service, limiter, guard
    metrics.registry.register(ServiceCollector(service))
    metrics.registry.register(ShadowCollector(service, guard))
    if monitor is not None:
        metrics.registry.register(DriftCollector(monitor))
    app.state.page = mount(app, service, settings, limiter) if with_page else None
    return app


def _empty_app(settings: Settings) -> FastAPI:
    """An application without routes: what its OpenAPI document says of it."""
    app = FastAPIOffline(
        title="Heart disease",
        description=DESCRIPTION,
        lifespan=lambda app: _lifespan(app, settings.poll_seconds),
        redoc_url=None,
        version=API_VERSION,
        contact={"name": "The maintainers: see SECURITY.md and CONTRIBUTING.md of the repository"},
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        openapi_tags=TAGS,
        telemetry=NO_TELEMETRY,
        # The page of the documentation would link to it without the sub-path. No route uses OAuth.
        swagger_ui_oauth2_redirect_url="",  # it takes no None, and makes a route of the empty path
    )
    app.router.routes[:] = [one for one in app.router.routes if getattr(one, "path", None) != ""]
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, poll_seconds: float) -> AsyncIterator[None]:
    """Start all parts, and stop them at the end of the application."""
    service: Service = app.state.service
    limiter: ConcurrencyLimiter = app.state.limiter
    page: LazyPage | None = app.state.page
    asyncio.get_running_loop().set_exception_handler(report_loop_error)
    service.log.start()
    service.champion.start()
    if service.monitor is not None:
        service.monitor.start()
    service.shadow.start()
    background = [
        asyncio.create_task(_purge(service.log)),
        asyncio.create_task(_inspect(service.log)),
        asyncio.create_task(_guard(app.state.guard, poll_seconds)),
        asyncio.create_task(limiter.deadline.enforce()),
        asyncio.create_task(loop_lag.measure(service.metrics.loop_lag.observe)),
        asyncio.create_task(_freeze_imports(service.champion)),
    ]
    if app.state.clients is not None:
        background.append(asyncio.create_task(app.state.clients.keys.follow()))
    if page is not None:
        background.append(asyncio.create_task(_start_page(page, service.champion)))
    try:
        yield
    finally:
        limiter.draining = True
        for task in background:
            task.cancel()
        if page is not None:
            await page.stop()
        if service.monitor is not None:
            await asyncio.to_thread(service.monitor.stop)
        await asyncio.to_thread(service.shadow.stop)
        await asyncio.to_thread(service.champion.stop)
        await asyncio.to_thread(service.log.close)


def _document(app: FastAPI) -> None:
    """Complete the OpenAPI document once it is first requested."""
    create = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_media_type(create())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _handle_errors(app: FastAPI) -> None:
    """Answer each error that a route may raise."""
    answer_with_problems(app)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InvalidBody, invalid)
    app.add_exception_handler(LogUnavailable, _log_unavailable)
    app.add_exception_handler(LogQueueFull, _log_queue_full)
    app.add_exception_handler(KeyReused, _key_reused)
    app.add_exception_handler(AnswerErased, _answer_erased)
    app.add_exception_handler(RateExceeded, _rate_exceeded)
    app.add_exception_handler(NoModel, _no_model)
    app.add_exception_handler(DriftUnavailable, _drift_unavailable)
    app.add_exception_handler(ScoringFailed, _scoring_failed)


def _add_routes(
    app: FastAPI,
    service: Service,
    guard: ChampionGuard,
    limiter: ConcurrencyLimiter,
    settings: Settings,
    clients: Tokens | None,
) -> None:
    tokens = settings.all_tokens()
    protection = Protection(limiter, settings.max_body_bytes, tokens, service.offload)
    # Documents the token in OpenAPI; `protection` checks it.
    dependencies = [Security(TOKEN)] if tokens else []

    def both(
        create: Callable[[Routing], APIRouter], scope: str, *, direct: bool = False
    ) -> list[APIRouter]:
        """The router of a purpose without and with the prefix."""
        kind = protection.route_class(scope, direct=direct)
        return [create(Routing(kind, dependencies, prefix)) for prefix in ("", V1)]

    protected = [
        *fhir_routers(service, protection, dependencies, settings),
        *both(lambda routing: scoring(service, routing), PREDICT, direct=True),
        *both(lambda routing: records(service, routing), FEEDBACK),
        *both(lambda routing: reading(service, routing), PREDICT),
        *both(lambda routing: reports(service, guard, routing), PREDICT),
        *both(lambda routing: administration(service, routing), ADMIN),
        *cds_routers(service, protection, settings, clients),
    ]
    routers = [*protected, operations(service, guard, limiter), scraping(service, tokens)]
    # Before the documentation's routes, and without `include_router`: that adds a router to each request.
    app.router.routes[:0] = [route for router in routers for route in router.routes]
    for route in (route for router in protected for route in router.routes):
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            service.metrics.add_route(method, route.path)


async def _start_page(page: LazyPage, champion: ModelManager) -> None:
    """Start the page after the model is loaded: its imports would delay the first prediction."""
    for _ in range(100):
        if champion.current is not None:
            break
        await asyncio.sleep(0.1)
    await page.start()
    if await page.ready():
        gc.freeze()


async def _freeze_imports(champion: ModelManager) -> None:
    """Exclude the million objects of imported modules from garbage collection.

    A full collection would traverse them and block the event loop for a tenth of a second. MLflow is
    imported for the first poll of the registry and Gradio when the page starts, so `gc.freeze` is called
    after each of the two.
    """
    while not champion.polled:  # noqa: ASYNC110  # a thread sets it
        await asyncio.sleep(FREEZE_POLL_SECONDS)
    gc.freeze()


async def _purge(log: PredictionLog) -> None:
    """Delete predictions beyond the retention period, now and every hour."""
    while True:
        with contextlib.suppress(LogUnavailable):
            await asyncio.to_thread(log.purge)
        await asyncio.sleep(PURGE_SECONDS)


async def _inspect(log: PredictionLog) -> None:
    """Check the files of the prediction log for damage, now and once a day."""
    while True:
        with contextlib.suppress(LogUnavailable):
            await asyncio.to_thread(log.inspect)
        await asyncio.sleep(INSPECTION_PAUSE_SECONDS)


async def _guard(guard: ChampionGuard, seconds: float) -> None:
    """Compare the champion with the version before it at regular intervals."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(guard.evaluate)
        except LogUnavailable:
            pass  # readiness reports it
        except Exception:
            # If the task ended, a worse champion would not be noticed.
            logger.exception("comparing the champion with the version before it failed")


async def _log_unavailable(_: Request, error: Exception) -> Response:
    assert isinstance(error, LogUnavailable)
    return unavailable("log-unavailable", "the prediction log is unavailable", error.retry_after)


async def _log_queue_full(_: Request, error: Exception) -> Response:
    assert isinstance(error, LogQueueFull)
    return unavailable("log-unavailable", "the prediction log's queue is full", error.retry_after)


async def _key_reused(_: Request, __: Exception) -> Response:
    detail = "the Idempotency-Key was sent with another body or other parameters: use a new one"
    return problem_response("idempotency-key-reused", detail)


async def _answer_erased(_: Request, __: Exception) -> Response:
    detail = "the request was answered before, and a prediction of the answer was erased since"
    return problem_response("prediction-erased", detail)


async def _rate_exceeded(_: Request, error: Exception) -> Response:
    assert isinstance(error, RateExceeded)
    seconds = str(math.ceil(error.retry_after))
    return problem_response("too-many-requests", str(error), {"Retry-After": seconds})


async def _no_model(_: Request, error: Exception) -> Response:
    return unavailable("no-model", f"no model: {error}", retry_after=5)


async def _scoring_failed(_: Request, error: Exception) -> Response:
    return problem_response("internal-error", str(error))


async def _drift_unavailable(_: Request, error: Exception) -> Response:
    return unavailable("no-drift-check", f"no drift check: {error}", retry_after=5)
