"""Messages to people, the retrainer and GitHub, rendered by Alertmanager's own tool."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.monitoring.configuration import alert_rules, provisioned

ADVICE = "Look at /drift."
LINK = "http://grafana.example/d/heart-drift"
FIRING = f" (since 2026-11-25 10:00 UTC) <{LINK}|Silence>"

Render = Callable[[str, dict[str, Any]], str]


@pytest.fixture
def render(require: Require, tmp_path: Path) -> Render:
    """The text of a message template for a notification.

    The tool knows all functions that these templates may use, and all fields but two of Grafana's
    own, DashboardURL and SilenceURL, for which GeneratorURL, another URL of an alert, stands in.
    """
    program = require(shutil.which("amtool"), "prometheus-alertmanager")
    (template,) = provisioned("templates")
    known = template["template"].replace(".DashboardURL", ".GeneratorURL")
    known = known.replace(".SilenceURL", ".GeneratorURL")
    (tmp_path / "heart.tmpl").write_text(known)

    def rendered(name: str, notification: dict[str, Any]) -> str:
        return amtool(tmp_path, program, f'{{{{ template "{name}" . }}}}', notification)

    return rendered


@pytest.fixture
def render_text(require: Require, tmp_path: Path) -> Callable[[str], str]:
    """A text that is a template, for a notification without any label."""
    program = require(shutil.which("amtool"), "prometheus-alertmanager")
    (tmp_path / "heart.tmpl").write_text("")
    return lambda text: amtool(tmp_path, program, text, {"alerts": [], "commonLabels": {}})


def amtool(folder: Path, program: Any, text: str, notification: dict[str, Any]) -> str:
    (folder / "data.json").write_text(json.dumps(notification))
    done = subprocess.run(
        [
            program, "template", "render", "--template.glob=heart.tmpl",
            "--template.data=data.json", f"--template.text={text}",
        ],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


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
        f"• thallium is wrong{FIRING}\n• age is wrong{FIRING}\n• score is wrong{FIRING}\n"
        f"What to do: {ADVICE}\n<{LINK}|Dashboard>"
    )


RUNBOOK = "https://docs.example/runbook.html"


def of_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A firing alert of a rule, with its own texts."""
    labels = {**rule["labels"], "environment": "ward 7", "runbook": RUNBOOK}
    fired = alert("firing", rule["title"], **labels)
    return {**fired, "annotations": rule["annotations"]}


@pytest.mark.parametrize("rule", alert_rules().values(), ids=alert_rules())
def test_a_message_has_all_that_its_reader_needs(rule: dict[str, Any], render: Render) -> None:
    fired = of_rule(rule)
    sent = notification(rule["labels"]["route"], fired)
    sent["commonAnnotations"] = fired["annotations"]

    text = render("heart.text", sent)

    assert render("heart.title", sent).startswith("[ward 7] ")
    assert text.startswith(f"Severity: {rule['labels']['severity']}\n")
    assert FIRING in text
    assert f"{RUNBOOK}#{rule['title'].lower().replace(' ', '-')}" in text
    for name in ("patients", "automatic", "advice"):
        assert text.count(rule["annotations"][name]) == 1
    assert text.endswith(f"<{LINK}|Dashboard>")


def test_alerts_with_different_advice_each_have_their_own(render: Render) -> None:
    one, other = (
        of_rule(alert_rules()[uid]) for uid in ("heart-server-errors", "heart-log-failing")
    )
    sent = {**notification("service", one, other), "commonAnnotations": {}}

    text = render("heart.text", sent)

    assert text.startswith("Severity: critical\n")
    for fired in (one, other):
        assert text.count(fired["annotations"]["advice"]) == 1
        assert text.count(f"{RUNBOOK}#{fired['annotations']['section']}") == 1


