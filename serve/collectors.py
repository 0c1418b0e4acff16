"""Metrics that are computed at each scrape, from the model manager, the log, the shadow scorer and the guard.

No score covers fewer than MIN_CELL_COUNT patients or changes by fewer: otherwise it could identify one.
"""

from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heart.predictions.log import LogUnavailable
from heart.registry.errors import Kind
from serve.blocks import SteppedScores
from serve.guard import ChampionGuard
from serve.service import Service

VERSION = ["model_version"]


class ServiceCollector(Collector):
    """Metrics of the model in service, the prediction log and predictions with an outcome."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._scores = SteppedScores()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not query the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        yield from self._champion()
        stats = self.service.log.stats
        yield CounterMetricFamily("heart_log_commits", "Commits of the log", stats.commits)
        yield CounterMetricFamily("heart_log_rows", "Rows written to the log", stats.rows)
        yield CounterMetricFamily("heart_log_failures", "Commits that failed", stats.failures)
        yield from self._log_state()
        yield from self._labeled()

    def _log_state(self) -> Iterator[Metric]:
        log = self.service.log
        inspection = log.inspection
        yield GaugeMetricFamily(
            "heart_log_failing",
            "1 if a write has failed, until predictions or a readiness probe are written",
            log.writer.failed,
        )
        yield GaugeMetricFamily(
            "heart_log_damaged",
            "1 if the last check found the log's file damaged",
            bool(inspection and inspection.damage),
        )
        yield GaugeMetricFamily(
            "heart_log_purge_refused",
            "1 while no old prediction is deleted, since the system clock may be wrong",
            bool(log.purge_refusal),
        )

    def _champion(self) -> Iterator[Metric]:
        champion = self.service.champion
        model = champion.current
        if model is not None:
            labels = {"version": model.version, "sha256": model.sha256}
            yield InfoMetricFamily("heart_champion", "The model version in service", value=labels)
            yield GaugeMetricFamily(
                "heart_champion_from_cache",
                "1 while the cached version is not confirmed by the registry",
                model.from_cache,
            )
        yield CounterMetricFamily(
            "heart_champion_reloads", "Model versions put into service", champion.reloads
        )
        rejections = CounterMetricFamily(
            "heart_champion_rejections", "Model versions that failed a check", labels=["kind"]
        )
        for kind in get_args(Kind):
            rejections.add_metric([kind], champion.rejections[kind])
        yield rejections
        yield CounterMetricFamily(
            "heart_scoring_failures",
            "Requests whose patients the version in service could not score",
            champion.scoring_failures.total(),
        )
        yield CounterMetricFamily(
            "heart_registry_failures",
            "Polls of the registry that failed",
            champion.registry_failures,
        )

    def _labeled(self) -> Iterator[Metric]:
        """Accuracy and AUC of the champion, once there are enough outcomes."""
        model = self.service.champion.current
        try:
            scores = self.service.labeled_scores() if model else None
        except LogUnavailable:
            return
        if model is None:
            return
        yield from self._estimate_check(model.version)
        if scores is None:
            return
        scores = self._scores.publish(model.version, int(scores["labels"]), scores)
        for name, title in (("accuracy", "Accuracy"), ("roc_auc", "ROC AUC")):
            yield _gauge(
                f"heart_labeled_{name}_ratio",
                f"{title} on predictions with an outcome",
                model.version,
                scores[name],
            )

    def _estimate_check(self, version: str) -> Iterator[Metric]:
        """The Brier score on outcomes beside the one that the risks imply; an alarm is published at once."""
        try:
            check = self.service.estimate_check()
        except LogUnavailable:
            return
        if check is None:
            return
        shown = self._scores.publish((version, "check"), check.labels, check)
        for name, help_text, value in (
            ("labeled_brier_ratio", "Brier score on predictions with an outcome", shown.brier),
            (
                "estimate_expected_brier_ratio",
                "Brier score that the risks of the predictions with an outcome imply",
                shown.expected_brier,
            ),
            (
                "estimate_evidence_ratio",
                "Evidence that outcomes contradict the estimated performance, over the threshold of the alarm",
                shown.evidence_ratio,
            ),
            (
                "estimate_contradicted",
                "1 while outcomes contradict the estimated performance",
                check.contradicted,
            ),
        ):
            yield _gauge(f"heart_{name}", help_text, version, value)


class ShadowCollector(Collector):
    """Metrics of the challenger and of the champion guard; an alarm is published at once."""

    def __init__(self, service: Service, guard: ChampionGuard) -> None:
        self._service = service
        self._guard = guard
        self._scores = SteppedScores()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not query the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        yield from self._shadow()
        yield from self._comparison()
        yield from self._guard_result()

    def _shadow(self) -> Iterator[Metric]:
        shadow, challenger = self._service.shadow, self._service.champion.challenger.current
        rows = CounterMetricFamily(
            "heart_shadow_rows", "Rows scored by a challenger", labels=VERSION
        )
        for version in shadow.rows.keys() | ({challenger.version} if challenger else ()):
            rows.add_metric([version], shadow.rows[version])
        yield rows
        yield CounterMetricFamily(
            "heart_shadow_dropped", "Rows that a challenger did not score", shadow.dropped
        )

    def _comparison(self) -> Iterator[Metric]:
        model = self._service.champion.current
        try:
            scores = self._service.shadow_scores() if model else None
        except LogUnavailable:
            return
        if model is None or scores is None:
            return
        versions = (model.version, scores["version"])
        rows = self._service.shadow.rows[scores["version"]]
        for name, help_text in (
            ("difference_mean", "Mean of the challenger's risk minus the champion's"),
            ("disagreement_ratio", "Share of patients with different predictions"),
        ):
            if scores[name] is not None:
                value = self._scores.publish((name, *versions), rows, scores[name])
                yield _gauge(f"heart_shadow_{name}", help_text, scores["version"], value)
        yield from self._labeled_comparison(versions, scores)

    def _labeled_comparison(
        self, versions: tuple[str, str], scores: dict[str, Any]
    ) -> Iterator[Metric]:
        for name, title in (("accuracy", "Accuracy"), ("brier", "Brier score")):
            gauge = GaugeMetricFamily(
                f"heart_shadow_labeled_{name}_ratio",
                f"{title} of champion and challenger on the same patients",
                labels=VERSION,
            )
            for role, version in zip(("champion", "challenger"), versions, strict=True):
                score = scores[f"{role}_{name}"]
                if score is not None:
                    key = (role, name, *versions)
                    value = self._scores.publish(key, scores["labels"], score)
                    gauge.add_metric([version], value)
            if gauge.samples:
                yield gauge

    def _guard_result(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "heart_guard_rollbacks", "Rollbacks by the champion guard", self._guard.rollbacks
        )
        result = self._guard.result
        if result is None:
            return
        key = (result.champion, result.fallback)
        evidence = self._scores.publish(key, result.labels, result.evidence_ratio)
        for name, help_text, value in (
            ("labels", "Outcomes on which the guard compares", result.labels),
            (
                "evidence_ratio",
                "Evidence that the champion is worse, over the threshold of the alarm",
                evidence,
            ),
            ("alarm", "1 while the champion is worse than the version before it", result.alarm),
            (
                "withheld",
                "1 while the alarm depends on outcomes of a single token: a person decides",
                self._guard.withheld,
            ),
        ):
            yield _gauge(f"heart_guard_{name}", help_text, result.champion, value)


def _gauge(name: str, help_text: str, version: str, value: float) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, help_text, labels=VERSION)
    gauge.add_metric([version], value)
    return gauge
