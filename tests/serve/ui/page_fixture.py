"""A small model in a service of its own, and a server with the page on it."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Scope

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.hosts import AllowedHosts
from heart.http.server import LimitedServer
from heart.locale.language import Language
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export, export_error
from heart.predictions.log import PredictionLog
from heart.registry.aliases import CHALLENGER
from heart.registry.model_version import Model
from heart.registry.onnx_model import OnnxModel
from heart.schema import MEASUREMENTS, fingerprint
from serve.aliased_model import AliasedModel
from serve.metrics import Metrics
from serve.middleware.authentication import Authentication
from serve.middleware.stack import add_middleware
from serve.model_manager import State
from serve.patient_table import PatientTable
from serve.service import Service
from serve.settings import Settings
from serve.ui import LazyPage, mount
from serve.ui.table import read_table
from tests.heart.registry.registry_fixture import patients

ID = "0123456789abcdef0123456789abcdef"
TOKEN = "correct-horse-battery"
PATIENT = {
    "age": 57.0,
    "sex": "male",
    "chest_pain_type": "asymptomatic",
    "resting_bp": 140.0,
    "cholesterol": 240.0,
    "exercise_angina": "yes",
    "st_depression": 1.5,
}
FIGURES = {
    "roc_auc": 0.93,
    "roc_auc_low": 0.86,
    "roc_auc_high": 0.98,
    "rows": 73,
    "presence": 32,
    "threshold": 0.5,
    "groups": {
        "sex_female": {"roc_auc": 0.97, "rows": 24, "presence": 7},
        "source_<b>": {"rows": 49},
    },
}


@cache
def tiny_model(version: str = "7") -> Model:
    """A model of the real patients, as the champion would hold it."""
    rows, outcome = patients()
    estimator = ChainedLogisticRegression(C=0.1).fit(rows, outcome)
    numbers = {
        m.name: {
            "low": float(np.nanmin(rows[:, column])),
            "quantiles": [float(q) for q in np.nanquantile(rows[:, column], [0.05, 0.5, 0.95])],
            "high": float(np.nanmax(rows[:, column])),
        }
        for column, m in enumerate(MEASUREMENTS)
        if not m.choices
    }
    return Model(
        name="heart-disease",
        version=version,
        run_id="run1",
        sha256="ab" * 32,
        schema_fingerprint=fingerprint(),
        tags={"threshold": "0.5"},
        figures=FIGURES,
        train_figures={},
        calibration=[{"predicted": p, "observed": p / 2, "patients": 9} for p in (0.1, 0.6, 0.9)],
        training={"numbers": numbers},
        roc=[{"false_positive_rate": x, "true_positive_rate": x**0.3} for x in (0.0, 0.2, 1.0)],
        decision=[
            {"threshold": t, "model": 0.4 - t / 4, "treat_all": 0.4 - t, "treat_none": 0.0}
            for t in (0.05, 0.5, 0.95)
        ],
        network=OnnxModel(export(estimator).SerializeToString()),
        error_network=OnnxModel(export_error(estimator).SerializeToString()),
        loaded_at=datetime.now(UTC),
        from_cache=False,
    )


def random_patient(random: np.random.Generator) -> dict[str, Any]:
    """A valid patient; of what may be missing, some is."""
    patient: dict[str, Any] = {}
    for m in MEASUREMENTS:
        if m.required or random.random() < 0.6:
            steps = int(random.integers(round((m.high - m.low) / m.step) + 1))
            pick = int(random.integers(max(len(m.choices), 1)))
            patient[m.name] = m.choices[pick].name if m.choices else m.low + steps * m.step
    return patient


def a_table(
    text: str, language: Language = "en", coding: str = "auto"
) -> tuple[PatientTable, list[tuple[int, str, str]]]:
    table, problems = read_table(text.encode(), coding, language)
    return table, [(problem.line, problem.name, problem.text) for problem in problems]


def an_answer(probability: float = 0.25) -> dict[str, Any]:
    return {
        "probability": probability,
        "prediction": "absence",
        "threshold": 0.5,
        "model_version": "7",
        "prediction_id": ID,
    }


@dataclass
class OneModel:
    """A champion that follows no registry."""

    current: Model | None = field(default_factory=tiny_model)
    previous: Model | None = None
    challenger: AliasedModel = field(
        default_factory=lambda: AliasedModel(CHALLENGER, lambda _: tiny_model(), lambda _: None)
    )

    def state(self) -> State:
        return State(() if self.current else ("no model is loaded yet",), ())


@contextlib.contextmanager
def a_service(folder: Path, champion: OneModel | None = None) -> Iterator[Service]:
    """A service with a prediction log of its own."""
    metrics = Metrics()
    log = PredictionLog(f"sqlite:///{folder}/log.db", on_commit=metrics.observe_commit)
    log.start()
    try:
        yield Service(champion or OneModel(), log, metrics)  # type: ignore[arg-type]
    finally:
        log.close()


def an_app(service: Service, **settings: Any) -> tuple[FastAPI, LazyPage]:
    """An application with nothing but the page."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        await page.start()
        try:
            yield
        finally:
            await page.stop()

    app = FastAPI(lifespan=lifespan)
    limiter = ConcurrencyLimiter(128, 10**6)
    options = Settings(**{"_env_file": None, **settings})

    def has_session(scope: Scope) -> bool:
        return page.has_session(scope)

    authentication = Authentication(options.all_tokens(), has_session)
    add_middleware(app, AllowedHosts(["testserver"]), authentication, limiter, service.metrics)
    page = mount(app, service, options, limiter)
    return app, page


