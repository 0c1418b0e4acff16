"""Grafana's files have only keys that Grafana knows, with values of the right types."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, get_type_hints

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import alerting
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import TypeAdapter, ValidationError

from tests.monitoring.configuration import alert_rules, dashboards, documents, provisioned

register_default_plugins()

MISSING = object()
DURATION = re.compile(r"\d+[smh]")
# The models are those of Grafana's API; files may have more keys of a rule.
ONLY_IN_FILES = {"dashboardUid", "panelId"}
# The plugin of Prometheus adds these to an annotation, beside what every annotation has.
OF_ANNOTATION = {"step", "titleFormat", "textFormat", "useValueForTime"}
NO_DATA = {"NoData", "Alerting", "OK", "KeepLast"}
ERROR = {"Error", "Alerting", "OK", "KeepLast"}
OF_GROUP = {"orgId", "name", "folder", "interval", "rules"}
OF_DATASOURCE = {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
OF_PROVIDER = {"name", "folder", "type", "disableDeletion", "allowUiUpdates", "options"}


def lost(source: Any, parsed: Any, place: str = "") -> Iterator[str]:
    """The places whose values a model has not kept; defaults that it adds are ignored."""
    if isinstance(source, dict) and isinstance(parsed, dict):
        for key, value in source.items():
            yield from lost(value, parsed.get(key, MISSING), f"{place}/{key}")
    elif isinstance(source, list) and isinstance(parsed, list) and len(source) == len(parsed):
        for number, (value, other) in enumerate(zip(source, parsed, strict=True)):
            yield from lost(value, other, f"{place}/{number}")
    elif source != parsed:
        yield place


@cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config={"arbitrary_types_allowed": True})


def of_another_type(model: Any) -> Iterator[str]:
    """The attributes, at any depth, whose values the models' annotations do not allow."""
    if isinstance(model, list):
        for item in model:
            yield from of_another_type(item)
    if not type(model).__module__.startswith("grafana_foundation_sdk.") or isinstance(model, Enum):
        return
    hints = get_type_hints(type(model))
    for name, value in vars(model).items():
        try:
            adapter(hints[name]).validate_python(value)
        except ValidationError:
            yield f"{type(model).__name__}.{name} is {value!r}"
        yield from of_another_type(value)


def fits(kind: Any, source: Mapping[str, Any]) -> None:
    """The model keeps all values of the source, and they have the right types."""
    model = kind.from_json(source)
    parsed = json.loads(json.dumps(model, cls=JSONEncoder))
    assert list(lost(source, parsed)) == []
    assert list(of_another_type(model)) == []


@pytest.mark.parametrize("uid", dashboards())
def test_every_dashboard_fits_the_model_of_grafana(uid: str) -> None:
    dashboard = dashboards()[uid]
    events = [
        {key: value for key, value in event.items() if key not in OF_ANNOTATION}
        for event in dashboard["annotations"]["list"]
    ]
    fits(Dashboard, {**dashboard, "annotations": {"list": events}})


@pytest.mark.parametrize("uid", alert_rules())
def test_every_alert_rule_fits_the_model_of_grafana(uid: str) -> None:
    rule = dict(alert_rules()[uid])

    assert rule.pop("noDataState") in NO_DATA
    assert rule.pop("execErrState") in ERROR
    assert DURATION.fullmatch(rule["for"])
    of_api = {key: value for key, value in rule.items() if key not in ONLY_IN_FILES}
    fits(alerting.Rule, of_api)
    assert rule["condition"] in {query["refId"] for query in rule["data"]}
    for query in rule["data"]:
        assert query["model"]["refId"] == query["refId"]
        assert query["model"]["datasource"]["uid"] == query["datasourceUid"]


@pytest.mark.parametrize("uid", alert_rules())
def test_the_panel_of_an_alert_is_colored_from_its_limit_on(uid: str) -> None:
    rule = alert_rules()[uid]
    panels = dashboards()[rule["dashboardUid"]]["panels"]
    [panel] = [panel for panel in panels if panel["id"] == rule["panelId"]]
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    [condition] = rule["data"][1]["model"]["conditions"]
    [limit] = condition["evaluator"]["params"]

    # For a count, above 0 means 1 or more.
    assert [step["value"] for step in steps][1:] in ([], [limit], [limit + 1] * (limit == 0))


def test_rule_groups_have_the_required_keys() -> None:
    titles: Counter[tuple[str, str]] = Counter()
    for group in provisioned("groups"):
        assert set(group) == OF_GROUP
        assert DURATION.fullmatch(group["interval"])
        titles.update((group["folder"], rule["title"]) for rule in group["rules"])
    assert set(titles.values()) == {1}


def test_contact_points_policies_and_templates_fit_the_models_of_grafana() -> None:
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


def test_a_wrong_key_and_a_wrong_value_are_detected() -> None:
    dashboard = {**next(iter(dashboards().values())), "annotations": {"list": []}}

    with pytest.raises(AssertionError, match="/panels/0/titel"):
        fits(Dashboard, {**dashboard, "panels": [{**dashboard["panels"][0], "titel": "?"}]})
    with pytest.raises(AssertionError, match=r"Panel\.title"):
        fits(Dashboard, {**dashboard, "panels": [{**dashboard["panels"][0], "title": 7}]})
