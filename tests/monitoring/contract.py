"""The metrics of the drift monitor as they are agreed, with values that a test sets, and some traffic."""

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schema import NAMES
from serve.patients import EXAMPLE

FEATURES = (*NAMES, "score")


class DriftMonitor:
    """Stands where the drift monitor will stand."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.registry = CollectorRegistry()
        labels = ["feature", "model_version"]
        self.ratio = Gauge("heart_drift_ratio", "-", labels, registry=self.registry)
        self.window = Gauge(
            "heart_drift_window_rows", "-", ["model_version"], registry=self.registry
        )
        self.minimum = Gauge("heart_drift_minimum_rows", "-", registry=self.registry)
        self.last_run = Gauge("heart_drift_last_run_timestamp_seconds", "-", registry=self.registry)
        self.out_of_range = Counter(
            "heart_data_out_of_range", "-", ["feature"], registry=self.registry
        )
        for name in NAMES:
            self.out_of_range.labels(name)
        self.window.labels(version).set(200)
        self.minimum.set(20)
        self.last_run.set(time.time())
        self.set({})

    def set(self, ratios: Mapping[str, float]) -> None:
        """Score over limit by feature; half the limit for those not given."""
        for name in FEATURES:
            self.ratio.labels(name, self.version).set(ratios.get(name, 0.5))

    def text(self) -> str:
        """What a scrape gets."""
        return generate_latest(self.registry).decode()


def names(exposition: str) -> set[str]:
    """The names of all series in a scrape."""
    families = text_string_to_metric_families(exposition)
    return {sample.name for family in families for sample in family.samples}


def some_answers(client: Any) -> None:
    """Ask for predictions, more than are needed for figures on labelled answers, and label them."""
    batch = {"patients": [EXAMPLE, {**EXAMPLE, "cholesterol": 650, "thallium": "normal"}] * 10}
    answers = client.post("/predict/batch", json=batch).json()["predictions"]
    for number, answer in enumerate(answers):
        outcome = {
            "prediction_id": answer["prediction_id"],
            "outcome": "presence" if number % 2 else "absence",
            "source": "angiography",
        }
        client.post("/feedback", json=outcome).raise_for_status()
    client.delete(f"/predictions/{answers[0]['prediction_id']}").raise_for_status()
    client.post("/predict", json=EXAMPLE).raise_for_status()
    client.post("/predict", json={**EXAMPLE, "age": 1000})
