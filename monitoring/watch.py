"""Looks at a version's last patients again and again, beside whatever else the process does."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from monitoring.drift import Counts, Report, count_views, judge
from monitoring.reference import Limits, Policy, Reference
from monitoring.settings import DriftSettings
from schema import NAMES, Floats, SchemaError, encode
from serve.log import LogUnavailable, PredictionLog

if TYPE_CHECKING:
    from serve.champion import Champion
    from serve.versions import Model

# Without a model, look this often: it will come any moment.
SECONDS_WITHOUT_MODEL = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What was seen of a version's last patients.

    `counts` are the patients in each bucket of the reference, all columns one after the other, by
    the number of last patients that they are of; `windows` is that number for each finding. There
    are none below the minimum.
    """

    version: str
    reference: Reference
    report: Report
    counts: Mapping[int, Counts]
    windows: Mapping[str, int]


class Watch:
    """Drift of the patients in the prediction log, computed by a thread of its own.

    `look` is the newest, None until there is one or if the version has no reference. While the log
    cannot be read it stays, and with it `last_run`, the time (seconds since 1970) of the last look
    that succeeded; `failures` counts those that did not. Every process with the same log, version
    and window sees the same patients: the looks end where the log was last a multiple of the
    policy's step, which is also how often the limits assume a look.
    """

    def __init__(self, champion: "Champion", log: PredictionLog, settings: DriftSettings) -> None:
        self.look: Look | None = None
        self.last_run: float | None = None
        self.failures = 0
        self._champion = champion
        self._log = log
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="drift", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def missing(self) -> str | None:
        """Why there is no look, in words; None if there is one."""
        if self.look is not None:
            return None
        model = self._model()
        if model is None:
            wanted = self._settings.model_version
            return f"version {wanted} is not loaded here" if wanted else "no model is loaded yet"
        if model.reference is None:
            return f"version {model.version} came without a drift reference"
        return "the prediction log was not looked at yet"

    def refresh(self) -> None:
        """Look once. What keeps the log from being read is counted and logged."""
        model = self._model()
        if model is None or model.reference is None:
            self.look = None
            return
        reference = narrowed(model.reference, self._settings.window)
        try:
            rows, scores = _last(self._log, model.version, reference.policy)
        except (LogUnavailable, SchemaError) as error:
            self.failures += 1
            # A SchemaError says which value of a patient it was.
            reason = error if isinstance(error, LogUnavailable) else type(error).__name__
            logger.warning("no look for drift: %s", reason)
            return
        self.look = look_at(model.version, rows, scores, reference)
        self.last_run = time.time()

    def _model(self) -> "Model | None":
        """The version that is watched, if the champion is it, or the one before."""
        champion, wanted = self._champion, self._settings.model_version
        if wanted is None:
            return champion.current
        known = (champion.current, champion.previous)
        return next((model for model in known if model and model.version == wanted), None)

    def _follow(self) -> None:
        interval = self._settings.interval_seconds
        pause = min(SECONDS_WITHOUT_MODEL, interval)
        while not self._stopped.wait(pause):
            try:
                self.refresh()
            except Exception:
                # Were it to end, nobody would watch any more.
                self.failures += 1
                logger.exception("looking for drift failed")
            pause = interval if self._model() else min(SECONDS_WITHOUT_MODEL, interval)


def narrowed(reference: Reference, patients: int | None) -> Reference:
    """The reference without windows of more than so many patients; the shortest window stays."""
    windows = reference.policy.windows
    kept = len([n for n in windows if patients is None or n <= patients]) or 1
    if kept == len(windows):
        return reference

    def cut(limits: tuple[float, ...]) -> tuple[float, ...]:
        return (*limits[:kept], limits[-1])

    columns = [
        replace(column, limits=Limits(cut(c.shift), cut(c.share), cut(c.rare)))
        for column, c in ((column, column.limits) for column in reference.columns)
    ]
    policy = replace(reference.policy, windows=windows[:kept])
    return replace(reference, policy=policy, columns=tuple(columns))


def _last(log: PredictionLog, version: str, policy: Policy) -> tuple[Floats, Floats]:
    """Encoded rows [n, 13] and scores [n] of a version's last patients, oldest first."""
    found = log.last(policy.windows[-1], version, policy.step)
    rows = encode({name: found[name] for name in NAMES})
    return rows[::-1], np.array(found["probability"], dtype=np.float32)[::-1]


def look_at(version: str, rows: Floats, scores: Floats, reference: Reference) -> Look:
    """Compare patients (oldest first) with a reference."""
    views, counts = count_views(rows, scores, reference)
    report = judge(views, counts, len(rows), reference)
    sizes = [(*reference.policy.windows, len(rows))[view] for view in views]
    # A finding is that of the window with the largest ratio: each window by itself says which.
    alone = [judge([v], c[None], len(rows), reference) for v, c in zip(views, counts, strict=True)]

    def window(name: str) -> int:
        return sizes[int(np.argmax([one.features[name].ratio for one in alone]))]

    windows = {name: window(name) for name in report.features}
    return Look(version, reference, report, dict(zip(sizes, counts, strict=True)), windows)
