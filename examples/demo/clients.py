"""Clients of the service and the receiver: patients, outcomes, and the alert of Grafana."""

import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt

from examples.demo.patients import Patients
from examples.demo.processes import wait
from heart.schema import OUTCOME

PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Answers:
    """The answers for patients: risks [n] in their order, ids, and the version that answered."""

    risks: npt.NDArray[np.float64]
    ids: tuple[str, ...]
    version: str


class Service:
    """The service as its clients see it, each with a token of its own."""

    def __init__(self, url: str, tokens: Mapping[str, str]) -> None:
        """`tokens` are the secrets by name; `default` has all scopes."""
        self.url = url
        self._headers = {name: {"Authorization": f"Bearer {s}"} for name, s in tokens.items()}
        self._client = httpx.Client(base_url=url, timeout=60)

    def get(self, path: str) -> Any:
        """The response of a route that reports."""
        response = self._client.get(path, headers=self._headers["default"])
        return response.raise_for_status().json()

    def predict(self, patients: Patients) -> Answers:
        """Score patients in one batch."""
        body = {"patients": patients.requests()}
        answers = self._post("/predict/batch", body, "default")["predictions"]
        return Answers(
            np.array([answer["probability"] for answer in answers]),
            tuple(answer["prediction_id"] for answer in answers),
            str(answers[0]["model_version"]),
        )

    def record(self, ids: Iterable[str], outcomes: Iterable[float], sender: str) -> None:
        """Send outcomes 0 or 1 with the token of a sender, one request each."""
        for prediction_id, outcome in zip(ids, outcomes, strict=True):
            name = OUTCOME.choices[int(outcome)].name
            body = {"prediction_id": prediction_id, "outcome": name, "source": "clinician"}
            self._post("/feedback", body, sender)

    def withdraw(self, sender: str) -> int:
        """Withdraw all outcomes of a sender; their number."""
        withdrawn = self._post("/admin/outcomes/withdraw", {"sender": sender}, "default")
        return int(withdrawn["withdrawn"])

    def version(self) -> str:
        """The version that the service uses."""
        return str(self.get("/model")["version"])

    def check_drift(self) -> Any:
        """The response of GET /drift after a check of all patients that were sent until now."""
        # A check that ends from now on may have read the log before; the one after it has not.
        last = time.time()
        for _ in range(2):
            wait(partial(self._checked_since, last), "the next drift check ends")
            last = self._last_check()
        return self.get("/drift")

    def stream(self, patients: Patients) -> "Stream":
        """A stream of single patients."""
        return Stream(self.url, self._headers["default"], patients)

    def _checked_since(self, moment: float) -> bool:
        return self._last_check() > moment

    def _last_check(self) -> float:
        text = self._client.get("/metrics").raise_for_status().text
        match = re.search(r"^heart_drift_last_run_timestamp_seconds (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def _post(self, path: str, body: Any, token: str) -> Any:
        response = self._client.post(path, json=body, headers=self._headers[token])
        return response.raise_for_status().json()


class Stream:
    """A thread that sends patients without outcomes while the champion changes.

    `failures` are requests whose response was not 200, `versions` the answering versions in their order.
    """

    def __init__(self, url: str, headers: dict[str, str], patients: Patients) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self.versions: list[str] = []
        self._client = httpx.Client(base_url=url, headers=headers, timeout=30)
        self._patients = cycle(patients.requests())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def _send(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            try:
                response = self._client.post("/predict", json=next(self._patients))
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if response.status_code != httpx.codes.OK:
                self.failures.append(f"status {response.status_code}")
                continue
            self.answered += 1
            version = response.json()["model_version"]
            if self.versions[-1:] != [version]:
                self.versions.append(version)


class Receiver:
    """The receiver of alerts as Grafana sees it."""

    def __init__(self, url: str, token: str, secret: str) -> None:
        self._secret = secret
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=30)

    def alert(self, version: str, ratios: Mapping[str, float]) -> Any:
        """Send an alert on drifted features, in the format and with the signature of Grafana; the response."""
        body = json.dumps(notification(version, ratios)).encode()
        now = str(int(time.time()))
        signed = f"{now}:".encode() + body
        headers = {
            "Content-Type": "application/json",
            "X-Grafana-Alerting-Signature": hmac.new(
                self._secret.encode(), signed, hashlib.sha256
            ).hexdigest(),
            "X-Grafana-Alerting-Timestamp": now,
        }
        response = self._client.post("/hooks/grafana", content=body, headers=headers)
        return response.raise_for_status().json()

    def run(self) -> Any:
        """The newest retraining; its `result` is null as long as it runs."""
        return self._client.get("/status").raise_for_status().json()["runs"][0]


def notification(version: str, ratios: Mapping[str, float]) -> dict[str, Any]:
    """The body that Grafana's contact point `retraining` sends for drifted features."""
    labels = {"alertname": "Feature drift", "route": "drift", "model_version": version}
    start = datetime.now(UTC).isoformat()
    alerts = [
        {
            "status": "firing",
            "labels": {**labels, "feature": name},
            "startsAt": start,
            "values": {"A": ratio},
        }
        for name, ratio in ratios.items()
    ]
    group = {"route": "drift", "model_version": version}
    key = f'{{}}/{{route="drift"}}:{{model_version="{version}", route="drift"}}'
    return {
        "receiver": "retraining",
        "status": "firing",
        "alerts": alerts,
        "groupLabels": group,
        "groupKey": key,
    }
