"""What Prometheus sees of the service. No value of a patient, and nothing that could be one."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from heart.predictions.tables import SOURCES
from heart.schema import NAMES, OUTCOME
from serve.model_manager import Event

LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
RISKS = tuple(step / 10 for step in range(1, 11))
SHED = "refused"  # the route of what was refused before it had one
ROWS = (1, 2, 5, 10, 20, 50, 100, 1000, 10_000)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "heart_requests", "Answered requests", ["method", "route", "status"], registry=registry
        )
        self.latency = Histogram(
            "heart_request_duration_seconds",
            "Time from a request to its answer",
            ["route"],
            buckets=LATENCIES,
            registry=registry,
        )
        # Looking a series up by its labels takes longer than counting.
        self._answers = cache(
            lambda method, route, status: self.requests.labels(method, route, str(status))
        )
        self._latencies = cache(self.latency.labels)
        self.refused = Counter(
            "heart_requests_refused", "Requests refused for load", registry=registry
        )
        self.predicted = Predicted()
        registry.register(self.predicted)
        self.commit_rows = Histogram(
            "heart_log_commit_rows", "Rows a commit", buckets=ROWS, registry=registry
        )
        self.commit_latency = Histogram(
            "heart_log_commit_duration_seconds",
            "Time of a commit",
            buckets=LATENCIES,
            registry=registry,
        )
        self.feedback = Counter(
            "heart_feedback", "Outcomes recorded", ["outcome", "source"], registry=registry
        )
        self.erasures = Counter("heart_erasures", "Predictions erased", registry=registry)
        self.out_of_range = Counter(
            "heart_data_out_of_range",
            "Values refused: outside the schema's bounds, units or categories",
            ["feature"],
            registry=registry,
        )
        self._known_series()

    def _known_series(self) -> None:
        """Series start at 0: a rate over a counter that appears at 1 misses its first event."""
        for choice in OUTCOME.choices:
            for source in SOURCES:
                self.feedback.labels(choice.name, source)
        for name in NAMES:
            self.out_of_range.labels(name)
        for method in ("DELETE", "POST"):
            self._answers(method, SHED, 503)

    def count_rejected_values(self, patients: Iterable[Iterable[str]]) -> None:
        """Count values that the schema does not allow: the measurements of each patient with any."""
        for name, count in Counts(chain.from_iterable(patients)).items():
            self.out_of_range.labels(name).inc(count)

    def expect(self, method: str, route: str) -> None:
        """Start the series of a route's failures at 0, or an alert misses the first of them."""
        for status in (500, 503):
            self._answers(method, route, status)

    def shed(self, method: str) -> None:
        """Count a request that is refused for load before its route is looked for."""
        self.refused.inc()
        self._answers(method, SHED, 503).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._answers(method, route, status).inc()
        self._latencies(route).observe(seconds)

    def reported(self, event: Event, detail: str) -> None:
        """Take an event of the champion: the series of a version start when it is loaded."""
        if event == "loaded":
            self.predicted.start(detail)

    def committed(self, rows: int, seconds: float) -> None:
        """Count a commit of the log."""
        self.commit_rows.observe(rows)
        self.commit_latency.observe(seconds)


class Predicted(Collector):
    """What was predicted. Plain sums, made into metrics at a scrape: an answer takes 100 us in all,
    and a counter with labels would take 20 of them.

    Only the event loop counts; a scrape in another thread may miss the answer of this moment.
    """

    def __init__(self) -> None:
        self._predictions: Counts[tuple[str, str]] = Counts()
        self._risks: dict[str, list[int]] = {}
        self._sums: Counts[str] = Counts()
        self._missing = Counts[str](dict.fromkeys(NAMES, 0))
        self._outside_training_range = Counts[str](dict.fromkeys(NAMES, 0))

    def start(self, version: str) -> list[int]:
        """The counts by risk of a version, from 0."""
        return self._risks.setdefault(version, [0] * len(RISKS))

    def count(
        self,
        version: str,
        answers: Sequence[Mapping[str, Any]],
        outside_training_range: Iterable[Iterable[str]],
    ) -> None:
        """Count the answers of one request, and the numbers that are unlike the training patients'."""
        bins = self.start(version)
        for answer in answers:
            bins[bisect_left(RISKS, answer["probability"])] += 1
            self._sums[version] += answer["probability"]
        self._predictions.update((version, answer["prediction"]) for answer in answers)
        self._missing.update(chain.from_iterable(answer["missing"] for answer in answers))
        self._outside_training_range.update(chain.from_iterable(outside_training_range))

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        made = CounterMetricFamily(
            "heart_predictions", "Predictions", labels=["model_version", "prediction"]
        )
        risks = HistogramMetricFamily(
            "heart_predicted_probability_ratio",
            "Predicted probability of presence",
            labels=["model_version"],
        )
        for version, bins in list(self._risks.items()):
            for choice in OUTCOME.choices:
                made.add_metric([version, choice.name], self._predictions[version, choice.name])
            upto = zip(map(floatToGoString, RISKS), accumulate(bins), strict=True)
            buckets = [*upto, ("+Inf", sum(bins))]
            risks.add_metric([version], buckets, self._sums[version])
        yield made
        yield risks
        for name, help_text, counts in (
            ("heart_missing_measurements", "Measurements not given", self._missing),
            (
                "heart_out_of_training_range",
                "Numbers unlike training",
                self._outside_training_range,
            ),
        ):
            family = CounterMetricFamily(name, help_text, labels=["field"])
            for field in NAMES:
                family.add_metric([field], counts[field])
            yield family
