"""Grafana's files: they are what Grafana knows, what they refer to exists, and the environment fits in."""

import json
import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import alerting
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from schema import NAMES
from serve.api import create_app
from tests.monitoring import contract
from tests.monitoring.configuration import (
    GRAFANA,
    MONITORING,
    alert_query,
    alert_rules,
    dashboards,
    documents,
    interpolate,
    metrics_in,
    panel_queries,
    provisioned,
    queries,
    recorded,
    texts,
)
from tests.serve.small_service import parts

register_default_plugins()

UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
VARIABLE = re.compile(r"\$([A-Z_]+)")
DURATION = re.compile(r"\d+[smh]")
# What files can say of a rule, beside what Grafana's API, of which the models are, says otherwise.
RULE_FILE_ONLY = {"dashboardUid", "panelId", "keepFiringFor", "missing_series_evals_to_resolve"}
NO_DATA = {"NoData", "Alerting", "OK", "KeepLast"}
ERROR = {"Error", "Alerting", "OK", "KeepLast"}
OF_GROUP = {"orgId", "name", "folder", "interval", "rules"}
OF_DATASOURCE = {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
OF_PROVIDER = {
    "name",
    "folder",
    "type",
    "disableDeletion",
    "allowUiUpdates",
    "options",
}
# Grafana leaves these alone, or, from the first that can, replaces names in braces in them.
AS_THEY_ARE = ("annotations", "model", "template")


# Grafana knows every key and value


def as_read(model: Any) -> Any:
    """A model as JSON again."""
    return json.loads(json.dumps(model, cls=JSONEncoder))


def lost(given: Any, kept: Any, place: str = "") -> list[str]:
    """Where a model does not hold what was given to it; defaults that it adds do not count."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            where
            for key, value in given.items()
            for where in (
                lost(value, kept[key], f"{place}/{key}") if key in kept else [f"{place}/{key}"]
            )
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [
            where
            for number, pair in enumerate(zip(given, kept, strict=True))
            for where in lost(*pair, f"{place}/{number}")
        ]
    return [] if given == kept else [place]


@cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config={"arbitrary_types_allowed": True})


def of_another_type(model: Any) -> Iterator[str]:
    """The attributes, at any depth, whose values are not what the models' annotations allow."""
    if isinstance(model, list | dict):
        for item in model.values() if isinstance(model, dict) else model:
            yield from of_another_type(item)
    if not type(model).__module__.startswith("grafana_foundation_sdk") or isinstance(
        model, str | int
    ):
        return
    hints = typing.get_type_hints(type(model))
    for name, value in vars(model).items():
        try:
            adapter(hints[name]).validate_python(value)
        except ValueError:
            yield f"{type(model).__name__}.{name} is {value!r}"
        yield from of_another_type(value)


def fits(kind: Any, given: Mapping[str, Any]) -> None:
    model = kind.from_json(given)
    assert lost(given, as_read(model)) == []
    assert list(of_another_type(model)) == []


@pytest.mark.parametrize("uid", dashboards())
def test_a_dashboard_is_one(uid: str) -> None:
    fits(Dashboard, dashboards()[uid])


@pytest.mark.parametrize("uid", alert_rules())
def test_an_alert_rule_is_one(uid: str) -> None:
    rule = dict(alert_rules()[uid])

    assert rule.pop("noDataState") in NO_DATA
    assert rule.pop("execErrState") in ERROR
    assert DURATION.fullmatch(rule["for"])
    of_api = {key: value for key, value in rule.items() if key not in RULE_FILE_ONLY}
    fits(alerting.Rule, of_api)
    assert rule["condition"] in {query["refId"] for query in rule["data"]}
    for query in rule["data"]:
        assert query["model"]["refId"] == query["refId"]
        assert query["model"]["datasource"]["uid"] == query["datasourceUid"]


def test_rule_groups_have_what_they_need() -> None:
    titles: Counter[tuple[str, str]] = Counter()
    for group in provisioned("groups"):
        assert set(group) == OF_GROUP
        assert DURATION.fullmatch(group["interval"])
        titles.update((group["folder"], rule["title"]) for rule in group["rules"])
    assert set(titles.values()) == {1}


def test_contact_points_policies_and_templates_are_such() -> None:
    for point in provisioned("contactPoints"):
        assert set(point) == {"orgId", "name", "receivers"}
        for receiver in point["receivers"]:
            fits(alerting.ContactPoint, receiver)
    (root,) = provisioned("policies")
    for policy in (root, *root["routes"]):
        for matcher in policy.get("object_matchers", []):
            fits(alerting.Matcher, dict(zip(("Name", "Type", "Value"), matcher, strict=True)))
        others = policy.keys() - {"orgId", "object_matchers", "routes"}
        fits(alerting.NotificationPolicy, {key: policy[key] for key in others})
    for template in provisioned("templates"):
        fits(alerting.NotificationTemplate, {k: template[k] for k in template.keys() - {"orgId"}})


def test_datasource_and_provider_have_only_known_keys() -> None:
    (datasource,) = provisioned("datasources")
    (provider,) = provisioned("providers")

    assert set(datasource) <= OF_DATASOURCE
    assert set(provider) == OF_PROVIDER
    assert all(document["apiVersion"] == 1 for document in documents().values())


def test_a_wrong_key_and_a_wrong_value_are_found() -> None:
    dashboard = next(iter(dashboards().values()))

    with pytest.raises(AssertionError, match="/panels/0/titel"):
        fits(Dashboard, {**dashboard, "panels": [{**dashboard["panels"][0], "titel": "?"}]})
    with pytest.raises(AssertionError, match=r"Panel\.title"):
        fits(Dashboard, {**dashboard, "panels": [{**dashboard["panels"][0], "title": 7}]})


# What is referred to exists


def test_uids_are_fixed_and_unique() -> None:
    receivers = [r["uid"] for point in provisioned("contactPoints") for r in point["receivers"]]
    rules = [rule["uid"] for group in provisioned("groups") for rule in group["rules"]]
    files = [json.loads(path.read_text())["uid"] for path in GRAFANA.glob("dashboards/*.json")]

    for uids in (receivers, rules, files):
        assert len(set(uids)) == len(uids)
        assert all(UID.fullmatch(uid) for uid in uids)


def test_datasources_exist() -> None:
    known = {datasource["uid"] for datasource in provisioned("datasources")}
    asked = {
        source["uid"]
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))
    }
    used = {query["datasourceUid"] for rule in alert_rules().values() for query in rule["data"]}

    assert asked == known
    assert used == known | {"__expr__"}


