"""The operations of the service, independent of HTTP: the API and the page call the same methods."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread

from heart.drift.baseline import MIN_CELL_COUNT
from heart.drift.snapshot import DriftSnapshot
from heart.http.rate import RateLimit
from heart.http.tokens import ADMIN, OPEN, Token
from heart.predictions.answers import Answer, OnceKey
from heart.predictions.log import PredictionLog, Side
from heart.registry.errors import ScoringFailed
from heart.registry.model_version import Model
from monitoring.estimated import EstimatedPerformance
from monitoring.monitor import DriftMonitor
from serve.estimate_check import EstimateCheck, check_estimate
from serve.explain import NONE, Parts, explained
from serve.metrics import Metrics
from serve.micro_batching import MicroBatcher, Patient, Predictions
from serve.model_manager import ModelManager
from serve.offload import Offload
from serve.patient_metrics import Predicted
from serve.refreshed import Refreshed
from serve.scoring import Scored, score
from serve.shadow import ShadowScorer

T = TypeVar("T")

# The scores of a comparison, by the count of patients that they cover.
SHADOW_SCORES = {
    "rows": ("difference_mean", "disagreement_ratio"),
    "labels": tuple(
        f"{role}_{score}" for role in ("champion", "challenger") for score in ("accuracy", "brier")
    ),
}
# Scoring more patients would block the event loop for some milliseconds: they are scored in a thread.
LARGE_ROWS = 250

logger = logging.getLogger(__name__)


class NoModel(RuntimeError):
    """No model is loaded; the message says why."""


class DriftUnavailable(RuntimeError):
    """There is no drift check to report; the message says why."""


@dataclass(frozen=True)
class Scores:
    """Scores over recorded outcomes: of the champion, beside those its risks imply, and of the challenger."""

    version: str  # of the champion
    labeled: dict[str, float] | None
    shadow: dict[str, Any] | None
    check: EstimateCheck | None


class Service:
    """Scores patients with the champion; predictions are committed to the log before they are returned."""

    def __init__(
        self,
        champion: ModelManager,
        log: PredictionLog,
        metrics: Metrics,
        monitor: DriftMonitor | None = None,
        rate: RateLimit | None = None,
    ) -> None:
        """Without a monitor, another process checks for drift. `rate` limits the outcomes of a token."""
        self.champion = champion
        self.log = log
        self.metrics = metrics
        self.monitor = monitor
        self._rate = rate
        self.offload = Offload()
        self.shadow = ShadowScorer(champion.challenger, log)
        self._outcome_changes = 0
        self._refreshed = Refreshed(self._compute_scores, self._state)
        self._batcher = MicroBatcher(self._start, LARGE_ROWS)

    def model(self) -> Model:
        """The model in service. Raises NoModel."""
        model = self.champion.current
        if model is None:
            raise NoModel("; ".join(self.champion.state().reasons))
        return model

    def drift(self) -> DriftSnapshot:
        """The last drift check. Raises DriftUnavailable."""
        if self.monitor is None:
            raise DriftUnavailable("this process does not check for drift")
        if self.monitor.snapshot is None:
            raise DriftUnavailable(self.monitor.missing() or "the first drift check is running")
        return self.monitor.snapshot

    async def predict(self, patients: Sequence[Patient], parts: Parts = NONE) -> Predictions:
        """The predictions for valid patients; either all of them are in the log afterwards, or none.

        Raises NoModel, LogUnavailable, ScoringFailed.
        """
        with self._failures_counted():
            if parts or len(patients) > LARGE_ROWS:
                return await self._predict(patients, parts, lambda predictions: predictions)
            return await self._batcher.submit(patients)

    def _start(
        self, patients: Sequence[Patient]
    ) -> tuple[Predictions, asyncio.Future[None], Callable[[], None]]:
        """Predictions for a few patients, a future that is done once they are in the log, and what counts them."""
        scored = score(self.model(), patients)
        committed = self.log.start_append(scored.records)
        predictions, counted = scored.predictions()  # while the log commits
        return predictions, committed, partial(self._count, scored, counted)

    async def predict_encoded(
        self, patients: Sequence[Patient], parts: Parts, encode: Callable[[Predictions], bytes]
    ) -> bytes:
        """`predict`, as `encode` writes the predictions; many are written outside of the event loop."""
        if len(patients) <= LARGE_ROWS:
            return encode(await self.predict(patients, parts))
        with self._failures_counted():
            return await self._predict(patients, parts, encode)

    async def _predict(
        self, patients: Sequence[Patient], parts: Parts, convert: Callable[[Predictions], T]
    ) -> T:
        """The predictions as `convert` returns them, once they are in the log."""
        scored = await self._score(patients)
        if parts:  # explained first: if that fails, nothing is logged
            predictions, counted = await self._predictions(scored, parts)
            committed = self.log.start_append(scored.records)
        else:
            committed = self.log.start_append(scored.records)
            predictions, counted = await self._predictions(scored)  # while the log commits
        if len(patients) > LARGE_ROWS:
            result = await self.offload.run(convert, predictions)
        else:
            result = convert(predictions)
        await committed
        self._count(scored, counted)
        return result

    async def predict_once(
        self,
        patients: Sequence[Patient],
        parts: Parts,
        key: OnceKey,
        encode: Callable[[Predictions], bytes],
    ) -> Answer:
        """`predict` for a request with an idempotency key: the first answer that the key got.

        Raises KeyReused, AnswerErased and the errors of `predict`.
        """
        earlier = await to_thread.run_sync(self.log.answer, key)
        if earlier is not None:
            return Answer(earlier, is_new=False)
        with self._failures_counted():
            scored = await self._score(patients)
            predictions, counted = await self._predictions(scored, parts)
        body = encode(predictions)
        answer = await to_thread.run_sync(self.log.append_once, scored.records, key, body)
        if answer.is_new:
            self._count(scored, counted)
        return answer

    def model_of(self, version: str) -> Model | None:
        """The model of a version, if it is loaded."""
        champion = self.champion
        loaded = (champion.current, champion.previous)
        return next((model for model in loaded if model and model.version == version), None)

    @contextmanager
    def _failures_counted(self) -> Iterator[None]:
        """Count a request whose patients cannot be scored."""
        try:
            yield
        except ScoringFailed as error:
            self.champion.count_scoring_failure(error)
            raise

    async def _score(self, patients: Sequence[Patient]) -> Scored:
        model = self.model()
        if len(patients) > LARGE_ROWS:
            return await self.offload.run(score, model, patients)
        return score(model, patients)

    async def _predictions(
        self, scored: Scored, parts: Parts = NONE
    ) -> tuple[Predictions, Predicted]:
        if len(scored.records) > LARGE_ROWS:
            predictions, counted = await self.offload.run(scored.predictions)
        else:
            predictions, counted = scored.predictions()
        if parts:
            risks = [record.probability for record in scored.records]
            # With all measurements, the contributions need thousands of predictions: not on the event loop.
            added = await asyncio.to_thread(explained, scored.model, scored.rows, risks, parts)
            for prediction, answer in zip(predictions, added, strict=True):
                prediction.update(answer)
        return predictions, counted

    def _count(self, scored: Scored, counted: Predicted) -> None:
        """Count logged predictions, and have the challenger score the same patients."""
        version, ids = scored.model.version, [record.id for record in scored.records]
        self.metrics.patients.count_predictions(version, counted)
        self.shadow.enqueue(version, ids, scored.rows)

    def reload(self) -> dict[str, Any]:
        """Poll the registry now, and try rejected versions again. Raises RegistryUnavailable."""
        champion = self.champion
        before = champion.current
        champion.reload()
        after, rejection, challenger = (
            champion.current,
            champion.rejection,
            champion.challenger.current,
        )
        return {
            "before": before and before.version,
            "after": after and after.version,
            "rejected": rejection and asdict(rejection),
            "challenger": challenger and challenger.version,
        }

    def record_outcome(
        self, prediction_id: str, outcome: str, source: str, replace: bool, token: Token = OPEN
    ) -> str:
        """Record an outcome: `created`, `same` or `replaced`. It waits for the database.

        Raises RateExceeded and the errors of `PredictionLog.record_outcome`.
        """
        if self._rate is not None:
            self._rate.require(token.name)
        may_replace_others = ADMIN in token.scopes
        status = self.log.record_outcome(
            prediction_id,
            outcome,
            source,
            token.name,
            replace=replace,
            replace_others=may_replace_others,
        )
        if status != "same":
            self._outcome_changes += 1
            self.metrics.patients.count_outcome(outcome, source, replaced=status == "replaced")
        return status

    def withdraw_outcomes(
        self, sender: str, since: datetime | None, until: datetime | None, token: Token
    ) -> int:
        """Withdraw the outcomes of a sender within a time; their number. It waits for the database."""
        withdrawn = self.log.withdraw_outcomes(sender, since, until, token.name)
        logger.warning("%s withdrew %d outcomes of %s", token.name, withdrawn, sender)
        return withdrawn

    def erase(self, prediction_id: str) -> None:
        """Erase a prediction and its outcome; aggregate scores stay. It waits for the database."""
        self.log.erase(prediction_id)
        self._outcome_changes += 1
        self.metrics.erasures.inc()

    def _state(self) -> Hashable:
        """What the scores over recorded outcomes depend on, as far as this process knows."""
        models = (self.champion.current, self.champion.challenger.current)
        versions = tuple(model and model.version for model in models)
        return versions, self._outcome_changes, self.shadow.rows.total()

    def _compute_scores(self) -> Scores | None:
        """The scores over recorded outcomes. Raises LogUnavailable."""
        model = self.champion.current
        if model is None:
            return None
        labeled = self.log.labeled_scores(Side(model.version, model.threshold))
        if labeled is not None and labeled["labels"] < MIN_CELL_COUNT:
            labeled = None
        return Scores(
            model.version, labeled, self.shadow.compare(model), check_estimate(self.log, model)
        )

    def _scores(self) -> Scores | None:
        """The last scores, if they are those of the champion. Raises LogUnavailable."""
        scores, model = self._refreshed.get(), self.champion.current
        return scores if scores and model and scores.version == model.version else None

    def labeled_scores(self) -> dict[str, float] | None:
        """Accuracy and ROC AUC of the champion on predictions with an outcome; None for too few.

        They are shared by all who ask (`serve/refreshed.py`). Raises LogUnavailable.
        """
        scores = self._scores()
        return scores.labeled if scores else None

    def estimate(self) -> EstimatedPerformance | None:
        """The performance of the champion that the risks of the last patients imply; None without a result."""
        model, estimate = self.champion.current, self.monitor and self.monitor.estimate
        return estimate if estimate and model and estimate.version == model.version else None

    def estimate_check(self) -> EstimateCheck | None:
        """Whether outcomes contradict the estimate; None for too few. Raises LogUnavailable."""
        scores = self._scores()
        return scores.check if scores else None

    def shadow_scores(self) -> dict[str, Any] | None:
        """The challenger compared with the champion, None without one; scores of too few are None.

        Raises NoModel, LogUnavailable.
        """
        self.model()
        shared = self._scores()
        if shared is None or shared.shadow is None:
            return None
        scores = dict(shared.shadow)
        for count, names in SHADOW_SCORES.items():
            if scores[count] < MIN_CELL_COUNT:
                scores |= dict.fromkeys(names)
        return scores
