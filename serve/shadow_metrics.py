"""What Prometheus sees of the versions beside the champion: the challenger's shadow, and the guard."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heart.predictions.log import LogUnavailable
from serve.guard import Guard
from serve.service import Service

VERSION = ["model_version"]


class RivalCollector(Collector):
    """Asked at each scrape. No figure is over fewer patients than could hide one."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield from self._shadow()
        yield from self._compared()
        yield from self._judged()

    def _shadow(self) -> Iterator[Metric]:
        shadow, challenger = self._service.shadow, self._service.champion.challenger.current
        rows = CounterMetricFamily(
            "heart_shadow_rows", "Rows scored by a challenger", labels=VERSION
        )
        for version in shadow.rows.keys() | ({challenger.version} if challenger else ()):
            rows.add_metric([version], shadow.rows[version])
        yield rows
        yield CounterMetricFamily(
            "heart_shadow_dropped",
            "Rows that a challenger did not score, because its queue was full or it failed",
            shadow.dropped,
        )

    def _compared(self) -> Iterator[Metric]:
        model = self._service.champion.current
        try:
            found = self._service.shadowed() if model else None
        except LogUnavailable:
            return
        if model is None or found is None:
            return
        for name, help_text in (
            ("difference_mean", "Mean difference of the risks, challenger minus champion"),
            (
                "disagreement_ratio",
                "Share of patients for whom challenger and champion predict different outcomes",
            ),
        ):
            if found[name] is not None:
                gauge = GaugeMetricFamily(f"heart_shadow_{name}", help_text, labels=VERSION)
                gauge.add_metric([found["version"]], found[name])
                yield gauge
        for name, help_text in (
            ("accuracy", "Accuracy of champion and challenger on the same patients"),
            ("brier", "Brier score of champion and challenger on the same patients"),
        ):
            gauge = GaugeMetricFamily(
                f"heart_shadow_labelled_{name}_ratio", help_text, labels=VERSION
            )
            for role, version in (("champion", model.version), ("challenger", found["version"])):
                if found[f"{role}_{name}"] is not None:
                    gauge.add_metric([version], found[f"{role}_{name}"])
            if gauge.samples:
                yield gauge

    def _judged(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "heart_guard_rollbacks", "Automatic rollbacks", self._guard.rollbacks
        )
        found = self._guard.judgement
        if found is None:
            return
        for name, help_text, value in (
            (
                "labels",
                "Recorded outcomes on which champion and previous version are compared",
                found.labels,
            ),
            (
                "worse_ratio",
                "Statistic of the champion guard over its threshold",
                found.worse_ratio,
            ),
            (
                "alarm",
                "1 while the champion is significantly worse than the version before it",
                found.alarm,
            ),
        ):
            gauge = GaugeMetricFamily(f"heart_guard_{name}", help_text, labels=VERSION)
            gauge.add_metric([found.champion], value)
            yield gauge
