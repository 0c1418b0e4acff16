"""Metrics that are read from parts of the service at each scrape.

No figure is over so few patients that it could identify one.
"""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heart.predictions.log import LogUnavailable
from heart.registry.errors import Kind
from serve.blocks import Figures
from serve.guard import ChampionGuard
from serve.service import Service

VERSION = ["model_version"]


class ServiceCollector(Collector):
    """What champion, log and labelled answers say of themselves, asked at each scrape."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._figures = Figures()

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
        """Accuracy and AUC of the champion, once there are enough labels, and then in steps."""
        model = self.service.champion.current
        try:
            found = self.service.labelled(model.version) if model else None
        except LogUnavailable:
            return
        if model is None or found is None:
            return
        found = self._figures.published(model.version, int(found["labels"]), found)
        for name, help_text in (("accuracy", "Share of right answers"), ("roc_auc", "ROC AUC")):
            gauge = GaugeMetricFamily(
                f"heart_labelled_{name}_ratio",
                f"{help_text} among labelled answers",
                labels=["model_version"],
            )
            gauge.add_metric([model.version], found[name])
            yield gauge


class ShadowCollector(Collector):
    """Asked at each scrape. No figure is over fewer patients than could hide one, nor does it change by
    fewer; that there is an alarm is told at once.
    """

    def __init__(self, service: Service, guard: ChampionGuard) -> None:
        self._service = service
        self._guard = guard
        self._figures = Figures()

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
            "heart_shadow_rows", "Rows that a challenger scored", labels=VERSION
        )
        for version in shadow.rows.keys() | ({challenger.version} if challenger else ()):
            rows.add_metric([version], shadow.rows[version])
        yield rows
        yield CounterMetricFamily(
            "heart_shadow_dropped",
            "Rows that a challenger was to score and did not",
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
        versions = (model.version, found["version"])
        rows = self._service.shadow.rows[found["version"]]
        for name, help_text in (
            ("difference_mean", "By how much the challenger's risks are higher in the mean"),
            ("disagreement_ratio", "Share of patients for whom the challenger predicts another"),
        ):
            if found[name] is not None:
                figure = self._figures.published((name, *versions), rows, found[name])
                gauge = GaugeMetricFamily(f"heart_shadow_{name}", help_text, labels=VERSION)
                gauge.add_metric([found["version"]], figure)
                yield gauge
        for name, help_text in (
            ("accuracy", "Share of right answers of both, same patients"),
            ("brier", "Brier score of both, same patients"),
        ):
            gauge = GaugeMetricFamily(
                f"heart_shadow_labelled_{name}_ratio", help_text, labels=VERSION
            )
            for score, version in zip(
                (f"champion_{name}", f"challenger_{name}"), versions, strict=True
            ):
                if found[score] is not None:
                    key = (score, *versions)
                    figure = self._figures.published(key, found["labels"], found[score])
                    gauge.add_metric([version], figure)
            if gauge.samples:
                yield gauge

    def _judged(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "heart_guard_rollbacks", "Champions that were taken back", self._guard.rollbacks
        )
        found = self._guard.judgement
        if found is None:
            return
        key = (found.champion, found.fallback)
        worse_ratio = self._figures.published(key, found.labels, found.worse_ratio)
        for name, help_text, value in (
            ("labels", "Labelled answers that the guard compares on", found.labels),
            (
                "worse_ratio",
                "Evidence that the champion is worse, over its limit",
                worse_ratio,
            ),
            ("alarm", "1 while the champion is worse than the version before it", found.alarm),
        ):
            gauge = GaugeMetricFamily(f"heart_guard_{name}", help_text, labels=VERSION)
            gauge.add_metric([found.champion], value)
            yield gauge
