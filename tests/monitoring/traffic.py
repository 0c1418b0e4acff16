"""Patients for a service, with every event that its metrics count."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from serve.api.models import EXAMPLE
from tests.heart.drift.snapshots import measured, send


def names(exposition: str) -> set[str]:
    """The names of all series in a scrape."""
    families = text_string_to_metric_families(exposition)
    return {sample.name for family in families for sample in family.samples}


def normal_traffic(client: Any, seed: int) -> None:
    """40 patients like those of the training, with outcomes: enough for figures on labelled predictions."""
    answers = send(client, [*measured(39, seed), {**measured(1, seed)[0], "cholesterol": 600}])
    for number, answer in enumerate(answers):
        outcome = {
            "prediction_id": answer["prediction_id"],
            "outcome": "presence" if number % 2 else "absence",
            "source": "angiography",
        }
        client.post("/feedback", json=outcome).raise_for_status()
    client.delete(f"/predictions/{answers[0]['prediction_id']}").raise_for_status()
    client.post("/predict", json=measured(1, seed + 1)[0]).raise_for_status()
    client.post("/predict", json={**EXAMPLE, "age": 1000})
