"""What the challenger says of the patients whom the champion answers, behind the answers' back.

Answers only leave their rows here. One thread scores some of them at a time and logs that, so slowly
that it holds up no commit of the answers; what does not fit is dropped and counted.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from heart.predictions.log import LogUnavailable, PredictionLog, ShadowRecord, Side
from heart.registry.model_version import Model
from heart.schema import Floats
from serve.aliased_model import AliasedModel

# So many rows wait at most, and so many are logged at a time, with this pause in between. Answers wait while
# they are committed: few at a time hold them up for less than an answer takes.
WAITING_ROWS = 20_000
STEP_ROWS, STEP_SECONDS = 1024, 0.1
COMPARED_ROWS = 10_000  # the newest; a comparison costs the same however long the log is

logger = logging.getLogger(__name__)


class ShadowScorer:
    """Scores with the challenger, if there is one, what the champion has scored.

    `rows` counts by version what was scored and logged, since the start.
    """

    def __init__(self, challenger: AliasedModel, log: PredictionLog) -> None:
        self.rows: Counter[str] = Counter()
        self._challenger = challenger
        self._log = log
        self._waiting: deque[tuple[str, Floats]] = deque()
        self._not_taken = self._lost = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def dropped(self) -> int:
        """Rows that the challenger was to score and that are not logged."""
        return self._not_taken + self._lost

    def start(self) -> None:
        """Start to score."""
        self._thread.start()

    def stop(self) -> None:
        """Score no more; what waits is dropped."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def enqueue(self, version: str, ids: Sequence[str], rows: Floats) -> None:
        """Have the challenger score encoded rows [n, 13] that a version has answered, some time."""
        challenger = self._challenger.current
        if challenger is None or challenger.version == version:
            return
        room = max(0, WAITING_ROWS - len(self._waiting))
        self._waiting.extend(islice(zip(ids, rows, strict=True), room))
        self._not_taken += max(0, len(ids) - room)

    def process_batch(self) -> None:
        """Score and log the rows that have waited longest."""
        taken = [self._waiting.popleft() for _ in range(min(STEP_ROWS, len(self._waiting)))]
        model = self._challenger.current
        if model is None or not taken:
            self._lost += len(taken)
            return
        kept: list[ShadowRecord] = []
        try:
            scored = _scored(model, taken)
            self._log.append_shadows(scored)
            kept = scored
        except LogUnavailable:
            pass  # it is counted
        finally:
            self.rows[model.version] += len(kept)
            self._lost += len(taken) - len(kept)

    def compared(self, champion: Model) -> dict[str, Any] | None:
        """The challenger beside the champion, None without one; see `PredictionLog.compared`.

        Raises LogUnavailable.
        """
        challenger = self._challenger.current
        if challenger is None:
            return None
        ours, theirs = (Side(model.version, model.threshold) for model in (champion, challenger))
        return {"version": challenger.version, **self._log.compared(ours, theirs, COMPARED_ROWS)}

    def _run(self) -> None:
        while not self._stopped.wait(STEP_SECONDS):
            try:
                self.process_batch()
            except Exception:
                # Whatever a challenger does, the next one is to be scored.
                logger.exception("scoring with the challenger failed")


def _scored(model: Model, taken: Sequence[tuple[str, Floats]]) -> list[ShadowRecord]:
    ids, rows = zip(*taken, strict=True)
    risks = model.predict(np.concatenate(rows).reshape(len(rows), -1)).tolist()
    return [
        ShadowRecord(key, model.version, risk)
        for key, risk in zip(ids, risks, strict=True)
        # The database would refuse all of them for one that is no probability.
        if 0 <= risk <= 1
    ]
