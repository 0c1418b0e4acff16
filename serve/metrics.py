"""What Prometheus sees of the service. No value of a patient, and nothing that could be one."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schema import NAMES, OUTCOME
from serve.errors import Kind
from serve.log import LogUnavailable

if TYPE_CHECKING:
    from serve.service import Service

LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
RISKS = tuple(step / 10 for step in range(1, 11))
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
        self.refused = Counter(
            "heart_requests_refused", "Requests refused for load", registry=registry
        )
        self.predictions = Counter(
            "heart_predictions", "Predictions", ["model_version", "prediction"], registry=registry
        )
        self.risk = Histogram(
            "heart_predicted_probability_ratio",
            "Predicted probability of presence",
            ["model_version"],
            buckets=RISKS,
            registry=registry,
        )
        self.missing = Counter(
            "heart_missing_measurements", "Not given", ["field"], registry=registry
        )
        self.out_of_range = Counter(
            "heart_out_of_training_range", "Unlike training", ["field"], registry=registry
        )
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
        self._known_series()

    def _known_series(self) -> None:
        """Series start at 0: a rate over a counter that appears at 1 misses its first event."""
        for name in NAMES:
            self.missing.labels(name)
            self.out_of_range.labels(name)
        for choice in OUTCOME.choices:
            for source in ("angiography", "clinician", "registry"):
                self.feedback.labels(choice.name, source)

    def committed(self, rows: int, seconds: float) -> None:
        """Count a commit of the log."""
        self.commit_rows.observe(rows)
        self.commit_latency.observe(seconds)

    def predicted(
        self,
        version: str,
        risks: Iterable[float],
        positive: int,
        negative: int,
        missing: Iterable[str],
        unusual: Iterable[str],
    ) -> None:
        """Count the answers of one request."""
        histogram = self.risk.labels(version)
        for risk in risks:
            histogram.observe(risk)
        self.predictions.labels(version, "presence").inc(positive)
        self.predictions.labels(version, "absence").inc(negative)
        for name in missing:
            self.missing.labels(name).inc()
        for name in unusual:
            self.out_of_range.labels(name).inc()


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
        yield CounterMetricFamily("heart_log_commits", "Commits of the log", stats.commits)
        yield CounterMetricFamily("heart_log_rows", "Rows written to the log", stats.rows)
        yield CounterMetricFamily("heart_log_failures", "Commits that failed", stats.failures)
        yield from self._labelled()

    def _champion(self) -> Iterator[Metric]:
        champion = self.service.champion
        model = champion.current
        if model is not None:
            labels = {"version": model.version, "sha256": model.sha256}
            yield InfoMetricFamily("heart_champion", "The model that answers", value=labels)
            yield GaugeMetricFamily(
                "heart_champion_from_cache", "1 while unconfirmed by the registry", model.from_cache
            )
        yield CounterMetricFamily("heart_champion_reloads", "Models taken up", champion.reloads)
        refusals = CounterMetricFamily("heart_champion_refusals", "Models refused", labels=["kind"])
        for kind in get_args(Kind):
            refusals.add_metric([kind], champion.refusals[kind])
        yield refusals
        yield CounterMetricFamily(
            "heart_registry_failures",
            "Looks into the registry that failed",
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
        for name, help_text in (("accuracy", "Share of right answers"), ("roc_auc", "ROC AUC")):
            gauge = GaugeMetricFamily(
                f"heart_labelled_{name}_ratio",
                f"{help_text} among labelled answers",
                labels=["model_version"],
            )
            gauge.add_metric([model.version], found[name])
            yield gauge
