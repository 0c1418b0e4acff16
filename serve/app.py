"""The HTTP service: what it is made of, and the order in which its parts start and stop."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from heart.http.access import unavailable
from heart.http.concurrency import ConcurrencyLimiter
from heart.http.hosts import AllowedHosts
from heart.log_format import report_loop_error
from heart.predictions.log import LogQueueFull, LogUnavailable, PredictionLog
from monitoring.collector import DriftCollector
from monitoring.monitor import DriftMonitor
from serve.api.bodies import InvalidBody
from serve.api.errors import invalid
from serve.api.protected import Protection
from serve.api.routes import administration, findings, operations, records, scoring
from serve.collectors import ServiceCollector, ShadowCollector
from serve.guard import ChampionGuard
from serve.metrics import Metrics
from serve.middleware.instrumentation import NO_TELEMETRY
from serve.middleware.stack import add_middleware
from serve.model_manager import ModelManager
from serve.service import DriftUnavailable, NoModel, Service
from serve.settings import Settings
from serve.ui import LazyPage, mount

logger = logging.getLogger(__name__)

PURGE_SECONDS = 3600
SETTLE_SECONDS = 0.5
TOKEN = HTTPBearer(auto_error=False, description="HEART_API_TOKEN")
DESCRIPTION = """Risk of coronary artery disease from 13 measurements, any but age and sex may be missing.

**Not a medical device.** For research and teaching; no basis for a decision about a patient."""


def create_app(
    settings: Settings,
    champion: ModelManager,
    log: PredictionLog,
    metrics: Metrics,
    with_page: bool = True,
    monitor: DriftMonitor | None = None,
) -> FastAPI:
    """The application. Its lifespan starts and stops the champion's poll, the log, the page, the watch."""
    service = Service(champion, log, metrics, monitor)
    guard = ChampionGuard(champion, log, settings)
    limiter = ConcurrencyLimiter(settings.max_concurrent, settings.max_body_bytes)
    app = FastAPIOffline(
        title="Heart disease",
        description=DESCRIPTION,
        lifespan=lambda app: _running(app, settings.poll_seconds),
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    add_middleware(app, AllowedHosts((*settings.allowed_hosts, settings.host)), limiter, metrics)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InvalidBody, invalid)
    app.add_exception_handler(LogUnavailable, _log_unavailable)
    app.add_exception_handler(LogQueueFull, _log_overloaded)
    app.add_exception_handler(NoModel, _no_champion)
    app.add_exception_handler(DriftUnavailable, _not_watched)
    _add_routes(app, service, guard, limiter, settings)
    app.state.service, app.state.limiter, app.state.guard = service, limiter, guard
    metrics.registry.register(ServiceCollector(service))
    metrics.registry.register(ShadowCollector(service, guard))
    if monitor is not None:
        metrics.registry.register(DriftCollector(monitor))
    app.state.page = mount(app, service, settings, limiter) if with_page else None
    return app


@contextlib.asynccontextmanager
async def _running(app: FastAPI, poll_seconds: float) -> AsyncIterator[None]:
    """All parts at work, from the start of the application to its end."""
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
        asyncio.create_task(_compare(app.state.guard, poll_seconds)),
        asyncio.create_task(limiter.deadline.enforce()),
        asyncio.create_task(_settle(service.champion)),
    ]
    if page is not None:
        background.append(asyncio.create_task(_open(page, service.champion)))
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


def _add_routes(
    app: FastAPI,
    service: Service,
    guard: ChampionGuard,
    limiter: ConcurrencyLimiter,
    settings: Settings,
) -> None:
    token = settings.api_token.get_secret_value() if settings.api_token else None
    protection = Protection(limiter, settings.max_body_bytes, token, service.offload)
    secured = [Security(TOKEN)] if token else []  # only documents it; `protection` checks the token
    routers = (
        scoring(service, protection.route_class(direct=True), secured),
        records(service, protection.route_class(), secured),
        findings(service, guard, protection.route_class(), secured),
        administration(service, protection.route_class(), secured),
        operations(service, limiter),
    )
    # In front of the documentation's routes, and not by `include_router`, which goes through a router
    # of its own at every request.
    app.router.routes[:0] = [route for router in routers for route in router.routes]
    for route in (route for router in routers[:-1] for route in router.routes):
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            service.metrics.expect(method, route.path)


async def _open(page: LazyPage, champion: ModelManager) -> None:
    """Start the page after the model: the page's imports would hold up the first answer."""
    for _ in range(100):
        if champion.current is not None:
            break
        await asyncio.sleep(0.1)
    await page.start()
    if await page.ready():
        gc.freeze()


async def _settle(champion: ModelManager) -> None:
    """Leave what was imported out of collections, which would look through its million objects again.

    That holds up all requests of the moment, for a tenth of a second. MLflow is imported for the first
    look into the registry, the page in its own time: so this is done after each of them.
    """
    while not champion.looked:  # noqa: ASYNC110  # a thread sets it
        await asyncio.sleep(SETTLE_SECONDS)
    gc.freeze()


async def _purge(log: PredictionLog) -> None:
    """Delete what is older than the retention, now and every hour."""
    while True:
        with contextlib.suppress(LogUnavailable):
            await asyncio.to_thread(log.purge)
        await asyncio.sleep(PURGE_SECONDS)


async def _compare(guard: ChampionGuard, seconds: float) -> None:
    """Compare the champion with the version before it, again and again."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(guard.evaluate)
        except LogUnavailable:
            pass  # readiness says so
        except Exception:
            # Were it to end, nobody would look any more.
            logger.exception("comparing the champion with the version before it failed")


async def _log_unavailable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LogUnavailable)
    return unavailable("the prediction log is unavailable", error.retry_after)


async def _log_overloaded(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LogQueueFull)
    return unavailable("too much waits for the prediction log", error.retry_after)


async def _no_champion(_: Request, error: Exception) -> JSONResponse:
    return unavailable(f"no model: {error}", retry_after=5)


async def _not_watched(_: Request, error: Exception) -> JSONResponse:
    return unavailable(f"no verdict on drift: {error}", retry_after=5)
