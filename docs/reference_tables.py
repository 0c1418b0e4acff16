"""Tables of settings, routes, metrics, alerts, parameters and measurements, taken from the code."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import MagicMock

import yaml
from fastapi.routing import APIRoute
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from docs.markdown import code, table
from heart.dataset.codings import NUMBERED
from heart.dataset.headings import ALIASES, COLUMNS, plain
from heart.dataset.words import WORDS
from heart.http.problems import KINDS, type_uri
from heart.locale.catalog import DEFAULT
from heart.locale.language import label
from heart.predictions.log import PredictionLog
from heart.schema import MEASUREMENTS, OUTCOME
from heart.settings import Variables, variable
from monitoring import collector as drift_metrics
from monitoring.retraining.webhook import metrics as receiver_metrics
from monitoring.retraining.webhook.settings import RetrainerSettings
from monitoring.settings import DriftSettings
from serve import collectors, patient_metrics
from serve import metrics as service_metrics
from serve.app import create_app
from serve.model_manager import ModelManager
from serve.settings import Settings

SETTINGS: dict[str, type[Variables]] = {
    "service": Settings,
    "drift": DriftSettings,
    "receiver": RetrainerSettings,
}
PROGRAMS = {
    "service": (service_metrics, patient_metrics, collectors, drift_metrics),
    "receiver": (receiver_metrics,),
}
RULES = Path("monitoring/grafana/provisioning/alerting/rules.yml")
RECORDED = Path("monitoring/prometheus/rules.yml")
COMPARISONS = {"gt": "> ", "gte": "at least ", "lt": "< ", "lte": "at most "}
OUTSIDE_OPENAPI = {
    "/metrics": "Metrics in the format of Prometheus.",
    "/docs": "Documentation of the API, with a form for each route.",
    "/problems": "The types of problems, which errors name, as a page.",
}
SUFFIXES = {"counter": "_total", "info": "_info"}


def settings(program: str) -> str:
    """The environment variables of a program, with default and meaning."""
    rows = []
    kind = SETTINGS[program]
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        default = extra["default"] if isinstance(extra, dict) else field.get_default()
        required = "required" if field.is_required() else "not set"
        shown = required if default is None or field.is_required() else code(str(default))
        rows.append([code(variable(kind, name)), shown, str(field.description)])
    return table(["variable", "default", "meaning"], rows)


def service_routes() -> list[APIRoute]:
    """The routes of the API. No model is loaded and no database is opened."""
    with TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "log_url": f"sqlite:///{folder}/log.db", "cache_dir": folder, "api_token": "0" * 16
        }  # fmt: skip
        known = Settings(_env_file=None, **options)
        log, counts = PredictionLog(known.log_url), service_metrics.Metrics()
        app = create_app(known, ModelManager(known), log, counts, with_page=False)
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    return [route for route in routes if route.include_in_schema or route.path in OUTSIDE_OPENAPI]


def _open(route: APIRoute) -> str:
    """The scope of a route that requires a token only if a token has it."""
    return "`metrics`, if a named token has it" if route.path == "/metrics" else "none"


def routes() -> str:
    """The routes of the API with the status codes of their responses."""
    rows = []
    for route in service_routes():
        summary = OUTSIDE_OPENAPI.get(route.path) or inspect.getdoc(route.endpoint) or ""
        statuses = sorted({route.status_code or 200, *map(int, route.responses)})
        methods = ", ".join(sorted(route.methods or ()))
        rows.append(
            [
                code(f"{methods} {route.path}"),
                " ".join(summary.split()),
                code(getattr(route, "token_scope", "")) if route.dependencies else _open(route),
                ", ".join(map(str, statuses)),
            ]
        )
    return table(["route", "what it does", "scope", "status codes"], rows)


def families(program: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Name, type, meaning and labels of each metric of a program.

    Collectors ask other objects at each scrape; here these are mocks, which have every attribute.
    """
    for module in PROGRAMS[program]:
        kinds: list[Any] = [kind for kind in vars(module).values() if inspect.isclass(kind)]
        for kind in kinds:
            if kind.__module__ != module.__name__:
                continue
            if Collector in inspect.getmro(kind):
                parameters = inspect.signature(kind).parameters
                for family in kind(*(MagicMock() for _ in parameters)).collect():
                    labels = getattr(family, "_labelnames", ())
                    yield family.name, family.type, family.documentation, list(labels)
            elif kind.__name__ == "Metrics":
                for metric in kind().registry._collector_to_names:  # noqa: SLF001
                    if isinstance(metric, MetricWrapperBase):
                        (family,) = metric.describe()
                        labels = metric._labelnames  # noqa: SLF001
                        yield family.name, family.type, family.documentation, list(labels)