@dataclass(frozen=True)
class GradioPage:
    """The page with Gradio in it, behind a client of its own; `folder` is where Gradio writes."""

    service: Service
    client: TestClient
    app: FastAPI
    folder: Path

    def log_in(self) -> TestClient:
        """The client, once it has sent the token."""
        answer = self.client.post("/login", data={"username": "anyone", "password": TOKEN})
        assert answer.status_code == 200
        return self.client

    def events(self) -> list[dict[str, Any]]:
        """All events of the page, with those that are for the browser alone."""
        return list(self.client.get("/config").json()["dependencies"])

    def event_of(self, elem_id: str) -> dict[str, Any]:
        """The first event that takes the value of a component, which the server handles."""
        config = self.client.get("/config").json()
        ids = [c["id"] for c in config["components"] if c["props"].get("elem_id") == elem_id]
        return next(
            event
            for event in config["dependencies"]
            if set(ids) & set(event["inputs"]) and event["backend_fn"]
        )

    def call(self, event: int, data: Any, **more: Any) -> Any:
        """Call an event as a browser does."""
        body = {"data": data, "fn_index": event, "session_hash": "s", **more}
        return self.client.post("/gradio_api/run/predict", json=body)


@contextlib.contextmanager
def gradio_page(folder: Path, **settings: Any) -> Iterator[GradioPage]:
    """The page in this process, without a server.

    All its visitors have one address, and tests share it: the failed log-ins of one must not close it to others.
    """
    with a_service(folder) as service:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("serve.ui.visitors.LOGINS_EACH", 10_000)
            patch.setattr("serve.ui.visitors.LOGINS_TOTAL", 10_000)
            app, page = an_app(service, **settings)
        with TestClient(app) as client:
            assert client.portal is not None
            assert client.portal.call(page.ready)
            yield GradioPage(service, client, app, Path(os.environ["GRADIO_TEMP_DIR"]))


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    service: Service

    def count(self) -> int:
        return self.service.log.count()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """The page on a free port of this machine."""
    with a_service(folder) as service, serving(an_app(service)[0]) as url:
        yield Running(url, service)


@contextlib.contextmanager
def serving(app: FastAPI, path: str = "/") -> Iterator[str]:
    """An application on a free port of this machine, once a path of it is there; its address."""
    config = uvicorn.Config(
        app, port=0, log_level="warning", access_log=False, timeout_graceful_shutdown=3
    )
    server = LimitedServer(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        yield _opened(server, path)
    finally:
        server.should_exit = True
        thread.join(15)


def _opened(server: uvicorn.Server, path: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if server.started:
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            with contextlib.suppress(httpx.HTTPStatusError):
                httpx.get(url + path, timeout=60).raise_for_status()
                return url
    raise TimeoutError("the page was not built")
