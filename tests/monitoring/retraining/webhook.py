"""Alerts as Grafana sends them, and a receiver's settings."""

import hashlib
import hmac
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from monitoring.retraining.webhook.runs import Runs
from monitoring.retraining.webhook.settings import RetrainerSettings
from tests.monitoring.configuration import ROOT
from tests.monitoring.stack import running, until
from tests.processes import free_port

TOKEN = "bearer-of-the-tests"
SECRET = "secret-of-the-tests"
COMMAND = [sys.executable, "-m", "monitoring.retraining.webhook"]
STAND_IN = Path(__file__).with_name("stand_in.py")
GROUP = '{}/{route="drift"}:{model_version="3", route="drift"}'
START = "2026-11-25T10:00:00Z"


def settings(folder: Path, code: int = 0, *words: str, **changes: Any) -> RetrainerSettings:
    """Settings of a receiver whose retrainings wait for the file `go` in the folder."""
    values = {
        "token": TOKEN,
        "secret": SECRET,
        "command": shlex.join([sys.executable, str(STAND_IN), str(folder), str(code), *words]),
        "folder": folder / "state",
        "allowed_hosts": ["testserver"],
        "cooldown_seconds": 0,
        "_env_file": None,
    }
    return RetrainerSettings(**{**values, **changes})


def of_process(folder: Path, port: int, command: str) -> dict[str, str]:
    """The settings of a receiver as variables of the environment."""
    return {
        "PYTHONPATH": str(ROOT),
        "HEART_RETRAIN_TOKEN": TOKEN,
        "HEART_RETRAIN_SECRET": SECRET,
        "HEART_RETRAIN_PORT": str(port),
        "HEART_RETRAIN_FOLDER": str(folder / "state"),
        "HEART_RETRAIN_COMMAND": command,
        "HEART_RETRAIN_COOLDOWN_SECONDS": "0",
    }


@contextmanager
def receiving(folder: Path, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A receiver whose retraining does nothing, with a run of an hour ago."""
    runs = Runs(folder / "state", lambda: time.time() - 3600)
    runs.end(runs.begin([], "drift: an alert"), 0, "done", "")
    runs.close()
    port = free_port()
    settings = of_process(folder, port, "true")
    url = f"http://127.0.0.1:{port}"
    with running(COMMAND, folder, {**environment, **settings}, url, "/health/live") as (_, client):
        yield client


def alert(start: str = START, feature: str = "thallium", status: str = "firing") -> dict[str, Any]:
    return {
        "status": status,
        "labels": {
            "alertname": "Feature drift",
            "feature": feature,
            "model_version": "3",
            "route": "drift",
        },
        "annotations": {"summary": f"{feature}: 3.1 times its limit"},
        "startsAt": start,
        "endsAt": "0001-01-01T00:00:00Z",
        "values": {"A": 3.1},
        "generatorURL": "http://grafana.example/alerting/grafana/heart-feature-drift/view",
        "fingerprint": "6d0f5bf6cbd7c1f2",
    }


def body(*alerts: dict[str, Any], group: str = GROUP) -> bytes:
    """A notification about alerts, by default one about thallium."""
    items = list(alerts or [alert()])
    firing = any(item["status"] == "firing" for item in items)
    notification = {
        "receiver": "retraining",
        "status": "firing" if firing else "resolved",
        "orgId": 1,
        "alerts": items,
        "groupLabels": {"route": "drift", "model_version": "3"},
        "version": "1",
        "groupKey": group,
        "truncatedAlerts": 0,
        "title": "Drift detected: thallium",
        "state": "alerting" if firing else "ok",
        "message": "...",
    }
    return json.dumps(notification).encode()


def headers(content: bytes, timestamp: str | None = None, **changes: str | None) -> dict[str, str]:
    """Grafana's headers of a body; names of changed ones have underscores, None leaves a header out."""
    timestamp = timestamp or str(int(time.time()))
    message = timestamp.encode() + b":" + content
    values = {
        "authorization": f"Bearer {TOKEN}",
        "content_type": "application/json",
        "x_grafana_alerting_timestamp": timestamp,
        "x_grafana_alerting_signature": hmac.new(
            SECRET.encode(), message, hashlib.sha256
        ).hexdigest(),
        **changes,
    }
    return {n.replace("_", "-"): value for n, value in values.items() if value is not None}


def send(client: Any, content: bytes | None = None, **changes: Any) -> Any:
    """The response to a notification."""
    content = body() if content is None else content
    return client.post("/hooks/grafana", content=content, headers=headers(content, **changes))


def status(client: Any) -> Any:
    answer = client.get("/status", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return answer.json()


def started(folder: Path) -> list[str]:
    """The arguments and environment of each started stand-in."""
    return [path.read_text() for path in sorted(folder.glob("started-*"))]


def ended(client: Any) -> Any:
    """The last run, once none runs."""

    def last() -> Any:
        now = status(client)
        return not now["running"] and now["runs"]

    return until(last, pause=0.01)[0]


def let_go(folder: Path) -> None:
    """Make the stand-ins of a folder end."""
    (folder / "go").touch()
