"""Whether the champion is worse than the version before it would have been, and the way back.

Both are scored on the same patients: those whom the champion answered and whose outcome is known since.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heart.predictions.log import PredictionLog
from heart.registry.aliases import AliasError
from heart.registry.errors import RegistryUnavailable
from heart.registry.model_version import Model
from heart.schema import NAMES, OUTCOME
from serve.encoding import encoded
from serve.model_manager import ModelManager
from serve.settings import Settings

# What share of the wealth is bet on the next patient: the mean over all of these is the evidence.
BETS = np.arange(1, 20) / 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardResult:
    """Brier scores of both on the same patients, and the evidence that the champion's is the worse.

    `worse_ratio` is the evidence over what the confidence asks for: an alarm from 1 on.
    """

    champion: str
    fallback: str
    labels: int
    champion_brier: float
    fallback_brier: float
    worse_ratio: float

    @property
    def alarm(self) -> bool:
        """Whether the champion is worse than the fallback would have been."""
        return self.worse_ratio >= 1


def evidence(differences: npt.ArrayLike) -> float:
    """How much differences from -1 to 1 speak for a mean above 0: the logarithm of an e-value.

    It is the wealth of one who bets a share of it on each difference, the mean over BETS. Whoever bets
    on what is not positive in the mean wins 1 / a with probability a at most, however often he looks
    (Ville 1939; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
    betting"): labels come one by one, and a test for a fixed number of them would alarm in the end.
    """
    wealth = np.log1p(np.outer(BETS, np.asarray(differences))).sum(axis=1)
    return float(np.logaddexp.reduce(wealth) - math.log(len(BETS)))


class ChampionGuard:
    """Compares when it is told to `look`; takes the champion back if the settings allow that."""

    def __init__(self, champion: ModelManager, log: PredictionLog, settings: Settings) -> None:
        self.judgement: GuardResult | None = None
        self.rollbacks = 0
        self._champion = champion
        self._log = log
        self._labels = settings.guard_labels
        self._limit = -math.log(1 - settings.guard_confidence)
        self._allowed = settings.guard_rollback

    def evaluate(self) -> None:
        """Compare the champion with the fallback. Raises LogUnavailable."""
        champion, fallback = self._champion.current, self._champion.fallback.current
        before = self.judgement  # others read it until there is the next
        self.judgement = found = self._judge(champion, fallback)
        if champion is None or found is None or not found.alarm:
            return
        if before is None or not before.alarm:
            logger.error("the champion is worse than the version before it: %s", found)
        if self._allowed:
            self._roll_back(champion)

    def _judge(self, champion: Model | None, fallback: Model | None) -> GuardResult | None:
        """None without two versions, and for too few labels."""
        if champion is None or fallback is None or champion.version == fallback.version:
            return None
        found = self._log.labelled(champion.version, ("probability", "outcome", *NAMES))
        labels = len(found["outcome"])
        if labels < self._labels:
            return None
        sick = np.array([outcome == OUTCOME.choices[1].name for outcome in found["outcome"]])
        rows = encoded(list(zip(*(found[name] for name in NAMES), strict=True)))
        ours = _brier(np.array(found["probability"]), sick)
        theirs = _brier(fallback.predict(rows).astype(float), sick)
        ratio = max(0.0, evidence(ours - theirs) / self._limit)
        briers = float(ours.mean()), float(theirs.mean())
        return GuardResult(champion.version, fallback.version, labels, *briers, ratio)

    def _roll_back(self, champion: Model) -> None:
        try:
            self.rollbacks += self._champion.roll_back(champion)
        except (AliasError, RegistryUnavailable) as error:
            logger.warning("version %s is not taken back: %s", champion.version, error)


def _brier(risk: Any, sick: Any) -> Any:
    """The squared error of each probability."""
    return (risk - sick) ** 2
