"""The metrics of the drift check: ratios and counts of patients, never the value of a patient."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heart.ml.label_free import FIGURES
from monitoring.estimated import EstimatedPerformance
from monitoring.monitor import DriftMonitor

TITLES = dict(zip(FIGURES, ("accuracy", "Brier score", "ROC AUC"), strict=True))


class DriftCollector(Collector):
    """The newest drift check as metrics; below the minimum of patients only their number."""

    def __init__(self, monitor: DriftMonitor) -> None:
        self._monitor = monitor

    def describe(self) -> Iterator[Metric]:
        """Nothing: the metrics depend on the newest check."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        snapshot = self._monitor.snapshot
        ratio = GaugeMetricFamily(
            "heart_drift_ratio",
            "Largest drift statistic over its threshold; above 1 is drift",
            labels=["feature", "model_version"],
        )
        rows = GaugeMetricFamily(
            "heart_drift_window_rows", "Patients in the drift check", labels=["model_version"]
        )
        minimum = GaugeMetricFamily(
            "heart_drift_minimum_rows", "Patients that a drift check requires", labels=[]
        )
        last_run = GaugeMetricFamily(
            "heart_drift_last_run_timestamp_seconds",
            "Time of the last drift check that succeeded",
            labels=[],
        )
        if snapshot is not None:
            for name, finding in snapshot.report.features.items():
                ratio.add_metric([name, snapshot.version], finding.ratio)
            rows.add_metric([snapshot.version], snapshot.report.window_rows)
            minimum.add_metric([], snapshot.report.minimum_rows)
        if self._monitor.last_run is not None:
            last_run.add_metric([], self._monitor.last_run)
        yield from (ratio, rows, minimum, last_run)
        yield CounterMetricFamily(
            "heart_drift_failures", "Drift checks that failed", self._monitor.failures
        )
        yield from _estimated(self._monitor.estimate)


def _estimated(estimate: EstimatedPerformance | None) -> Iterator[Metric]:
    for name, title in TITLES.items():
        gauge = GaugeMetricFamily(
            f"heart_estimated_{name}_ratio",
            f"Estimated {title} on the patients in the drift check, without outcomes; 95 % from low to high",
            labels=["model_version", "bound"],
        )
        figure = estimate and estimate.figures[name]
        if estimate and figure:
            for bound in ("value", "low", "high"):
                gauge.add_metric([estimate.version, bound], getattr(figure, bound))
        yield gauge
