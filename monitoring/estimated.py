"""The performance that the risks of the last patients imply, without outcomes (`heart/ml/label_free.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from heart.ml.label_free import Estimate, estimate
from heart.registry.model_version import Model
from heart.schema import Floats

SEED = 0
# Windows differ by fewer patients than a score may describe: two of them must not reveal the risks of those.
DIGITS = 2


@dataclass(frozen=True)
class EstimatedPerformance:
    """The estimated scores of a version on the patients of a window, rounded; None where there is none."""

    version: str
    patients: int
    figures: Mapping[str, Estimate | None]
    scores: Floats = field(
        repr=False, compare=False
    )  # in memory only, to recognize the same window


def estimated(
    model: Model, scores: Floats, previous: EstimatedPerformance | None
) -> EstimatedPerformance:
    """The estimate for patients with these scores [n]; the previous one if it is for the same patients."""
    if previous and previous.version == model.version and np.array_equal(previous.scores, scores):
        return previous
    figures = {
        name: figure and _rounded(figure)
        for name, figure in estimate(scores, model.threshold, SEED).items()
    }
    return EstimatedPerformance(model.version, len(scores), figures, scores)


def _rounded(figure: Estimate) -> Estimate:
    return Estimate(*(round(value, DIGITS) for value in (figure.value, figure.low, figure.high)))
