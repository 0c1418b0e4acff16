"""Who talks to the service and the receiver: patients, one after the other, and Grafana."""

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
    """Patients who go on coming while the model changes under them; without outcomes.

    `failures` are requests that were not answered with 200, `versions` who answered, in their order.
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
                    answer = client.post("/predict", json=next(self._patients))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code != httpx.codes.OK:
                    self.failures.append(f"{answer.status_code}: {answer.text[:200]}")
                    continue
                self.answered += 1
                version = answer.json()["model_version"]
                if self.versions[-1:] != [version]:
                    self.versions.append(version)


def ask(client: httpx.Client, patients: Patients, tell: bool = False) -> Iterator[float]:
    """The risk of each patient, one request each; with `tell`, the outcome is told afterwards."""
    for patient, outcome in patients:
        answer = client.post("/predict", json=patient).raise_for_status().json()
        if tell:
            known = {"prediction_id": answer["prediction_id"], "outcome": outcome}
            client.post("/feedback", json={**known, "source": "clinician"}).raise_for_status()
        yield answer["probability"]


def ill(patients: Patients) -> list[float]:
    """1 for patients who turned out to have the disease, 0 for the others."""
    return [float(outcome == OUTCOME.choices[1].name) for _, outcome in patients]


def send_alert(
    client: httpx.Client, token: str, secret: str, version: str, features: list[str]
) -> httpx.Response:
    """An alert on drifted features, signed and formed as Grafana's contact point `retraining` sends it."""
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
