"""The files under monitoring/, read as by Grafana and Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
GRAFANA = MONITORING / "grafana"
PROMETHEUS = MONITORING / "prometheus"

COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<"}
# Keywords of PromQL that no bracket follows.
KEYWORDS = {"and", "or", "unless", "offset", "bool"}


def documents() -> dict[str, Any]:
    """Every provisioning file, by its path under provisioning/."""
    folder = GRAFANA / "provisioning"
    return {
        str(path.relative_to(folder)): yaml.safe_load(path.read_text())
        for path in sorted(folder.rglob("*.yml"))
    }


def provisioned(kind: str) -> list[Any]:
    """All entries of a kind, such as `contactPoints`."""
    return [entry for document in documents().values() for entry in document.get(kind, [])]


def alert_rules() -> dict[str, Any]:
    """Grafana's alert rules by uid."""
    return {rule["uid"]: rule for group in provisioned("groups") for rule in group["rules"]}


def dashboards() -> dict[str, Any]:
    """The dashboards by uid."""
    documents = [json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))]
    return {dashboard["uid"]: dashboard for dashboard in documents}


def panels(dashboard: Mapping[str, Any]) -> list[Any]:
    """The panels that draw something; rows only divide a dashboard."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def panel_queries(panel: Mapping[str, Any]) -> list[str]:
    """The queries of a panel, with every variable of the dashboard set to all."""
    return [re.sub(r"\$(instance|model_version)\b", ".*", t["expr"]) for t in panel["targets"]]


def annotation_queries(dashboard: Mapping[str, Any]) -> list[str]:
    return [annotation["expr"] for annotation in dashboard["annotations"]["list"]]


def queries() -> list[str]:
    """Every PromQL expression of a panel, of an annotation or of an alert rule."""
    of_panels = [
        query
        for dashboard in dashboards().values()
        for panel in panels(dashboard)
        for query in panel_queries(panel)
    ]
    of_events = [query for d in dashboards().values() for query in annotation_queries(d)]
    return [*of_panels, *of_events, *(alert_query(rule) for rule in alert_rules().values())]


def alert_query(rule: Mapping[str, Any]) -> str:
    """The query whose result an alert rule compares with its limit."""
    query: str = rule["data"][0]["model"]["expr"]
    return query


def alert_expression(rule: Mapping[str, Any]) -> str:
    """The PromQL expression that has a series for each alarm that Grafana would raise."""
    (condition,) = rule["data"][1]["model"]["conditions"]
    (limit,) = condition["evaluator"]["params"]
    return f"{alert_query(rule)} {COMPARISONS[condition['evaluator']['type']]} {limit}"


def metrics_in(query: str) -> set[str]:
    """The names of the metrics in a PromQL expression."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b[a-zA-Z_][\w:]*\b(?!\s*\()", bare)) - KEYWORDS


def recorded() -> dict[str, str]:
    """The recording rules' expressions by the names they record."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def texts(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in a document, with the keys that lead to it."""
    if isinstance(value, str):
        yield place, value
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from texts(item, (*place, str(key)))


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """The value that Grafana reads from a text in a provisioning file.

    As its package provisioning/values does: a doubled dollar sign is a literal one; names in braces
    are replaced first, then, in the outcome, names with and without.
    """

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1], "")

    parts = [re.sub(r"\$(?:__env)?\{([^}]+)\}", value, part) for part in text.split("$$")]
    return "$".join(re.sub(r"\$\{?([A-Za-z_]\w*|[*#@!?0-9-])\}?", value, part) for part in parts)
