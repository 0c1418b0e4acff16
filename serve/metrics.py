"""What Prometheus sees of the service. No value of a patient, and nothing that could be one."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from heart.predictions.log import LogUnavailable
from heart.predictions.tables import SOURCES
from heart.registry.errors import Kind
from heart.schema import NAMES, OUTCOME
from serve.model_manager import Event

if TYPE_CHECKING:
    from serve.service import Service

LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
RISKS = tuple(step / 10 for step in range(1, 11))
TURNED_AWAY = "refused"  # the route of what was refused before it had one
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
            "Time from a request to its response",
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
            "heart_requests_refused", "Requests rejected for load", registry=registry
        )
        self.predicted = Predicted()
        registry.register(self.predicted)
        self.commit_rows = Histogram(
            "heart_log_commit_rows",
            "Rows in a commit of the log",
            buckets=ROWS,
            registry=registry,
        )
        self.commit_latency = Histogram(
            "heart_log_commit_duration_seconds",
            "Time of a commit of the log",
            buckets=LATENCIES,
            registry=registry,
        )
        self.feedback = Counter(
            "heart_feedback", "Outcomes recorded", ["outcome", "source"], registry=registry
        )
        self.erasures = Counter("heart_erasures", "Predictions erased", registry=registry)
        self.out_of_range = Counter(
            "heart_data_out_of_range",
            "Values rejected: outside the schema's bounds, units or categories",
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
            self._answers(method, TURNED_AWAY, 503)

    def refused_values(self, names: Iterable[str]) -> None:
        """Count values that the schema does not allow, each by the name of its measurement."""
        for name, count in Counts(names).items():
            self.out_of_range.labels(name).inc(count)

    def expect(self, method: str, route: str) -> None:
        """Start the series of a route's failures at 0, or an alert misses the first of them."""
        for status in (500, 503):
            self._answers(method, route, status)

    def turned_away(self, method: str) -> None:
        """Count a request that is refused for load before its route is looked for."""
        self.refused.inc()
        self._answers(method, TURNED_AWAY, 503).inc()

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
        self._unusual = Counts[str](dict.fromkeys(NAMES, 0))

    def start(self, version: str) -> list[int]:
        """The counts by risk of a version, from 0."""
        return self._risks.setdefault(version, [0] * len(RISKS))

    def count(
        self,
        version: str,
        answers: Sequence[Mapping[str, Any]],
        unusual: Iterable[Iterable[str]],
    ) -> None:
        """Count the answers of one request, and the numbers that are unlike the training patients'."""
        bins = self.start(version)
        for answer in answers:
            bins[bisect_left(RISKS, answer["probability"])] += 1
            self._sums[version] += answer["probability"]
        self._predictions.update((version, answer["prediction"]) for answer in answers)
        self._missing.update(chain.from_iterable(answer["missing"] for answer in answers))
        self._unusual.update(chain.from_iterable(unusual))

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
            ("heart_missing_measurements", "Measurements that were not given", self._missing),
            (
                "heart_out_of_training_range",
                "Numbers outside the range of the training patients",
                self._unusual,
            ),
        ):
            family = CounterMetricFamily(name, help_text, labels=["field"])
            for field in NAMES:
                family.add_metric([field], counts[field])
            yield family


class ServiceCollector(Collector):
    """What champion, log and labelled answers say of themselves, asked at each scrape."""

    def __init__(self, service: "Service") -> None:
        self.service = service

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield from self._champion()
        stats = self.service.log.stats
        yield CounterMetricFamily(
            "heart_log_commits", "Commits of the prediction log", stats.commits
        )
        yield CounterMetricFamily(
            "heart_log_rows", "Rows written to the prediction log", stats.rows
        )
        yield CounterMetricFamily(
            "heart_log_failures", "Commits of the prediction log that failed", stats.failures
        )
        yield from self._labelled()

    def _champion(self) -> Iterator[Metric]:
        champion = self.service.champion
        model = champion.current
        if model is not None:
            labels = {"version": model.version, "sha256": model.sha256}
            yield InfoMetricFamily(
                "heart_champion", "Version and SHA-256 of the model that answers", value=labels
            )
            yield GaugeMetricFamily(
                "heart_champion_from_cache",
                "1 while the model comes from the cache and the registry has not confirmed it",
                model.from_cache,
            )
        yield CounterMetricFamily("heart_champion_reloads", "Models loaded", champion.reloads)
        refusals = CounterMetricFamily(
            "heart_champion_refusals", "Models rejected, by the check that failed", labels=["kind"]
        )
        for kind in get_args(Kind):
            refusals.add_metric([kind], champion.refusals[kind])
        yield refusals
        yield CounterMetricFamily(
            "heart_registry_failures",
            "Polls of the registry that failed",
            champion.registry_failures,
        )

    def _labelled(self) -> Iterator[Metric]:
        """Accuracy and AUC of the champion, once there are too many labels to tell of one patient."""
        model = self.service.champion.current
        try:
            found = self.service.labelled(model.version) if model else None
        except LogUnavailable:
            return
        if model is None or found is None:
            return
        for name, help_text in (("accuracy", "Accuracy"), ("roc_auc", "ROC AUC")):
            gauge = GaugeMetricFamily(
                f"heart_labelled_{name}_ratio",
                f"{help_text} on predictions with a recorded outcome",
                labels=["model_version"],
            )
            gauge.add_metric([model.version], found[name])
            yield gauge
