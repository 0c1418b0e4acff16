"""Checks a version's last patients for drift at regular intervals, in a thread."""

import logging
import threading
import time
from typing import Protocol

import numpy as np

from heart.drift.baseline import Policy
from heart.drift.snapshot import DriftSnapshot, narrowed, take_snapshot
from heart.drift.trend import TrendPoint, patients_needed, trend
from heart.predictions.log import LogUnavailable, PredictionLog
from heart.registry.model_version import Model
from heart.schema import NAMES, Floats, SchemaError, encode
from monitoring.estimated import EstimatedPerformance, estimated
from monitoring.settings import DriftSettings

# The interval without a model, which may be loaded at any moment.
SECONDS_WITHOUT_MODEL = 1.0

logger = logging.getLogger(__name__)


class Models(Protocol):
    """The versions that the process has loaded."""

    @property
    def current(self) -> Model | None:
        """The champion."""

    @property
    def previous(self) -> Model | None:
        """The champion before it."""


class DriftMonitor:
    """Drift of the patients in the prediction log, computed by a thread of its own.

    `snapshot` is the newest drift check, None before the first or if the version has no baseline.
    While the log cannot be read it stays, and with it `last_run`, the time (seconds since 1970) of the
    last check that succeeded; `failures` counts those that did not. Every process with the same log,
    version and window checks the same patients: a window ends where the log was last a multiple of the
    policy's step, which is also how often the thresholds assume a check. `estimate` is the performance that the
    risks of the longest window imply, None as long as there is no result.
    """

    def __init__(self, champion: Models, log: PredictionLog, settings: DriftSettings) -> None:
        self.snapshot: DriftSnapshot | None = None
        self.estimate: EstimatedPerformance | None = None
        self.last_run: float | None = None
        self.failures = 0
        self._champion = champion
        self._log = log
        self._settings = settings
        self._stopped = threading.Event()
        # The trend of a snapshot, computed for the first who wants it.
        self._trend: tuple[DriftSnapshot | None, list[TrendPoint]] = (None, [])
        self._trend_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def missing(self) -> str | None:
        """Why there is no snapshot; None if there is one."""
        if self.snapshot is not None:
            return None
        model = self._model()
        if model is None:
            version = self._settings.model_version
            return f"version {version} is not loaded here" if version else "no model is loaded yet"
        if model.reference is None:
            return f"version {model.version} has no drift baseline"
        return "there was no drift check yet"

    def trend(self) -> list[TrendPoint]:
        """The checks up to the newest; empty without a result. It reads the log, once for each check."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.report.drifted is None:
            return []
        with self._trend_lock:
            if self._trend[0] is not snapshot:
                self._trend = (snapshot, self._read_trend(snapshot))
            return self._trend[1]

    def _read_trend(self, snapshot: DriftSnapshot) -> list[TrendPoint]:
        reference = snapshot.reference
        count, step = patients_needed(reference), reference.policy.step
        try:
            columns = self._log.last(count, snapshot.version, step)
            rows = encode({name: columns[name] for name in NAMES})
        except (LogUnavailable, SchemaError):
            return []  # `refresh` counts and logs the failure
        scores = np.array(columns["probability"], dtype=np.float32)
        return trend(rows[::-1], scores[::-1], columns["created_at"][::-1], reference)

    def refresh(self) -> None:
        """Check once. A failure is counted and logged."""
        model = self._model()
        if model is None or model.reference is None:
            self.snapshot = self.estimate = None
            return
        reference = narrowed(model.reference, self._settings.window)
        try:
            rows, scores = last_patients(self._log, model.version, reference.policy)
        except (LogUnavailable, SchemaError) as error:
            self.failures += 1
            # The message of a SchemaError has the value of a patient.
            reason = error if isinstance(error, LogUnavailable) else type(error).__name__
            logger.warning("drift check failed: %s", reason)
            return
        self.snapshot = take_snapshot(model.version, rows, scores, reference)
        # Without a result there are too few patients for an estimate too.
        window = scores[-reference.policy.windows[-1] :]
        has_result = self.snapshot.report.drifted is not None
        self.estimate = estimated(model, window, self.estimate) if has_result else None
        self.last_run = time.time()

    def _model(self) -> Model | None:
        """The monitored version, if it is the champion or the version before."""
        champion, version = self._champion, self._settings.model_version
        if version is None:
            return champion.current
        loaded = (champion.current, champion.previous)
        return next((model for model in loaded if model and model.version == version), None)

    def _run(self) -> None:
        interval = self._settings.interval_seconds
        pause = min(SECONDS_WITHOUT_MODEL, interval)
        while not self._stopped.wait(pause):
            try:
                self.refresh()
            except Exception:
                # The thread must continue, whatever fails.
                self.failures += 1
                logger.exception("drift check failed")
            pause = interval if self._model() else min(SECONDS_WITHOUT_MODEL, interval)


def last_patients(log: PredictionLog, version: str, policy: Policy) -> tuple[Floats, Floats]:
    """Encoded rows [n, 13] and scores [n] of a version's last patients, oldest first, as many as a check uses."""
    columns = log.last(policy.patients, version, policy.step)
    rows = encode({name: columns[name] for name in NAMES})
    return rows[::-1], np.array(columns["probability"], dtype=np.float32)[::-1]
