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

VALUES = "values_of_the_query"
REASON = "grafana_state_reason"

Render = Callable[[str, dict[str, Any]], str]


@pytest.fixture
def render(require: Require, tmp_path: Path) -> Render:
    """The text of a message template for a notification.

    The tool knows all functions that these templates may use, and all fields but three of Grafana's
    own. For DashboardURL and SilenceURL stands GeneratorURL, another URL of an alert, and for Values
    an annotation, as in Grafana's own transport of them.
    """
    program = require(shutil.which("amtool"), "prometheus-alertmanager")
    (template,) = provisioned("templates")
    known = template["template"].replace(".DashboardURL", ".GeneratorURL")
    known = known.replace(".SilenceURL", ".GeneratorURL")
    known = known.replace(".Values", f".Annotations.{VALUES}")
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
            VALUES: "A=3.1",
        },
        "startsAt": "2026-11-25T10:00:00Z",
        "endsAt": "2026-11-25T11:00:00Z",
        "generatorURL": LINK,
    }


def notification(route: str, *alerts: dict[str, Any]) -> dict[str, Any]:
    """The notification of the policies for alerts of one route."""
    alerts = tuple({**a, "labels": {"route": route, **a["labels"]}} for a in alerts)
    everywhere = set.intersection(*(set(a["labels"].items()) for a in alerts))
    firing = any(a["status"] == "firing" for a in alerts)
    return {
        "receiver": "slack",
        "status": "firing" if firing else "resolved",
        "alerts": list(alerts),
        "groupLabels": {"route": route},
        "commonLabels": dict(everywhere),
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
    return {**fired, "annotations": {**rule["annotations"], VALUES: "A=3.1"}}


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
    annotations = {k: v for k, v in alert["annotations"].items() if k != VALUES}
    return {**alert, "annotations": {**annotations, REASON: reason}}


# A reason that Grafana gives to a firing alert, and what the text says then.
REASONS = {
    "NoData": "no data",
    "Error": "cannot query",
    "Error, KeepLast": "when last measured",
    "NoData, KeepLast": "when last measured",
    "MissingSeries": "not measured (MissingSeries)",
    "Paused": "not measured (Paused)",
}


@pytest.mark.parametrize(
    ("one", "text"),
    [
        *(
            (without_value(alert("firing", "Service down", instance="a"), reason), text)
            for reason, text in REASONS.items()
        ),
        (alert("firing", "DatasourceNoData", rulename="Service down"), "no data"),
        (alert("firing", "DatasourceError", rulename="Service down"), "cannot query"),
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
    sent = notification("service", one)

    title, first = render("heart.title", sent), render("heart.text", sent).splitlines()[0]

    assert text in first
    assert first.startswith("• Service down")
    assert one["annotations"]["summary"] not in first
    assert one["annotations"]["resolved"] not in first
    beginning = {"firing": "No data: ", "resolved": "Ended without a value: "}
    assert title == f"{beginning[one['status']]}Service down"


@pytest.mark.parametrize("rule", alert_rules().values(), ids=alert_rules())
def test_a_message_without_a_value_has_only_advice_of_its_rule(
    rule: dict[str, Any], render: Render
) -> None:
    reason = "NoData" if rule["noDataState"] == "Alerting" else "Error, KeepLast"
    lost = without_value(of_rule(rule), reason)
    sent = notification(rule["labels"]["route"], lost)

    for common in (dict[str, str](), lost["annotations"]):
        text = render("heart.text", {**sent, "commonAnnotations": common})

        assert text.count(rule["annotations"]["advice"]) == 1
        assert text.count(f"{RUNBOOK}#{rule['annotations']['section']}") == 1
        for name in ("summary", "resolved", "patients", "automatic"):
            assert rule["annotations"][name] not in text


def test_a_drift_message_is_about_the_measured_alerts(render: Render) -> None:
    rules = alert_rules()
    lost = without_value(of_rule(rules["heart-score-drift"]), "Error, KeepLast")
    measured = of_rule(rules["heart-feature-drift"])
    measured["labels"]["feature"] = "age"
    lost["labels"]["feature"] = "score"
    sent = notification("drift", lost, measured)
    sent["commonAnnotations"] = {"advice": measured["annotations"]["advice"]}

    assert render("heart.title", sent) == "[ward 7] Drift detected: age"
    text = render("heart.text", sent)
    assert "score: no data" in text
    assert measured["annotations"]["automatic"] in text
    assert "#feature-drift" in text
    event = json.loads(render("heart.github", sent))
    assert event["event_type"] == "drift-alert"
    assert event["client_payload"]["features"] == ["age"]


def test_only_measured_alerts_are_in_the_title_of_their_end(render: Render) -> None:
    lost = without_value(alert("resolved", "Feature drift", "thallium"), "MissingSeries")

    ended = notification("drift", lost, alert("resolved", "Feature drift", "age"))

    assert render("heart.title", ended) == "Resolved: Feature drift: age"


@pytest.mark.parametrize("reason", [*REASONS, "a reason that Grafana does not have yet"])
def test_a_lost_datasource_starts_no_workflow(render: Render, reason: str) -> None:
    lost = alert("firing", "Feature drift", "age")
    lost["annotations"][REASON] = reason  # beside an old value

    event = json.loads(render("heart.github", notification("drift", lost)))

    assert event["event_type"] == "drift-unknown"
    assert event["client_payload"]["features"] == []


def test_the_title_of_a_lost_datasource_is_that_of_its_rule(render: Render) -> None:
    lost = alert("firing", "DatasourceError", rulename="Monitor stale", route="monitor")

    assert render("heart.title", notification("monitor", lost)) == "No data: Monitor stale"
    drift = alert("firing", "DatasourceError", rulename="Feature drift", route="drift")
    assert render("heart.title", notification("drift", drift)) == "No data: Feature drift"
    event = json.loads(render("heart.github", notification("drift", drift)))["event_type"]
    assert event == "drift-unknown"


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


def contact_point_test(**labels: str) -> dict[str, Any]:
    """The button "Test" of a contact point, with labels that its user adds."""
    pressed = alert("firing", "TestAlert", **{"instance": "Grafana"} | labels)
    pressed["labels"].pop("model_version")
    pressed["annotations"] = {"summary": "Notification test"}
    sent = notification("", pressed)
    labels = dict(pressed["labels"])
    (one,) = sent["alerts"]
    return {
        **sent,
        "alerts": [{**one, "labels": labels}],
        "groupLabels": labels,
        "commonLabels": labels,
    }


LIKE_DRIFT = {"alertname": "Feature drift", "route": "drift", "feature": "age"}


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({}, False),
        ({}, True),
        (LIKE_DRIFT, False),
        (LIKE_DRIFT, True),
        ({**LIKE_DRIFT, "instance": ""}, False),
        ({**LIKE_DRIFT, "instance": ""}, True),
        ({"alertname": "Service down", "route": "service"}, False),
    ],
)
def test_the_button_test_of_a_contact_point_starts_no_workflow(
    labels: dict[str, str], values: bool, render: Render
) -> None:
    sent = contact_point_test(**labels)
    if values:  # its user may add them
        sent["alerts"][0]["annotations"][VALUES] = "A=3.1"

    assert json.loads(render("heart.github", sent))["event_type"] == "test"
    title, text = render("heart.title", sent), render("heart.text", sent)
    assert title.startswith(f"Test: {labels.get('alertname', 'TestAlert')}")
    assert "• Test of a contact point" in text
    assert "no value" not in text


def test_a_rule_of_somebody_else_starts_no_workflow(render: Render) -> None:
    other = notification("drift", alert("firing", "Drift of another system", "age"))

    assert json.loads(render("heart.github", other))["event_type"] != "drift-alert"
    assert render("heart.title", other) == "Drift of another system: age"


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
