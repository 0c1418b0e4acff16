"""Clients of the service and the receiver: patients, and the alert of Grafana."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Self

import httpx

from heart.schema import OUTCOME

PAUSE_SECONDS = 0.05

Patients = list[tuple[dict[str, Any], str]]


class Stream:
    """A thread that sends patients without outcomes while the champion changes.

    `failures` are requests whose response was not 200, `versions` the answering versions in their order.
    """

    def __init__(self, url: str, patients: Patients) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self.versions: list[str] = []
        self._url = url
        self._patients = cycle(patient for patient, _ in patients)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopped.wait(PAUSE_SECONDS):
                try:
                    response = client.post("/predict", json=next(self._patients))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if response.status_code != httpx.codes.OK:
                    self.failures.append(f"{response.status_code}: {response.text[:200]}")
                    continue
                self.answered += 1
                version = response.json()["model_version"]
                if self.versions[-1:] != [version]:
                    self.versions.append(version)


def predict_all(client: httpx.Client, patients: Patients, record: bool = False) -> Iterator[float]:
    """The risk of each patient, by one request each; with `record`, the outcome is sent afterwards."""
    for patient, outcome in patients:
        answer = client.post("/predict", json=patient).raise_for_status().json()
        if record:
            outcome_of = {"prediction_id": answer["prediction_id"], "outcome": outcome}
            client.post("/feedback", json={**outcome_of, "source": "clinician"}).raise_for_status()
        yield answer["probability"]


def outcomes_of(patients: Patients) -> list[float]:
    """1 for patients with presence, 0 for those with absence."""
    return [float(outcome == OUTCOME.choices[1].name) for _, outcome in patients]


def send_alert(
    client: httpx.Client, token: str, secret: str, version: str, features: list[str]
) -> httpx.Response:
    """An alert on drifted features, with the format and signature of Grafana's contact point `retraining`."""
    labels = {"alertname": "Feature drift", "route": "drift", "model_version": version}
    start = datetime.now(UTC).isoformat()
    alerts = [
        {"status": "firing", "labels": {**labels, "feature": name}, "startsAt": start}
        for name in features
    ]
    group = {"route": "drift", "model_version": version}
    key = f'{{}}/{{route="drift"}}:{{model_version="{version}", route="drift"}}'
    notification = {"receiver": "retraining", "status": "firing", "alerts": alerts}
    body = json.dumps({**notification, "groupLabels": group, "groupKey": key}).encode()
    now = str(int(time.time()))
    signature = hmac.new(secret.encode(), f"{now}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "X-Grafana-Alerting-Signature": signature,
        "X-Grafana-Alerting-Timestamp": now,
    }
    return client.post("/hooks/grafana", content=body, headers=headers)
