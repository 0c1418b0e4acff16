"""`python -m monitoring.retraining.status`: what the receiver of alerts has done, in plain words."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import httpx

from heart.addresses import http_url
from heart.errors import run_main
from heart.http.reason import reason_of
from heart.settings import read
from monitoring.retraining.webhook.settings import RetrainerSettings

RESPONSES = {
    "started": "a retraining was started",
    "seen": "its retraining was started before",
    "running": "no retraining was started, because one was running",
    "cooling_down": "no retraining was started, because of the cool-down",
}
NO_SECRET = "needed-by-Grafana-alone"  # noqa: S105  # the settings must have one
ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to listen on, not to call


def describe(status: Mapping[str, Any]) -> str:
    """The text of an answer of GET /status."""
    alert, runs, until = status["last_alert"], status["runs"], status["cooldown_until"]
    ended = [run for run in runs if run["ended"]]
    lines = [
        f"last alert   {alert['received']}, {alert['trigger']}: "
        f"{RESPONSES.get(alert['response'], alert['response'])}"
        if alert
        else "last alert   none",
        f"now          retraining {runs[0]['number']} runs since {runs[0]['started']}"
        if status["running"]
        else "now          no retraining runs",
    ]
    if ended:
        lines += _end(ended[0])
    else:
        lines.append("last run     none has ended")
    lines.append(
        f"cool-down    until {until}: alerts start no retraining"
        if until
        else "cool-down    none: the next alert on drift may start a retraining"
    )
    return "\n".join(lines)


def _end(run: Mapping[str, Any]) -> list[str]:
    waits = " (the next repetition of the alert tries again)" if run["result"] == "waiting" else ""
    return [
        f"last run     {run['number']} ({run['trigger']}), ended {run['ended']}: {run['result']}{waits}",
        f"  last line  {run['verdict'] or '(none)'}",
        f"  log        {run['log']}",
    ]


def fetch(client: httpx.Client) -> dict[str, Any]:
    """The receiver's status. Ends the program with the reason if that failed."""
    try:
        response = client.get("/status")
    except httpx.HTTPError as error:
        sys.exit(
            f"error: no receiver at {client.base_url}: {error}; start it with "
            "python -m monitoring.retraining.webhook, or give its address with --url"
        )
    if not response.is_success:
        hint = "HEART_RETRAIN_TOKEN must be the receiver's token"
        sys.exit(f"error: {reason_of(response, hint)}")
    return dict(response.json())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.retraining.status", description=__doc__
    )
    parser.add_argument(
        "--url", type=http_url, help="of the receiver; by default that of HEART_RETRAIN_..."
    )
    options = parser.parse_args()
    settings = read(RetrainerSettings, secret=NO_SECRET)
    host = "127.0.0.1" if settings.host in ANYWHERE else settings.host
    url = options.url or f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=5) as client:
        print(describe(fetch(client)))


if __name__ == "__main__":
    run_main(main)
