"""The metrics of the receiver."""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from monitoring.retraining.webhook.runs import RESULTS

Answer = Literal["started", "seen", "running", "cooling_down", "ignored", "rejected", "unavailable"]


class Metrics:
    """The metrics of one receiver, in a registry of their own. Known series start at 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.hooks = Counter(
            "heart_retrain_hooks",
            "Alerts received, by response",
            ["response"],
            registry=self.registry,
        )
        self.running = Gauge(
            "heart_retrain_running", "1 while a retraining runs", registry=self.registry
        )
        self.runs = Counter(
            "heart_retrain_runs", "Retrainings that ended", ["result"], registry=self.registry
        )
        self.last_run = Gauge(
            "heart_retrain_last_run_timestamp_seconds",
            "End of the last retraining with this result, 0 if there was none",
            ["result"],
            registry=self.registry,
        )
        for answer in get_args(Answer):
            self.hooks.labels(answer)
        for result in RESULTS:
            self.runs.labels(result)
            self.last_run.labels(result)
