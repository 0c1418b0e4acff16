"""What the service does, whoever asks: the routes of the API and the handlers of the page."""

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heart.drift.baseline import MIN_CELL_COUNT
from heart.drift.snapshot import DriftSnapshot
from heart.ml.scores import roc_auc
from heart.predictions.log import PredictionLog
from heart.registry.errors import RegistryUnavailable
from heart.registry.model_version import Model
from monitoring.monitor import DriftMonitor
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from serve.offload import Offload
from serve.scoring import PRESENCE, score
from serve.settings import MAX_BATCH
from serve.shadow import ShadowScorer
from serve.shapley import shapley

# Figures of a comparison by the count of patients that they are over.
COMPARED = {
    "rows": ("difference_mean", "disagreement_ratio"),
    "labels": tuple(
        f"{role}_{score}" for role in ("champion", "challenger") for score in ("accuracy", "brier")
    ),
}
# More patients are scored in a thread: so many take the event loop some milliseconds.
LARGE_ROWS = 250
Patient = Mapping[str, Any]


class NoModel(RuntimeError):
    """There is no model yet; the message says why."""


class DriftUnavailable(RuntimeError):
    """Nothing is known of drift; the message says why."""


@dataclass(slots=True)
class PendingRequest:
    patients: Sequence[Patient]
    answers: asyncio.Future[list[dict[str, Any]]]


class Service:
    """Scores patients with the champion and keeps every answer in the log before it is given.

    Without a `watch` another process looks for drift.
    """

    def __init__(
        self,
        champion: ModelManager,
        log: PredictionLog,
        metrics: Metrics,
        monitor: DriftMonitor | None = None,
    ) -> None:
        self.champion = champion
        self.log = log
        self.metrics = metrics
        self.monitor = monitor
        self.offload = Offload()
        self.shadow = ShadowScorer(champion.challenger, log)
        self._micro_batch: list[PendingRequest] = []
        self._micro_batch_rows = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def model(self) -> Model:
        """The model that answers now. Raises NoModel."""
        model = self.champion.current
        if model is None:
            raise NoModel("; ".join(self.champion.state().reasons))
        return model

    def drift(self) -> DriftSnapshot:
        """The newest look at the last patients. Raises DriftUnavailable."""
        if self.monitor is None:
            raise DriftUnavailable("another process watches for drift")
        if self.monitor.snapshot is None:
            raise DriftUnavailable(self.monitor.missing() or "the first look is just being taken")
        return self.monitor.snapshot

    async def predict(
        self, patients: Sequence[Patient], explain: bool = False
    ) -> list[dict[str, Any]]:
        """The answers for patients that are valid; all are in the log once this returns, or none.

        Raises NoModel, LogUnavailable.
        """
        if explain or len(patients) > LARGE_ROWS:
            return await self._predict(patients, explain)
        loop = asyncio.get_running_loop()
        asked = PendingRequest(patients, loop.create_future())
        if self._micro_batch_rows + len(patients) > MAX_BATCH:
            self._flush(loop)  # the log's queue may hold no more at once
        self._micro_batch.append(asked)
        self._micro_batch_rows += len(patients)
        if len(self._micro_batch) == 1:
            loop.call_soon(self._flush, loop)
        return await asked.answers

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Score and log together what was asked in this turn of the event loop.

        Under load that is many requests, and calling the model and waking the log's writer once for
        each would take longer than the rest of them; alone, none waits for another.
        """
        turn, self._micro_batch, self._micro_batch_rows = self._micro_batch, [], 0
        if not turn:
            return  # it ended before
        task = loop.create_task(self._answer(turn))
        self._tasks.add(task)  # the loop itself holds it weakly
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, turn: Sequence["PendingRequest"]) -> None:
        try:
            answers = await self._predict([p for asked in turn for p in asked.patients])
        except Exception as error:  # noqa: BLE001  # it is raised again where it is waited for
            for asked in turn:
                if not asked.answers.done():
                    asked.answers.set_exception(copy(error))  # each gathers a traceback of its own
            return
        end = 0
        for asked in turn:
            start, end = end, end + len(asked.patients)
            if not asked.answers.done():  # else whoever waited has gone
                asked.answers.set_result(answers[start:end])

    async def _predict(
        self, patients: Sequence[Patient], explain: bool = False
    ) -> list[dict[str, Any]]:
        model = self.model()
        if len(patients) > LARGE_ROWS:
            scored = await self.offload.run(score, model, patients)
        else:
            scored = score(model, patients)
        if explain:
            for answer, row in zip(scored.answers, scored.rows, strict=True):
                moved, _ = await asyncio.to_thread(shapley, row, model.predict)
                answer["contributions"] = moved
        await self.log.append(scored.records, checked=True)
        self.metrics.patients.predicted(model.version, len(patients), scored.counts)
        self.shadow.enqueue(model.version, [record.id for record in scored.records], scored.rows)
        return scored.answers

    def reload(self) -> dict[str, Any]:
        """Look into the registry now, and try again what was refused. Raises RegistryUnavailable."""
        champion = self.champion
        before = champion.current
        champion.refresh(retry_refused=True)
        if champion.registry_down_since is not None:
            raise RegistryUnavailable("the registry gives no model")
        after, refused, challenger = champion.current, champion.refused, champion.challenger.current
        return {
            "before": before and before.version,
            "after": after and after.version,
            "refused": refused and asdict(refused),
            "challenger": challenger and challenger.version,
        }

    def record_outcome(self, prediction_id: str, outcome: str, source: str, replace: bool) -> str:
        """Keep an outcome: `created`, `same` or `replaced`. Waits for the database."""
        done = self.log.record_outcome(prediction_id, outcome, source, replace=replace)
        if done != "same":
            self.metrics.patients.recorded(outcome, source, replaced=done == "replaced")
        return done

    def erase(self, prediction_id: str) -> None:
        """Forget a patient; the aggregate figures stay. Waits for the database."""
        self.log.erase(prediction_id)
        self.metrics.erasures.inc()

    def labelled(self, version: str) -> dict[str, float] | None:
        """Accuracy and ROC AUC of a version on answers whose outcome is known, None for too few."""
        found = self.log.labelled(version)
        sick = np.array([outcome == PRESENCE for outcome in found["outcome"]], dtype=bool)
        risk = np.array(found["probability"], dtype=float)
        if min(sick.sum(), (~sick).sum()) < 1 or len(sick) < MIN_CELL_COUNT:
            return None
        model = self.model()
        return {
            "labels": float(len(sick)),
            "accuracy": float(((risk >= model.threshold) == sick).mean()),
            "roc_auc": roc_auc(sick, risk),
        }

    def shadowed(self) -> dict[str, Any] | None:
        """The challenger beside the champion, None without one; figures over too few are None.

        Raises NoModel, LogUnavailable.
        """
        found = self.shadow.compared(self.model())
        if found is None:
            return None
        for count, names in COMPARED.items():
            if found[count] < MIN_CELL_COUNT:
                found |= dict.fromkeys(names)
        return found
