"""References in Grafana's files, and the routes of alerts."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from heart.schema import NAMES
from monitoring.retraining.webhook.metrics import Metrics as RetrainerMetrics
from tests.heart.drift.snapshots import watching
from tests.monitoring.configuration import (
    GRAFANA,
    MONITORING,
    ROOT,
    alert_query,
    alert_rules,
    dashboards,
    metrics_in,
    panel_queries,
    panels,
    provisioned,
    queries,
    recorded,
)
from tests.monitoring.traffic import names, normal_traffic

UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")

# References


def test_uids_are_fixed_and_unique() -> None:
    receivers = [r["uid"] for point in provisioned("contactPoints") for r in point["receivers"]]
    rules = [rule["uid"] for group in provisioned("groups") for rule in group["rules"]]
    files = [json.loads(path.read_text())["uid"] for path in GRAFANA.glob("dashboards/*.json")]

    for uids in (receivers, rules, files):
        assert len(set(uids)) == len(uids)
        assert all(UID.fullmatch(uid) for uid in uids)


def test_datasources_exist() -> None:
    known = {datasource["uid"] for datasource in provisioned("datasources")}
    used = {
        source["uid"]
        for dashboard in dashboards().values()
        for panel in panels(dashboard)
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))
    }
    of_rules = {query["datasourceUid"] for rule in alert_rules().values() for query in rule["data"]}

    assert used == known
    assert of_rules == known | {"__expr__"}


def test_each_alert_links_to_a_panel_with_its_query() -> None:
    for rule in alert_rules().values():
        by_id = {panel["id"]: panel for panel in panels(dashboards()[rule["dashboardUid"]])}
        shown = panel_queries(by_id[rule["panelId"]])
        watched = metrics_in(alert_query(rule))
        assert any(metrics_in(query) == watched for query in shown), rule["uid"]


def test_policies_name_contact_points_and_all_of_them() -> None:
    (root,) = provisioned("policies")
    known = {point["name"] for point in provisioned("contactPoints")}

    assert {root["receiver"], *(route["receiver"] for route in root["routes"])} == known


def test_message_templates_exist_and_are_used() -> None:
    defined = Counter(
        name
        for template in provisioned("templates")
        for name in re.findall(r'{{-? define "([^"]+)"', template["template"])
    )
    everything = json.dumps([provisioned("contactPoints"), provisioned("templates")])
    called = set(re.findall(r'{{-? template \\"([^"\\]+)', everything))

    assert called == set(defined)
    assert set(defined.values()) == {1}


@pytest.mark.parametrize("uid", dashboards())
def test_panels_have_unique_numbers_and_do_not_overlap(uid: str) -> None:
    all_panels = dashboards()[uid]["panels"]

    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    places = [panel["gridPos"] for panel in all_panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for first, second in combinations(places, 2):
        beside = first["x"] + first["w"] <= second["x"] or second["x"] + second["w"] <= first["x"]
        below = first["y"] + first["h"] <= second["y"] or second["y"] + second["h"] <= first["y"]
        assert beside or below, (first, second)


def test_every_metric_is_exported(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, monitor):
        normal_traffic(client, seed=1)
        monitor.refresh()
        exported = names(client.get("/metrics").text)
    exported |= names(generate_latest(RetrainerMetrics().registry).decode())
    # Of the champion guard and a challenger, which this service has not; the page is written from the code.
    exported |= set(re.findall(r"`(heart_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    exported |= {"up", *recorded()}

    used = {name for query in [*queries(), *recorded().values()] for name in metrics_in(query)}
    assert used <= exported


@pytest.mark.parametrize("uid", dashboards())
def test_every_variable_is_used_and_every_used_one_exists(uid: str) -> None:
    dashboard = dashboards()[uid]
    names = {variable["name"] for variable in dashboard["templating"]["list"]}

    text = json.dumps(dashboard["panels"])

    assert set(re.findall(r"\$([a-z_]+)", text)) - {"__rate_interval"} == names


def test_no_name_of_a_measurement_is_written_twice() -> None:
    for path in [*MONITORING.rglob("*.yml"), *MONITORING.rglob("*.json")]:
        assert not [name for name in NAMES if re.search(rf"\b{name}\b", path.read_text())], path


# Where alerts go


def receivers_of(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The receivers of an alert, and the labels by which its messages are grouped."""
    (root,) = provisioned("policies")
    receivers: dict[str, list[str]] = {}
    for route in root["routes"]:
        if all(labels.get(name) == value for name, _, value in route["object_matchers"]):
            receivers[route["receiver"]] = route.get("group_by", root["group_by"])
            if not route.get("continue"):
                break
    return receivers or {root["receiver"]: root["group_by"]}


@pytest.mark.parametrize("uid", alert_rules())
def test_alerts_go_to_people_and_drift_alerts_to_retraining_too(uid: str) -> None:
    labels = alert_rules()[uid]["labels"]

    receivers = receivers_of(labels)

    assert labels["severity"] in {"info", "warning", "critical"}
    expected = {
        "heart-feature-drift": {"slack", "retraining", "github"},
        "heart-score-drift": {"slack", "retraining", "github"},
        "heart-retraining-ended": {"slack-news"},
    }
    assert set(receivers) == expected.get(uid, {"slack"})
    for group_by in receivers.values():
        assert "route" in group_by
        assert set(group_by) <= {*labels, "model_version", "result"}, "a message for each feature"


def test_only_the_receiver_for_people_gets_resolved_alerts() -> None:
    (slack,), *others = (point["receivers"] for point in provisioned("contactPoints"))

    assert "disableResolveMessage" not in slack
    assert all(receiver["disableResolveMessage"] for (receiver,) in others)


def test_two_alerts_report_missing_data() -> None:
    blind = {uid for uid, rule in alert_rules().items() if rule["noDataState"] == "Alerting"}

    assert blind == {"heart-service-down", "heart-monitor-stale"}
