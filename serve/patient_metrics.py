"""Metrics about patients: counts that are published in blocks of at least 11 patients."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from heart.predictions.tables import OUTCOMES, SOURCES
from heart.schema import NAMES, OUTCOME
from serve.blocks import Blocks, Counts, total

RISKS = tuple(step / 10 for step in range(1, 11))
_BINS = np.array(RISKS)
# The range of the alert on data quality (monitoring/prometheus/rules.yml).
REJECTED_SECONDS = 1800
# First parts of the keys of counts; the second is a measurement, a prediction or a bin.
RISK_SUM, RISK, PREDICTION, MISSING, OUT_OF_RANGE = range(5)


class Predicted(NamedTuple):
    """What is counted of patients that a version has scored: their risks, and rows by measurement."""

    risks: Sequence[float]
    threshold: float
    missing: Mapping[str, Sized]
    out_of_range: Mapping[str, Sized]


def tally(parts: Sequence[Predicted]) -> Counts:
    """The counts of predictions: of risks, of those with presence, and of the patients by measurement."""
    risks = np.array([risk for part in parts for risk in part.risks])
    present = int(np.count_nonzero(risks >= parts[0].threshold))  # the same for all of a version
    counts = defaultdict[Hashable, float](float)
    counts[RISK_SUM] = math.fsum(risks)
    counts[PREDICTION, OUTCOMES[1]] = present
    counts[PREDICTION, OUTCOMES[0]] = len(risks) - present
    bins = Counter(_BINS.searchsorted(risks).tolist())
    counts |= {(RISK, position): count for position, count in bins.items()}
    for part in parts:
        for name, rows in part.missing.items():
            counts[MISSING, name] += len(rows)
        for name, rows in part.out_of_range.items():
            counts[OUT_OF_RANGE, name] += len(rows)
    return counts


class PatientMetrics(Collector):
    """Plain counts, converted to metrics at a scrape: prometheus_client would take longer to count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._predictions: dict[str, Blocks[Predicted]] = {}
        self._outcomes = Blocks[Counts](total)
        self._rejected_values = Blocks[Counts](total, REJECTED_SECONDS, clock)

    def start(self, version: str) -> Blocks[Predicted]:
        """The counts of a version, which begin at 0."""
        blocks = self._predictions.get(version)
        return self._predictions.setdefault(version, Blocks(tally)) if blocks is None else blocks

    def count_predictions(self, version: str, predicted: Predicted) -> None:
        """Count the predictions of a version."""
        self.start(version).add(len(predicted.risks), predicted)

    def count_rejected_values(self, patients: Iterable[Iterable[str]]) -> None:
        """Count invalid values: the measurements with one, for each patient that has any."""
        names = [list(patient) for patient in patients]
        if names:
            self._rejected_values.add(
                len(names), Counter(name for patient in names for name in patient)
            )

    def count_outcome(self, outcome: str, source: str, *, replaced: bool) -> None:
        """Count an outcome. The patient of one that replaces another was counted before."""
        self._outcomes.add(0 if replaced else 1, {(outcome, source): 1})

    def collect(self) -> Iterator[Metric]:
        """The metrics of the published counts."""
        published = {
            version: blocks.published for version, blocks in list(self._predictions.items())
        }
        yield from _predictions(published)
        counts = total(published.values())
        yield _by_feature(
            "heart_missing_measurements",
            "Missing measurements",
            {name: counts[MISSING, name] for name in NAMES},
        )
        yield _by_feature(
            "heart_out_of_training_range",
            "Numbers outside the range of the training patients",
            {name: counts[OUT_OF_RANGE, name] for name in NAMES},
        )
        yield _by_feature(
            "heart_data_out_of_range",
            "Rejected values: outside the schema's bounds, units or categories",
            self._rejected_values.published,
        )
        yield self._outcome_counts()

    def _outcome_counts(self) -> Metric:
        outcomes = self._outcomes.published
        family = CounterMetricFamily(
            "heart_feedback", "Outcomes recorded", labels=["outcome", "source"]
        )
        for choice in OUTCOME.choices:
            for source in SOURCES:
                family.add_metric([choice.name, source], outcomes.get((choice.name, source), 0))
        return family


def _by_feature(name: str, help_text: str, counts: Mapping[Any, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=["feature"])
    for feature in NAMES:
        family.add_metric([feature], counts.get(feature, 0))
    return family


def _predictions(published: Mapping[str, Counts]) -> Iterator[Metric]:
    predictions = CounterMetricFamily(
        "heart_predictions", "Predictions", labels=["model_version", "prediction"]
    )
    risks = HistogramMetricFamily(
        "heart_predicted_probability_ratio",
        "Predicted probability of presence",
        labels=["model_version"],
    )
    for version, counts in published.items():
        for choice in OUTCOME.choices:
            predictions.add_metric([version, choice.name], counts.get((PREDICTION, choice.name), 0))
        bins = [int(counts.get((RISK, position), 0)) for position in range(len(RISKS))]
        buckets = zip(map(floatToGoString, RISKS), accumulate(bins), strict=True)
        risks.add_metric([version], [*buckets, ("+Inf", sum(bins))], counts.get(RISK_SUM, 0.0))
    yield predictions
    yield risks
