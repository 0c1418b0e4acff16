"""Decides which alert starts a retraining, and runs one at a time."""

import asyncio
import logging
import os
import shlex
import sqlite3
import time
from pathlib import Path

from heart.settings import variable
from monitoring.retraining.webhook import process
from monitoring.retraining.webhook.metrics import Answer, Metrics
from monitoring.retraining.webhook.notification import Notification
from monitoring.retraining.webhook.runs import Result, Run, Runs
from monitoring.retraining.webhook.settings import RetrainerSettings

# By exit code; EX_TEMPFAIL says that there are too few new outcomes to learn from yet.
ENDS: dict[int, Result] = {0: "done", os.EX_TEMPFAIL: "waiting"}

logger = logging.getLogger(__name__)


class Retrainer:
    """To be used in one event loop, which also ends it."""

    def __init__(self, settings: RetrainerSettings, runs: Runs, metrics: Metrics) -> None:
        self.settings = settings
        self.runs = runs
        self.metrics = metrics
        self._task: asyncio.Task[None] | None = None
        runs.close_lost()
        self._show_last()

    @property
    def running(self) -> bool:
        """Whether a retraining is under way."""
        return self._task is not None and not self._task.done()

    def cooldown_left(self) -> float:
        """Seconds in which no alert starts a retraining."""
        end = self.runs.last_end()
        passed = time.time() - end if end is not None else float("inf")
        # An end in the future is a clock that was set back: it must not hold up for ever.
        return max(0.0, self.settings.cooldown_seconds - passed) if passed >= 0 else 0.0

    def take(self, notification: Notification) -> Answer:
        """Start a retraining if this is news, and nothing speaks against it. Raises sqlite3.Error.

        What is refused for now is not written down: Grafana repeats an alert that goes on, and
        then it counts.
        """
        if not notification.firing:
            return "ignored"
        if self.runs.seen(notification.keys):
            return "seen"
        if self.running:
            return "running"
        if self.cooldown_left() > 0:
            return "cooling_down"
        run = self.runs.begin(notification.keys, notification.trigger)
        self._task = asyncio.create_task(self._retrain(run))
        self.metrics.running.set(1)
        return "started"

    async def stop(self) -> None:
        """End the retraining that runs, if one does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _retrain(self, run: Run) -> None:
        logger.info("retraining %d starts: %s", run.number, run.trigger)
        limit = self.settings.time_limit_seconds
        code: int | None = None
        try:
            code = await process.run(self._command(run), _environment(), Path(run.log), limit)
            result: Result = ENDS.get(code, "failed")
            verdict = process.last_line(Path(run.log))
        except TimeoutError:
            result, verdict = "timed_out", f"ended after {limit:g} s, its time limit"
        except asyncio.CancelledError:
            result, verdict = "stopped", "the receiver was stopped"
        except OSError as error:
            result, verdict = "failed", f"it cannot be run: {error.strerror}"
        logger.info("retraining %d ended: %s", run.number, result)
        self._ended(run, code, result, verdict)

    def _command(self, run: Run) -> list[str]:
        return [*shlex.split(self.settings.command), "--trigger", run.trigger]

    def _ended(self, run: Run, code: int | None, result: Result, verdict: str) -> None:
        self.metrics.runs.labels(result).inc()
        self.metrics.running.set(0)
        self.metrics.last_run.labels(result).set_to_current_time()
        try:
            self.runs.end(run, code, result, verdict)
            self.runs.forget_logs(self.settings.kept_logs)
        except (sqlite3.Error, OSError):
            logger.exception("the end of retraining %d cannot be written down", run.number)

    def _show_last(self) -> None:
        for result, ended in self.runs.last_ends().items():
            self.metrics.last_run.labels(result).set(ended)


def _environment() -> dict[str, str]:
    """The receiver's own, without its secrets; and what is printed is in the log at once."""
    kept = {name: value for name, value in os.environ.items() if not _is_own(name)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _is_own(name: str) -> bool:
    return name.upper().startswith(variable(RetrainerSettings, ""))