def metrics(program: str) -> str:
    """The metrics of a program."""
    rows = [
        [code(name + SUFFIXES.get(kind, "")), kind, ", ".join(map(code, labels)), meaning]
        for name, kind, meaning, labels in sorted(families(program))
    ]
    return table(["metric", "type", "labels", "meaning"], rows)


def alert_rules() -> list[Mapping[str, Any]]:
    """The alert rules of Grafana."""
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts() -> str:
    """The alerts with their conditions; each links to its section in the runbook."""
    rows = []
    for rule in alert_rules():
        query, threshold = (step["model"] for step in rule["data"])
        (evaluator,) = (each["evaluator"] for each in threshold["conditions"])
        limit = f"{COMPARISONS[evaluator['type']]}{evaluator['params'][0]:g}"
        rows.append(
            [
                f"[{rule['title']}](runbook.md#{anchor(rule['title'])})",
                code(query["expr"]), limit, rule["for"], rule["labels"]["severity"],
            ]
        )  # fmt: skip
    return table(["alert", "expression", "fires at", "for", "severity"], rows)


def recording_rules() -> str:
    """The recording rules of Prometheus."""
    document = yaml.safe_load(RECORDED.read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    return table(["name", "expression"], [[code(r["record"]), code(r["expr"])] for r in rules])


def anchor(title: str) -> str:
    """The anchor that MyST and GitHub give a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def parameters(section: str) -> str:
    """A section of params.yaml: key, value and the comment beside it."""
    text = Path("params.yaml").read_text()
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{section}:"))
    rows: list[list[str]] = []
    keys: list[str] = [section]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        content, _, comment = line.partition("#")
        if content.strip().startswith("- "):
            continue  # an entry of a list, which its key shows
        key, _, value = content.strip().partition(":")
        keys = [*keys[: (len(line) - len(line.lstrip())) // 2], key]
        entry = reduce(getitem, keys, yaml.safe_load(text))
        if not isinstance(entry, dict) or not entry:
            shown = value.strip() or str(entry)
            rows.append([code(".".join(keys)), code(shown), comment.strip()])
    return table(["parameter", "value", "comment"], rows)


def measurements() -> str:
    """The measurements and the outcome, as the API takes them."""
    rows = [
        [
            code(m.name),
            label(m, DEFAULT),
            m.expected,
            "required" if m.required else "may be missing",
        ]
        for m in (*MEASUREMENTS, OUTCOME)
    ]
    return table(["column", "meaning", "valid value", ""], rows)


def column_names() -> str:
    """The names by which files of other projects call the columns."""
    rows = []
    for column in COLUMNS:
        others = [a for a, name in ALIASES.items() if name == column and a != plain(column)]
        rows.append([code(column), ", ".join(map(code, others))])
    return table(["column", "also recognized, whatever case, spaces and punctuation"], rows)


def codings() -> str:
    """The numbers of each coding for the categories in which codings differ."""

    def cell(codes: Mapping[str, str]) -> str:
        return ", ".join(f"{code(token)} {name or 'missing'}" for token, name in codes.items())

    rows: Iterable[list[str]] = (
        [code(column), *(cell(coding[column]) for coding in NUMBERED.values())]
        for column in NUMBERED["uci"]
    )
    return table(["column", *map(code, NUMBERED)], rows)


def category_words() -> str:
    """The words that are read for each category, in every coding."""
    rows = []
    for column, words in WORDS.items():
        for category in dict.fromkeys(words.values()):
            alike = [word for word, name in words.items() if name == category]
            rows.append([code(column), code(category), ", ".join(map(code, alike[1:]))])
    return table(["column", "category", "also read, whatever case and punctuation"], rows)


def problems() -> str:
    """A section for each type of problem. The headings are the fragments of the types."""
    return "\n\n".join(
        f"## {name}\n\n`{type_uri(name)}`, status {kind.status}. {kind.meaning}\n\n{kind.action}"
        for name, kind in KINDS.items()
    )


BLOCKS: dict[str, Callable[..., str]] = {
    "problems": problems,
    "settings": settings,
    "routes": routes,
    "metrics": metrics,
    "alerts": alerts,
    "recording-rules": recording_rules,
    "parameters": parameters,
    "measurements": measurements,
    "column-names": column_names,
    "codings": codings,
    "category-words": category_words,
}
