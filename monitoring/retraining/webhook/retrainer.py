"""Decide which alert starts a retraining, and run one at a time."""

import asyncio
import logging
import os
import shlex
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heart.settings import variable
from monitoring.retraining.webhook import process
from monitoring.retraining.webhook.metrics import Answer, Metrics
from monitoring.retraining.webhook.notification import Notification
from monitoring.retraining.webhook.runs import Result, Run, Runs
from monitoring.retraining.webhook.settings import RetrainerSettings

# By exit code; EX_TEMPFAIL is that of too few new outcomes, and of a lock that another process holds.
RESULT_OF_CODE: dict[int, Result] = {0: "done", os.EX_TEMPFAIL: "waiting"}

logger = logging.getLogger(__name__)


class Retrainer:
    """For one event loop, in which `stop` is called too."""

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
        """The remaining seconds in which no alert starts a retraining."""
        end = self.runs.last_end()
        passed = self.runs.clock() - end if end is not None else float("inf")
        # An end in the future means that the clock was set back: it must not block retraining.
        return max(0.0, self.settings.cooldown_seconds - passed) if passed >= 0 else 0.0

    def status(self, runs: int) -> dict[str, Any]:
        """What the operator needs to know, with the last `runs` runs. Raises sqlite3.Error."""
        left, alert = self.cooldown_left(), self.runs.last_alert()
        until = datetime.fromtimestamp(self.runs.clock() + left, UTC)
        return {
            "running": self.running,
            "cooldown_seconds_left": round(left),
            "cooldown_until": until.isoformat(timespec="seconds") if left else None,
            "last_alert": asdict(alert) if alert else None,
            "runs": [asdict(run) for run in self.runs.last(runs)],
        }

    def handle(self, notification: Notification) -> Answer:
        """The response to a notification; an alert on drift is recorded with it. Raises sqlite3.Error."""
        if not notification.drift:
            return "ignored"
        answer = self._decide(notification)
        try:
            self.runs.note_alert(notification.trigger, answer)
        except sqlite3.Error:  # a retraining may have started: it counts, the note does not
            logger.exception("the last alert cannot be recorded")
        return answer

    def _decide(self, notification: Notification) -> Answer:
        """Start a retraining if an alert is new, none runs, and the cool-down is over.

        No other alert belongs to a run: Grafana repeats an alert while it fires, and it may start one then.
        """
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
        """Stop the retraining, if one runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _retrain(self, run: Run) -> None:
        logger.info("retraining %d starts: %s", run.number, run.trigger)
        limit = self.settings.time_limit_seconds
        code: int | None = None
        try:
            code = await process.run(self._command(run), _environment(), Path(run.log), limit)
            result: Result = RESULT_OF_CODE.get(code, "failed")
            verdict = process.last_line(Path(run.log))
        except TimeoutError:
            result, verdict = "timed_out", f"stopped at its time limit of {limit:g} s"
        except asyncio.CancelledError:
            result, verdict = "stopped", "the receiver was stopped"
        except OSError as error:
            result, verdict = "failed", f"the command cannot be started: {error.strerror}"
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
            logger.exception("the end of retraining %d cannot be recorded", run.number)

    def _show_last(self) -> None:
        for result, ended in self.runs.last_ends().items():
            self.metrics.last_run.labels(result).set(ended)


def _environment() -> dict[str, str]:
    """The environment of the receiver without its settings; output is written to the log at once."""
    prefix = variable(RetrainerSettings, "")
    others = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(prefix)
    }
    return {**others, "PYTHONUNBUFFERED": "1"}
