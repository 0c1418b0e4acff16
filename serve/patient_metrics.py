"""What Prometheus sees of patients: counts, in blocks of at least 11 patients."""

import math
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from heart.predictions.tables import SOURCES
from heart.schema import NAMES, OUTCOME
from serve.blocks import Blocks, Counts, total

RISKS = tuple(step / 10 for step in range(1, 11))
# The alert on data quality looks as far back (monitoring/prometheus/rules.yml).
REFUSED_SECONDS = 1800
# Keys of the counts of one version's predictions, beside a measurement, a prediction or a bin.
RISK_SUM, RISK, PREDICTION, MISSING, OUT_OF_RANGE = range(5)


def tally(answers: Sequence[Mapping[str, Any]], out_of_range: Iterable[Iterable[str]]) -> Counts:
    """The counts of some answers, and of the numbers that are unlike the training patients'."""
    counts: defaultdict[Hashable, float] = defaultdict(float)
    counts[RISK_SUM] = math.fsum(answer["probability"] for answer in answers)
    for answer in answers:
        counts[RISK, bisect_left(RISKS, answer["probability"])] += 1
        counts[PREDICTION, answer["prediction"]] += 1
        for name in answer["missing"]:
            counts[MISSING, name] += 1
    for names in out_of_range:
        for name in names:
            counts[OUT_OF_RANGE, name] += 1
    return counts


class PatientMetrics(Collector):
    """Plain counts, made into metrics at a scrape: an answer takes 100 us in all, and a counter of
    prometheus_client with labels would take 20 of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._predictions: dict[str, Blocks] = {}
        self._outcomes = Blocks()
        self._refused = Blocks(REFUSED_SECONDS, clock)

    def start(self, version: str) -> Blocks:
        """The counts of a version, from 0."""
        return self._predictions.setdefault(version, Blocks())

    def predicted(self, version: str, patients: int, counts: Counts) -> None:
        """Count the predictions of a version; `counts` are those of `tally`."""
        self.start(version).add(patients, counts)

    def refused(self, patients: Iterable[Iterable[str]]) -> None:
        """Count values that the schema does not allow: the measurements of each patient with any."""
        names = [list(patient) for patient in patients]
        if names:
            self._refused.add(len(names), Counter(name for patient in names for name in patient))

    def recorded(self, outcome: str, source: str, *, replaced: bool) -> None:
        """Count an outcome. One that replaces another is of a patient who was counted before."""
        self._outcomes.add(0 if replaced else 1, Counter([(outcome, source)]))

    def collect(self) -> Iterator[Metric]:
        """The metrics of what is published."""
        published = {version: b.published for version, b in list(self._predictions.items())}
        yield from _predictions(published)
        counts = total(published.values())
        missing = ("heart_missing_measurements", "Measurements not given", "field")
        unlike = ("heart_out_of_training_range", "Numbers unlike training", "field")
        refused = (
            "heart_data_out_of_range",
            "Values refused: outside the schema's bounds, units or categories",
            "feature",
        )
        yield _by_measurement(*missing, {name: counts[MISSING, name] for name in NAMES})
        yield _by_measurement(*unlike, {name: counts[OUT_OF_RANGE, name] for name in NAMES})
        yield _by_measurement(*refused, self._refused.published)
        outcomes = self._outcomes.published
        family = CounterMetricFamily(
            "heart_feedback", "Outcomes recorded", labels=["outcome", "source"]
        )
        for choice in OUTCOME.choices:
            for source in SOURCES:
                family.add_metric([choice.name, source], outcomes.get((choice.name, source), 0))
        yield family


def _by_measurement(
    name: str, help_text: str, label: str, counts: Mapping[Any, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for measurement in NAMES:
        family.add_metric([measurement], counts.get(measurement, 0))
    return family


def _predictions(published: Mapping[str, Counts]) -> Iterator[Metric]:
    made = CounterMetricFamily(
        "heart_predictions", "Predictions", labels=["model_version", "prediction"]
    )
    risks = HistogramMetricFamily(
        "heart_predicted_probability_ratio",
        "Predicted probability of presence",
        labels=["model_version"],
    )
    for version, counts in published.items():
        for choice in OUTCOME.choices:
            made.add_metric([version, choice.name], counts.get((PREDICTION, choice.name), 0))
        bins = [int(counts.get((RISK, position), 0)) for position in range(len(RISKS))]
        upto = zip(map(floatToGoString, RISKS), accumulate(bins), strict=True)
        risks.add_metric([version], [*upto, ("+Inf", sum(bins))], counts.get(RISK_SUM, 0.0))
    yield made
    yield risks
