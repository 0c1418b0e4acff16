"""The champion guard: is the champion worse than the fallback, the champion before it? Then roll back.

Both are scored on the same patients, those of the champion's predictions that have an outcome by now, and
their Brier scores are compared by a test that may be repeated after every new outcome: a test for a fixed
number of outcomes, repeated like that, would give a false alarm sooner or later.

The test is a bet (`heart/ml/betting.py`): a share s of the wealth, which is 1 at first, is bet on each difference
d between the squared errors of champion and fallback. If the champion is no worse, the probability that the
wealth ever reaches 100 is at most 1 / 100:

    s = 0.5, d = 0.2 for each patient:   1.1, 1.21, 1.33, ... 1.1^48 = 97, 1.1^49 = 107: alarm at patient 49
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heart.ml.betting import evidence
from heart.predictions.log import PredictionLog
from heart.registry.aliases import AliasError
from heart.registry.errors import RegistryUnavailable
from heart.registry.model_version import Model
from heart.schema import NAMES, OUTCOME
from serve.encoding import encode_rows
from serve.model_manager import ModelManager
from serve.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardResult:
    """Brier scores of both on the same patients, and the evidence that the champion's is worse.

    `evidence_ratio` is the evidence over the threshold that the confidence requires: an alarm from 1 on.
    """

    champion: str
    fallback: str
    labels: int
    champion_brier: float
    fallback_brier: float
    evidence_ratio: float
    # The lowest ratio without the outcomes of any one sender; 0 if all are of one.
    corroborated_ratio: float

    @property
    def alarm(self) -> bool:
        """Whether the champion is worse than the fallback would have been."""
        return self.evidence_ratio >= 1

    @property
    def corroborated(self) -> bool:
        """Whether the alarm does not depend on the outcomes of any single sender."""
        return self.corroborated_ratio >= 1


class ChampionGuard:
    """Compares champion and fallback, and rolls back if the champion is worse and the settings allow it."""

    def __init__(self, champion: ModelManager, log: PredictionLog, settings: Settings) -> None:
        self.result: GuardResult | None = None
        self.rollbacks = 0
        self._champion = champion
        self._log = log
        self._min_labels = settings.guard_labels
        self._threshold = -math.log(1 - settings.guard_confidence)
        self._may_roll_back = settings.guard_rollback
        self._senders = settings.guard_senders

    def evaluate(self) -> None:
        """Compare the champion with the fallback. Raises LogUnavailable."""
        champion, fallback = self._champion.current, self._champion.fallback.current
        previous = self.result  # it stays until the next one is complete: other threads read it
        self.result = result = self._compare(champion, fallback)
        if champion is None or result is None or not result.alarm:
            return
        if previous is None or not previous.alarm:
            logger.error("the champion is worse than the version before it: %s", result)
        if self._may_roll_back and not self.withheld:
            self._roll_back(champion)

    @property
    def withheld(self) -> bool:
        """Whether the champion is reported as worse, but by outcomes of a single sender."""
        result = self.result
        return bool(result and result.alarm and self._senders > 1 and not result.corroborated)

    def notes(self) -> list[str]:
        """What a person has to decide, for readiness."""
        result = self.result
        if result is None or not self.withheld:
            return []
        return [
            f"version {result.champion} is worse than version {result.fallback} by the outcomes of a "
            "single token: check them, then run make rollback"
        ]

    def _compare(self, champion: Model | None, fallback: Model | None) -> GuardResult | None:
        """None without two versions, and for too few outcomes."""
        if champion is None or fallback is None or champion.version == fallback.version:
            return None
        columns = self._log.labelled(champion.version, ("probability", "outcome", "sender", *NAMES))
        labels = len(columns["outcome"])
        if labels < self._min_labels:
            return None
        positive = np.array([outcome == OUTCOME.choices[1].name for outcome in columns["outcome"]])
        rows = encode_rows(list(zip(*(columns[name] for name in NAMES), strict=True)))
        champion_errors = _squared_errors(np.array(columns["probability"]), positive)
        fallback_errors = _squared_errors(fallback.predict(rows).astype(float), positive)
        differences = champion_errors - fallback_errors
        ratio = self._ratio(differences)
        senders = np.array(columns["sender"])
        others = [self._ratio(differences[senders != one]) for one in np.unique(senders)]
        briers = float(champion_errors.mean()), float(fallback_errors.mean())
        return GuardResult(champion.version, fallback.version, labels, *briers, ratio, min(others))

    def _ratio(self, differences: npt.NDArray[Any]) -> float:
        return max(0.0, evidence(differences) / self._threshold)

    def _roll_back(self, champion: Model) -> None:
        try:
            self.rollbacks += self._champion.roll_back(champion)
        except (AliasError, RegistryUnavailable) as error:
            logger.warning("version %s is not rolled back: %s", champion.version, error)


def _squared_errors(risk: Any, positive: Any) -> Any:
    return (risk - positive) ** 2
