"""Whether the recorded outcomes contradict the performance that the champion's risks imply.

The estimate without outcomes (`heart/ml/label_free.py`) stays right if other patients come, but not if the disease
has changed. The test may be repeated after every new outcome: as long as the risks are right, the probability
that it ever raises an alarm is at most ERROR.
"""

import math
from dataclasses import dataclass

import numpy as np

from heart.drift.baseline import MIN_CELL_COUNT
from heart.ml.label_free import contradiction
from heart.predictions.log import PredictionLog
from heart.registry.model_version import Model
from heart.schema import OUTCOME

ERROR = 0.01


@dataclass(frozen=True)
class EstimateCheck:
    """The Brier score on predictions with an outcome, the one that their risks imply, and the evidence.

    `evidence_ratio` is the evidence that they differ over the threshold of the alarm: an alarm from 1 on.
    """

    labels: int
    brier: float
    expected_brier: float
    evidence_ratio: float

    @property
    def contradicted(self) -> bool:
        """Whether the outcomes contradict the estimate."""
        return self.evidence_ratio >= 1


def check_estimate(log: PredictionLog, model: Model) -> EstimateCheck | None:
    """Compare the outcomes of a version with its risks; None for too few. Raises LogUnavailable."""
    columns = log.labelled(model.version)
    labels = len(columns["outcome"])
    if labels < MIN_CELL_COUNT:
        return None
    risks = np.array(columns["probability"])
    outcomes = np.array(columns["outcome"]) == OUTCOME.choices[1].name
    evidence = contradiction(risks, outcomes, model.threshold)
    return EstimateCheck(
        labels,
        float(np.mean((risks - outcomes) ** 2)),
        float(np.mean(risks * (1 - risks))),
        max(0.0, evidence / -math.log(ERROR)),
    )
