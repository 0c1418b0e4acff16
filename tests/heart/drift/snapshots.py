"""A service with a drift check: a real log, a real model, and a baseline of the real patients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from heart.drift.baseline import Policy, Reference
from heart.drift.detector import fit
from heart.predictions.log import PredictionLog, Record, new_ids
from heart.registry.model_version import Model
from heart.schema import MEASUREMENTS, NAMES, Floats
from monitoring.monitor import DriftMonitor
from monitoring.settings import DriftSettings
from serve.app import create_app
from tests.heart.registry.registry_fixture import ROOT, patients
from tests.serve.small_service import Present, model, parts

POLICY = Policy(
    windows=(20, 50, 100), step=10, stream=1000, false_alarms=0.01, bins=5, simulations=500, seed=0,
    earlier=200,
)  # fmt: skip


@cache
def reference() -> Reference:
    """The baseline of the real patients, with limits of a short simulation."""
    rows, _ = patients()
    return fit(rows, model().predict(rows), POLICY)


def watched_model(version: str = "1") -> Model:
    return replace(model(version), reference=reference())


def settings(**changes: Any) -> DriftSettings:
    """Settings with an interval so long that only the test starts checks."""
    return DriftSettings(**{"_env_file": None, "interval_seconds": 3600, **changes})


def measured(count: int, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Real patients drawn with replacement; `changes` apply to all of them, a number is added."""
    rows, _ = patients()
    random = np.random.default_rng(seed)
    return [_changed(row, changes) for row in rows[random.integers(len(rows), size=count)]]


def _changed(row: Floats, changes: dict[str, Any]) -> dict[str, Any]:
    patient: dict[str, Any] = {}
    for m, code in zip(MEASUREMENTS, row.tolist(), strict=True):
        if code == code:
            patient[m.name] = m.choices[int(code)].name if m.choices else round(code, 1)
    for name, change in changes.items():
        if isinstance(change, str | None):
            patient[name] = change
        elif name in patient:
            bounds = next(m for m in MEASUREMENTS if m.name == name)
            patient[name] = min(max(patient[name] + change, bounds.low), bounds.high)
    return patient


def log_patients(
    log: PredictionLog, count: int, version: str = "1", seed: int = 0, **changes: Any
) -> None:
    """Log patients as the service would have scored them."""
    rows = [[p.get(name) for name in NAMES] for p in measured(count, seed, **changes)]
    log.append_sync(
        [Record(key, version, 0.5, row) for key, row in zip(new_ids(count), rows, strict=True)]
    )


@contextmanager
def watching(
    folder: Path, watched: Model | None = None, interval_seconds: float = 3600, **changes: Any
) -> Iterator[tuple[TestClient, DriftMonitor]]:
    """A client of the service, and its drift monitor."""
    service_settings, champion, log, metrics = parts(folder, **changes)
    champion.current = watched or watched_model()
    monitor = DriftMonitor(champion, log, settings(interval_seconds=interval_seconds))
    app = create_app(service_settings, champion, log, metrics, with_page=False, monitor=monitor)
    with TestClient(app) as client:
        yield client, monitor


def send(client: Any, patients: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The predictions of the service for patients in one batch."""
    response = client.post("/predict/batch", json={"patients": patients}).raise_for_status()
    return list(response.json()["predictions"])


def champion_of(current: Model | None, previous: Model | None = None) -> Present:
    """A model manager with these models."""
    manager = Present.__new__(Present)
    manager.current, manager.previous = current, previous
    return manager


def tables(folder: Path) -> None:
    """Write the real patients as the tables of synthetic and training patients."""
    (folder / "data").mkdir()
    heading, *rows = (ROOT / "data" / "raw" / "heart.csv").read_text().splitlines()
    train = [heading, *rows]
    (folder / "data" / "train.csv").write_text("\n".join(train) + "\n")
    synthetic = [f"fold,{heading}", *(f"all,{row}" for row in rows)]
    (folder / "data" / "synthetic.csv").write_text("\n".join(synthetic) + "\n")