def test_each_alert_links_to_a_panel_that_shows_what_it_watches() -> None:
    for rule in alert_rules().values():
        panels = {panel["id"]: panel for panel in dashboards()[rule["dashboardUid"]]["panels"]}
        shown = panel_queries(panels[rule["panelId"]])
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
def test_panels_have_numbers_and_places_of_their_own(uid: str) -> None:
    panels = dashboards()[uid]["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_every_metric_is_exported(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    with TestClient(app) as client:
        contract.some_answers(client)
        exported = contract.names(client.get("/metrics").text)
    exported |= contract.names(contract.DriftMonitor().text()) | {"up"}

    assert {name for query in recorded().values() for name in metrics_in(query)} - set(
        recorded()
    ) <= exported
    assert {name for query in queries() for name in metrics_in(query)} <= exported | set(recorded())


# Where alerts go


def receivers_of(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Who is told of an alert, and by which labels messages are told apart."""
    (root,) = provisioned("policies")
    told: dict[str, list[str]] = {}
    for route in root["routes"]:
        if all(labels.get(name) == value for name, _, value in route["object_matchers"]):
            told[route["receiver"]] = route.get("group_by", root["group_by"])
            if not route.get("continue"):
                break
    return told or {root["receiver"]: root["group_by"]}


@pytest.mark.parametrize("uid", alert_rules())
def test_people_are_told_and_drift_starts_a_retraining(uid: str) -> None:
    labels = alert_rules()[uid]["labels"]

    told = receivers_of(labels)

    assert labels["severity"] in {"warning", "critical"}
    drift = uid in {"heart-feature-drift", "heart-score-drift"}
    assert set(told) == ({"slack", "retraining", "github"} if drift else {"slack"})
    for group_by in told.values():
        assert "route" in group_by
        assert set(group_by) <= {*labels, "model_version"}, "a message for each feature"


def test_who_retrains_is_not_told_of_the_end() -> None:
    (slack,), *others = (point["receivers"] for point in provisioned("contactPoints"))

    assert "disableResolveMessage" not in slack
    assert all(receiver["disableResolveMessage"] for (receiver,) in others)


# The environment


def interpolated(document: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts in which Grafana puts the environment's values."""
    return (
        (place, text)
        for place, text in texts(document)
        if not any(key in AS_THEY_ARE for key in place) or "payload" in place
    )


def variables() -> set[str]:
    """Every variable that the files take from the environment."""
    found = [
        VARIABLE.fullmatch(text)
        for document in documents().values()
        for _, text in interpolated(document)
    ]
    return {match[1] for match in found if match}


def in_readme() -> dict[str, str]:
    """The variables that monitoring/README.md lists, with what they are where nothing is set."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| *(.*?) *\|", (MONITORING / "README.md").read_text(), re.MULTILINE
    )
    return {name: default.strip("`") for name, default in rows}


def refused(environment: Mapping[str, str]) -> set[str]:
    """The receivers because of which Grafana would not start: their URL is empty."""
    return {
        receiver["uid"]
        for point in provisioned("contactPoints")
        for receiver in point["receivers"]
        if not interpolate(receiver["settings"]["url"], environment)
    }


def test_a_dollar_sign_stands_only_before_a_variable_that_is_a_whole_value() -> None:
    for name, document in documents().items():
        for place, text in interpolated(document):
            assert "$" not in text or VARIABLE.fullmatch(text), (name, place)


def test_what_is_left_alone_means_the_same_to_every_version() -> None:
    for rule in alert_rules().values():
        for text in rule["annotations"].values():
            assert "${" not in text
            assert "$$" not in text


@pytest.mark.parametrize("value", ["https://example.org/x", "p$HOME${HOME}$$", "a: 'b' \"c\"", ""])
def test_a_value_arrives_as_it_is(value: str) -> None:
    environment = dict.fromkeys(variables(), value)

    for document in documents().values():
        for _, text in interpolated(document):
            expected = value if VARIABLE.fullmatch(text) else text
            assert interpolate(text, environment) == expected


def test_the_form_with_braces_would_spoil_a_secret() -> None:
    environment = {"SECRET": "a$HOME"}

    assert interpolate("$SECRET", environment) == "a$HOME"
    assert interpolate("${SECRET}", environment) == "a"
    assert interpolate("${SECRET:-x}", environment) == ""
    assert interpolate("{{ $labels.feature }}", environment) == "{{ .feature }}"
    assert interpolate("{{ $$labels.feature }}", environment) == "{{ $labels.feature }}"


def test_what_stands_where_nothing_is_set_lets_grafana_start() -> None:
    assert set(in_readme()) == variables()

    assert refused({}) == {"heart-slack", "heart-retraining", "heart-github"}
    assert refused(in_readme()) == set()
    assert refused(dict.fromkeys(variables(), "http://example.org")) == set()


def test_no_name_of_a_measurement_is_written_twice() -> None:
    for path in [*MONITORING.rglob("*.yml"), *MONITORING.rglob("*.json")]:
        assert not [name for name in NAMES if re.search(rf"\b{name}\b", path.read_text())], path
