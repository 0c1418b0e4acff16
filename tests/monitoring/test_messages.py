"""Messages to people, the retrainer and GitHub, rendered by Alertmanager's own tool."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.monitoring.configuration import provisioned

ADVICE = "Look at /drift."
LINK = "http://grafana.example/d/heart-drift"

Render = Callable[[str, dict[str, Any]], str]


@pytest.fixture
def render(require: Require, tmp_path: Path) -> Render:
    """The text of a message template for a notification.

    The tool knows all functions that these templates may use, and all fields but one of Grafana's
    own, DashboardURL, for which GeneratorURL, another URL of an alert, stands in.
    """
    program = require(shutil.which("amtool"), "prometheus-alertmanager")
    (template,) = provisioned("templates")
    known = template["template"].replace(".DashboardURL", ".GeneratorURL")
    (tmp_path / "heart.tmpl").write_text(known)

    def rendered(name: str, notification: dict[str, Any]) -> str:
        (tmp_path / "data.json").write_text(json.dumps(notification))
        done = subprocess.run(
            [
                program, "template", "render", "--template.glob=heart.tmpl",
                "--template.data=data.json", f'--template.text={{{{ template "{name}" . }}}}',
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    return rendered


def alert(status: str, name: str, feature: str = "", **more: str) -> dict[str, Any]:
    labels = {"alertname": name, "model_version": "3"} | ({"feature": feature} if feature else {})
    return {
        "status": status,
        "labels": labels | more,
        "annotations": {
            "summary": f"{feature or name} is wrong",
            "resolved": f"{feature or name} is right again",
            "advice": ADVICE,
        },
        "startsAt": "2026-11-25T10:00:00Z",
        "endsAt": "2026-11-25T11:00:00Z",
        "generatorURL": LINK,
    }


def notification(route: str, *alerts: dict[str, Any]) -> dict[str, Any]:
    """The notification of the policies for alerts of one route."""
    everywhere = set.intersection(*(set(a["labels"].items()) for a in alerts))
    firing = any(a["status"] == "firing" for a in alerts)
    return {
        "receiver": "slack",
        "status": "firing" if firing else "resolved",
        "alerts": list(alerts),
        "groupLabels": {"route": route},
        "commonLabels": dict(everywhere) | {"route": route},
        "commonAnnotations": {"advice": ADVICE},
        "externalURL": "http://grafana.example/",
    }


DRIFT = notification(
    "drift",
    alert("firing", "Feature drift", "thallium"),
    alert("firing", "Feature drift", "age"),
    alert("firing", "Score drift", "score"),
)


def test_drift_is_one_message_that_names_the_features(render: Render) -> None:
    assert render("heart.title", DRIFT) == "Drift detected: thallium, age, score"
    assert render("heart.text", DRIFT) == (
        f"• thallium is wrong\n• age is wrong\n• score is wrong\n{ADVICE}\n<{LINK}|Dashboard>"
    )


def test_a_message_lists_resolved_alerts_beside_firing_ones(render: Render) -> None:
    mixed = notification(
        "drift",
        alert("resolved", "Feature drift", "thallium"),
        alert("firing", "Feature drift", "age"),
    )

    assert render("heart.title", mixed) == "Drift detected: age"
    assert render("heart.text", mixed) == (
        f"• age is wrong\n• thallium is right again\n{ADVICE}\n<{LINK}|Dashboard>"
    )


def test_the_end_of_all_alerts_is_a_message(render: Render) -> None:
    ended = notification("drift", alert("resolved", "Feature drift", "thallium"))

    assert render("heart.title", ended) == "Resolved: Feature drift: thallium"
    assert render("heart.text", ended).startswith("• thallium is right again\n")


@pytest.mark.parametrize(
    ("alerts", "title"),
    [
        ([alert("firing", "Service down", instance="a")], "Service down"),
        ([alert("firing", "Retraining ended", result="failed")], "Retraining ended"),
        ([alert("firing", "Data quality", "cholesterol")], "Data quality: cholesterol"),
        ([alert("firing", "Service down"), alert("firing", "Log failing")], "service"),
        (
            [alert("resolved", "Service down"), alert("resolved", "Log failing")],
            "Resolved: service",
        ),
    ],
)
def test_other_alerts_have_their_names_as_titles(
    render: Render, alerts: list[dict[str, Any]], title: str
) -> None:
    assert render("heart.title", notification("service", *alerts)) == title


def test_github_gets_json_that_starts_a_workflow(render: Render) -> None:
    assert json.loads(render("heart.github", DRIFT)) == {
        "event_type": "drift-alert",
        "client_payload": {
            "model_version": "3",
            "started": "2026-11-25T10:00:00Z",
            "features": ["thallium", "age", "score"],
        },
    }


@pytest.mark.parametrize("name", ['a"b\\c', "a\nb", "{{ .Labels }}"])
def test_labels_are_escaped_in_the_json(render: Render, name: str) -> None:
    alerts = notification("drift", alert("firing", "Feature drift", name))

    assert json.loads(render("heart.github", alerts))["client_payload"]["features"] == [name]
