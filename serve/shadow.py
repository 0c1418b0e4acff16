"""Shadow scoring: the challenger scores the patients of the champion, without any effect on responses.

A request only appends its encoded rows to a queue. One thread takes at most STEP_ROWS rows from it, scores
them, writes the challenger's risks to the log, and pauses STEP_SECONDS, so that its commits never delay
those of responses for long:

    request    champion answers, commits, enqueue(40 rows)      queue: 40
    request    champion answers, commits, enqueue(10,000 rows)  queue: 10,040
    thread     0.1 s later: scores and logs 1,024 rows          queue: 9,016
    thread     0.1 s later: scores and logs 1,024 rows          queue: 7,992

At most QUEUE_ROWS rows wait; others are dropped and counted, because a sample is enough for a comparison.
`deque.append` and `popleft` are atomic, so the event loop and the thread share the queue without a lock
(https://docs.python.org/3/library/collections.html#collections.deque). The method is called shadow
deployment; see "Shadow model deployments" in Chip Huyen's Designing Machine Learning Systems, chapter 9.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from heart.predictions.log import LogUnavailable, PredictionLog, ShadowRecord, Side
from heart.registry.errors import ScoringFailed
from heart.registry.model_version import Model
from heart.schema import Floats
from serve.aliased_model import AliasedModel

QUEUE_ROWS = 20_000
# One step. Responses wait for the log while a step is committed, for less than a prediction takes.
STEP_ROWS, STEP_SECONDS = 1024, 0.1
COMPARED_ROWS = 10_000  # the newest: the cost of a comparison does not grow with the log

QueuedRow = tuple[str, Floats]  # the id of a prediction and its encoded row [13]

logger = logging.getLogger(__name__)


class ShadowScorer:
    """Scores with the challenger, if there is one, the rows that the champion has scored.

    `rows` counts the rows that were scored and logged by version, since the start of the process.
    """

    def __init__(self, challenger: AliasedModel, log: PredictionLog) -> None:
        self.rows: Counter[str] = Counter()
        self._challenger = challenger
        self._log = log
        self._queue: deque[QueuedRow] = deque()
        # One count for each thread that writes: += is not atomic.
        self._not_queued = self._not_logged = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def dropped(self) -> int:
        """Rows that the challenger should have scored and that are not in the log."""
        return self._not_queued + self._not_logged

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return len(self._queue)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; rows in the queue are not scored."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def enqueue(self, version: str, ids: Sequence[str], rows: Floats) -> None:
        """Queue encoded rows [n, 13] that `version` has scored. It never waits."""
        challenger = self._challenger.current
        if challenger is None or challenger.version == version:
            return
        free = max(0, QUEUE_ROWS - len(self._queue))
        self._queue.extend(islice(zip(ids, rows, strict=True), free))
        self._not_queued += max(0, len(ids) - free)

    def process_batch(self) -> None:
        """Score and log the oldest rows of the queue."""
        batch = [self._queue.popleft() for _ in range(min(STEP_ROWS, len(self._queue)))]
        model = self._challenger.current
        if model is None or not batch:
            self._not_logged += len(batch)
            return
        logged: list[ShadowRecord] = []
        try:
            records = _score(model, batch)
            self._log.append_shadows(records)
            logged = records
        except LogUnavailable:
            pass  # counted below
        except ScoringFailed as error:
            logger.error("scoring with the challenger failed: %s", error)  # noqa: TRY400  # no stack trace
        finally:
            self.rows[model.version] += len(logged)
            self._not_logged += len(batch) - len(logged)

    def compare(self, champion: Model) -> dict[str, Any] | None:
        """Scores of the challenger and the champion on the same patients, None without a challenger.

        They are those of `PredictionLog.compared`. Raises LogUnavailable.
        """
        challenger = self._challenger.current
        if challenger is None:
            return None
        scores = self._log.compared(
            Side(champion.version, champion.threshold),
            Side(challenger.version, challenger.threshold),
            COMPARED_ROWS,
        )
        return {"version": challenger.version, **scores}

    def _run(self) -> None:
        while not self._stopped.wait(STEP_SECONDS):
            try:
                self.process_batch()
            except Exception:
                # An error of this challenger must not keep the next one from being scored.
                logger.exception("scoring with the challenger failed")


def _score(model: Model, batch: Sequence[QueuedRow]) -> list[ShadowRecord]:
    ids, rows = zip(*batch, strict=True)
    risks = model.predict(np.concatenate(rows).reshape(len(rows), -1)).tolist()
    return [
        ShadowRecord(key, model.version, risk)
        for key, risk in zip(ids, risks, strict=True)
        # The database would reject the whole batch for one risk that is not a probability.
        if 0 <= risk <= 1
    ]