def test_without_an_address_the_runbook_is_a_file(render: Render) -> None:
    fired = of_rule(alert_rules()["heart-log-failing"])
    del fired["labels"]["runbook"]
    sent = {**notification("service", fired), "commonAnnotations": fired["annotations"]}

    assert "docs/runbook.md#log-failing" in render("heart.text", sent)


def test_a_message_lists_resolved_alerts_beside_firing_ones(render: Render) -> None:
    mixed = notification(
        "drift",
        alert("resolved", "Feature drift", "thallium"),
        alert("firing", "Feature drift", "age"),
    )

    assert render("heart.title", mixed) == "Drift detected: age"
    assert render("heart.text", mixed) == (
        f"• age is wrong{FIRING}\n• thallium is right again\nWhat to do: {ADVICE}\n<{LINK}|Dashboard>"
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


def without_value(alert: dict[str, Any], reason: str) -> dict[str, Any]:
    """An alert whose state no value explains; Grafana names the reason in an annotation."""
    return {**alert, "annotations": {**alert["annotations"], "grafana_state_reason": reason}}


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (without_value(alert("firing", "Service down", instance="a"), "NoData"), "no data"),
        (without_value(alert("firing", "Service down", instance="a"), "Error"), "cannot query"),
        (alert("firing", "DatasourceNoData", rulename="Service down"), "no data"),
        (alert("firing", "DatasourceError", rulename="Service down"), "cannot query"),
        (
            without_value(alert("firing", "Feature drift", "age"), "Error, KeepLast"),
            "when Prometheus last answered",
        ),
        (
            without_value(alert("resolved", "Service down", instance="a"), "MissingSeries"),
            "ended without a new value (MissingSeries)",
        ),
        (alert("resolved", "DatasourceError", rulename="Service down"), "(Error)"),
    ],
)
def test_an_alert_without_a_value_claims_neither_a_fault_nor_a_recovery(
    render: Render, one: dict[str, Any], text: str
) -> None:
    first = render("heart.text", notification("service", one)).splitlines()[0]

    assert text in first
    assert first.startswith(f"• {one['labels'].get('rulename', one['labels']['alertname'])}")
    assert one["annotations"]["summary"] not in first
    assert one["annotations"]["resolved"] not in first


def test_the_title_of_a_lost_datasource_is_that_of_its_rule(render: Render) -> None:
    lost = alert("firing", "DatasourceError", rulename="Monitor stale", route="monitor")

    assert render("heart.title", notification("monitor", lost)) == "Monitor stale"
    assert "Drift detected" not in render("heart.title", notification("drift", lost))


@pytest.mark.parametrize("rule", alert_rules().values(), ids=alert_rules())
@pytest.mark.parametrize("name", ["summary", "resolved"])
def test_no_text_has_a_hole_where_a_label_is_missing(
    rule: dict[str, Any], name: str, render_text: Callable[[str], str]
) -> None:
    # Without data, Grafana has neither labels nor values; only these states use such an alert's texts.
    if "Alerting" in (rule["noDataState"], rule["execErrState"]):
        text = render_text("{{ $labels := .CommonLabels }}" + rule["annotations"][name])

        assert "no value" not in text
        assert text == text.strip()
        assert text


GRAFANA_TEST = notification(
    "service",
    {
        **alert("firing", "TestAlert", instance="Grafana"),
        "annotations": {"summary": "Notification test"},
    },
)


def test_the_button_test_of_a_contact_point_starts_no_workflow(render: Render) -> None:
    labels = {"alertname": "TestAlert", "instance": "Grafana"}
    test = {**GRAFANA_TEST, "groupLabels": labels, "commonLabels": labels}
    like_drift = {
        **test,
        "commonLabels": {**labels, "alertname": "Feature drift", "route": "drift"},
    }

    for sent in (test, like_drift):
        assert json.loads(render("heart.github", sent))["event_type"] == "test"
    assert render("heart.title", test) == "TestAlert"
    assert "no value" not in render("heart.text", test)


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
