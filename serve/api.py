"""The HTTP service: routes, and the order in which its parts start and stop."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json

from monitoring.collector import DriftCollector
from monitoring.watch import Watch
from serve.champion import Champion
from serve.drift import Drift, drift_answer
from serve.gate import Admission, Gate
from serve.guard import guarded, unavailable
from serve.log import LogUnavailable, OutcomeConflict, PredictionLog, UnknownPrediction
from serve.metrics import Metrics, ServiceCollector
from serve.page import LazyPage, mount
from serve.patients import Batch, Feedback, Patient, Prediction, Predictions
from serve.refusals import REFUSALS, WITH_BODY, invalid, refusal
from serve.service import NoChampion, NotWatched, Service
from serve.settings import Settings

PURGE_SECONDS = 3600
TOKEN = HTTPBearer(auto_error=False, description="HEART_API_TOKEN")
DESCRIPTION = """Risk of coronary artery disease from 13 measurements, any but age and sex may be missing.

**Not a medical device.** For research and teaching; no basis for a decision about a patient."""


def create_app(
    settings: Settings,
    champion: Champion,
    log: PredictionLog,
    metrics: Metrics,
    with_page: bool = True,
    watch: Watch | None = None,
) -> FastAPI:
    """The application. Its lifespan starts and stops the champion's poll, the log, the page, the watch."""
    service = Service(champion, log, metrics, watch)
    admission = Admission(settings.max_concurrent, settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.start()
        champion.start()
        if watch is not None:
            watch.start()
        background = [
            asyncio.create_task(_purge(log)),
            asyncio.create_task(admission.patience.watch()),
        ]
        if page is not None:
            background.append(asyncio.create_task(_open(page, champion)))
        try:
            yield
        finally:
            admission.draining = True
            for task in background:
                task.cancel()
            if page is not None:
                await page.stop()
            if watch is not None:
                await asyncio.to_thread(watch.stop)
            await asyncio.to_thread(champion.stop)
            await asyncio.to_thread(log.close)

    app = FastAPIOffline(
        title="Heart disease",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        # It would record what was refused, and that is what somebody wrote of a patient.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(Gate, admission=admission, metrics=metrics)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(LogUnavailable, _log_unavailable)
    app.add_exception_handler(NoChampion, _no_champion)
    app.add_exception_handler(NotWatched, _not_watched)
    _add_routes(app, service, admission, settings)
    app.state.service, app.state.admission = service, admission
    metrics.registry.register(ServiceCollector(service))
    if watch is not None:
        metrics.registry.register(DriftCollector(watch))
    page = mount(app, service, settings, admission) if with_page else None
    return app


def _add_routes(app: FastAPI, service: Service, admission: Admission, settings: Settings) -> None:
    token = settings.api_token.get_secret_value() if settings.api_token else None
    limits = (admission, settings.max_body_bytes, token)
    secured = [Security(TOKEN)] if token else []  # for the document; `guarded` sees to it
    routers = (
        scoring(service, guarded(*limits, direct=True), secured),
        records(service, guarded(*limits), secured),
        operations(service, admission),
    )
    # In front of the documentation's routes, and not by `include_router`, which goes through a router
    # of its own at every request.
    app.router.routes[:0] = [route for router in routers for route in router.routes]
    for route in (*routers[0].routes, *routers[1].routes):
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            service.metrics.expect(method, route.path)


async def _open(page: LazyPage, champion: Champion) -> None:
    """Start the page after the model: the page's imports would hold up the first answer."""
    for _ in range(100):
        if champion.current is not None:
            break
        await asyncio.sleep(0.1)
    await page.start()
    if await page.ready():
        # What was imported stays: no collection need look through its million objects again, which
        # would hold up the requests of that moment.
        gc.freeze()


async def _purge(log: PredictionLog) -> None:
    """Delete what is older than the retention, now and every hour."""
    while True:
        with contextlib.suppress(LogUnavailable):
            await asyncio.to_thread(log.purge)
        await asyncio.sleep(PURGE_SECONDS)


def scoring(service: Service, route_class: type[APIRoute], secured: Sequence[Any]) -> APIRouter:
    """The routes that score patients."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.post("/predict", response_model=Prediction, responses=WITH_BODY)
    async def predict(patient: Patient, explain: bool = False) -> Response:
        """The risk of one patient. The answer is in the prediction log before it is sent."""
        return _json((await service.predict([patient.__dict__], explain))[0])

    @router.post("/predict/batch", response_model=Predictions, responses=WITH_BODY)
    async def predict_batch(batch: Batch) -> Response:
        """The risks of up to 10,000 patients, all or none of them in the log."""
        answers = await service.predict([patient.__dict__ for patient in batch.patients])
        return _json({"predictions": answers})

    return router


def _json(answer: Any) -> Response:
    return Response(to_json(answer), media_type="application/json")


def records(service: Service, route_class: type[APIRoute], secured: Sequence[Any]) -> APIRouter:
    """The routes that deal with what is known of predictions, and of the model."""
    router = APIRouter(route_class=route_class, dependencies=secured)

    @router.post(
        "/feedback",
        responses={
            **WITH_BODY,
            404: refusal("No such prediction"),
            409: refusal("It has a different outcome; see `replace`"),
        },
    )
    def feedback(given: Feedback) -> dict[str, str]:
        """What a patient turned out to have: what the model is judged by and learns from."""
        try:
            done = service.record_outcome(
                given.prediction_id, given.outcome, given.source, given.replace
            )
        except UnknownPrediction:
            raise HTTPException(404, "there is no such prediction") from None
        except OutcomeConflict:
            raise HTTPException(
                409, "a different outcome is recorded; send it with replace: true"
            ) from None
        return {"prediction_id": given.prediction_id, "status": done}

    @router.delete(
        "/predictions/{prediction_id}",
        status_code=204,
        responses={**REFUSALS, 404: refusal("No such prediction")},
    )
    def erase(prediction_id: str) -> None:
        """Erase a prediction and its outcome on the patient's request; aggregate figures stay."""
        try:
            service.erase(prediction_id)
        except UnknownPrediction:
            raise HTTPException(404, "there is no such prediction") from None

    @router.get("/model", responses=REFUSALS)
    def model() -> dict[str, Any]:
        """The model that answers: version, run, figures with intervals, the data it was made from."""
        current = service.model()
        return {
            "name": current.name,
            "version": current.version,
            "run_id": current.run_id,
            "sha256": current.sha256,
            "schema_fingerprint": current.schema_fingerprint,
            "threshold": current.threshold,
            "loaded_at": current.loaded_at.isoformat(),
            "from_cache": current.from_cache,
            "tags": dict(current.tags),
            "figures": dict(current.figures),
            "labelled": service.labelled(current.version),
        }

    @router.get(
        "/drift",
        responses={**REFUSALS, 503: refusal("Nothing is known of drift yet", "Retry-After")},
    )
    def drift() -> Drift:
        """Whether the last patients look like those that the model learnt from, by measurement."""
        return drift_answer(service.drift())

    return router


def operations(service: Service, admission: Admission) -> APIRouter:
    """The routes for those who operate the service."""
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @router.get("/health/ready", responses={503: {"description": "Not ready, with the reasons"}})
    def ready(response: Response) -> dict[str, Any]:
        """Whether predictions can be made now: a champion is loaded and the log can be written."""
        state = service.champion.state()
        if admission.draining:
            reasons = ["stopping"]  # at once, whatever the log waits for
        else:
            reasons = list(state.reasons)
            if broken := service.log.ready():
                reasons.append(f"prediction log: {broken}")
        response.status_code = 503 if reasons else 200
        status = "not ready" if reasons else "ready"
        return {"status": status, "reasons": reasons, "notes": list(state.notes)}

    @router.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _log_unavailable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LogUnavailable)
    return unavailable("the prediction log cannot be written", error.retry_after)


async def _no_champion(_: Request, error: Exception) -> JSONResponse:
    return unavailable(f"no model: {error}", retry_after=5)


async def _not_watched(_: Request, error: Exception) -> JSONResponse:
    return unavailable(f"no verdict on drift: {error}", retry_after=5)
