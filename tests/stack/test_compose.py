"""What docker-compose.yml promises, as far as its text tells."""

import re
import shutil
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from heart.http.hosts import AllowedHosts, parse_authority
from heart.settings import variable
from monitoring.retraining.webhook.settings import RetrainerSettings
from monitoring.settings import DriftSettings
from serve.settings import Settings
from tests.conftest import Require
from tests.monitoring.configuration import PROMETHEUS
from tests.monitoring.test_environment import variables as grafana_variables
from tests.stack.compose_file import (
    COMPOSE,
    ROOT,
    Missing,
    document,
    interpolated,
    occurrences,
    required,
    services,
    variables,
)

EXAMPLE = (ROOT / ".env.example").read_text()
OWN = {"app", "mlflow", "mlflow-users", "retrainer", "pipeline"}
ONCE = {"mlflow-users", "pipeline"}
LASTING = services().keys() - ONCE
# Official images that write nothing but their volume and /tmp; those of PostgreSQL and SeaweedFS do.
WRITES_ELSEWHERE = {"postgres", "s3"}


# The file, and what is set


@pytest.mark.parametrize("given", ["required", "all"])
def test_it_fits_the_published_schema(
    given: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    names = required() if given == "required" else variables()
    values = {name: "8" if name.endswith("_PORT") else "given" for name in names}
    (tmp_path / "compose.yml").write_text(interpolated(values))

    for path in (tmp_path / "compose.yml", COMPOSE):
        command(f"check-jsonschema --builtin-schema vendor.compose-spec {path}", ROOT)


@pytest.mark.parametrize("name", sorted(required()))
def test_unset_secret_is_named(name: str) -> None:
    with pytest.raises(Missing, match=rf"^set {name} in \.env, "):
        interpolated(dict.fromkeys(required() - {name}, "given"))


def test_variables_have_one_default() -> None:
    assert len(occurrences()) == len(variables())


def test_no_secret_has_a_default_and_every_other_variable_has_one() -> None:
    secret = re.compile(r"PASSWORD|TOKEN|SECRET|(?<!PUBLIC)_KEY")

    # Empty, unless GitHub is told of alerts, or there are tokens besides HEART_API_TOKEN.
    optional = {"GITHUB_DISPATCH_TOKEN", "HEART_TOKENS"}
    assert required() == {name for name in variables() if secret.search(name)} - optional
    assert {variables()[name] for name in optional} == {""}


def test_the_example_names_every_variable_with_its_default() -> None:
    shown = dict(re.findall(r"(?m)^#([A-Z_0-9]+)=(.*)$", EXAMPLE))
    of_the_stack = {name for name in variables() if not name.startswith("HEART_")}
    kinds = (Settings, DriftSettings, RetrainerSettings)
    settings = {variable(kind, name) for kind in kinds for name in kind.model_fields}

    assert shown.keys() - settings == of_the_stack
    assert variables().keys() - of_the_stack <= settings
    for name in of_the_stack - required():
        default = variables()[name]
        assert shown[name] == default or default in {
            "http://127.0.0.1:9/slack-disabled", "grafana://noop",
        }, name  # fmt: skip


@pytest.mark.parametrize(
    ("service", "kinds"),
    [("app", (Settings, DriftSettings)), ("retrainer", (RetrainerSettings,))],
)
def test_every_setting_is_the_stacks_or_handed_on(service: str, kinds: tuple[Any, ...]) -> None:
    given = services()[service]["environment"]
    image = {"HEART_HOST", "HEART_PORT"}
    # Ports and a folder that are nobody's business; the app may not move an alias, and nginx removes
    # the header X-Forwarded-Prefix.
    elsewhere = {"HEART_RETRAIN_PORT", "HEART_RETRAIN_FOLDER"}
    elsewhere |= {"HEART_GUARD_ROLLBACK", "HEART_TRUST_FORWARDED_PREFIX"}

    for kind in kinds:
        for name in kind.model_fields:
            assert variable(kind, name) in given.keys() | image | elsewhere


# Images and limits


def test_foreign_images_are_pinned_and_own_ones_are_built() -> None:
    for name, service in services().items():
        if name in OWN:
            assert service["build"]["target"] == service["image"].split(":")[0].split("-")[1]
        else:
            assert "build" not in service
            assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+@sha256:[0-9a-f]{64}", service["image"]), (
                name
            )


@pytest.mark.parametrize("name", services())
def test_services_have_resource_limits(name: str) -> None:
    service = services()[name]

    assert service["mem_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) == (name not in WRITES_ELSEWHERE)
    if name in LASTING:
        assert {"cpus", "pids_limit"} <= service.keys()
        assert "healthcheck" in service or name == "app"  # its image has one


def test_services_wait_for_healthy_dependencies() -> None:
    for name, service in services().items():
        for other, wait in service.get("depends_on", {}).items():
            started = (name, other) == (
                "nginx",
                "app",
            )  # which is not ready before a model is there
            expected = "completed_successfully" if other in ONCE else "healthy"
            assert wait["condition"] == f"service_{'started' if started else expected}"


# Networks


def published(service: Any) -> list[str]:
    """The addresses at which a service can be reached from outside."""
    return [port.split(":")[0] for port in service.get("ports", [])]


def test_only_nginx_and_grafana_can_be_reached_from_other_machines() -> None:
    outside = {
        name
        for name, service in services().items()
        if any(not ip_address(address).is_loopback for address in published(service))
    }

    assert outside == {"nginx", "grafana"}
    assert {name for name, service in services().items() if published(service)} - outside == {
        "mlflow",
        "prometheus",
    }


def test_only_published_services_reach_other_networks() -> None:
    internal = {
        name for name, n in document()["networks"].items() if n is not None and n["internal"]
    }

    for name, service in services().items():
        assert bool(set(service["networks"]) - internal) == bool(published(service)), name


def test_unrelated_services_share_no_network() -> None:
    networks = {name: set(service["networks"]) for name, service in services().items()}

    def reached_from(name: str) -> set[str]:
        return {other for other in networks if networks[other] & networks[name]} - {name}

    assert reached_from("postgres") == {"app", "mlflow", "retrainer", "pipeline"}
    assert reached_from("s3") == {"mlflow", "retrainer", "pipeline"}
    assert reached_from("nginx") == {"app"}
    assert "mlflow-users" in reached_from("mlflow")


# What is mounted, and what it says


def test_mounted_paths_exist() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./.git":
                assert (ROOT / source).exists(), source


def test_files_of_the_checkout_are_mounted_to_be_read_only() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            assert not volume.startswith("./") or volume.endswith(":ro"), (name, volume)


def test_the_service_reads_the_public_keys_of_signed_versions() -> None:
    assert "./deploy/public_keys:/etc/heart/public_keys:ro" in services()["app"]["volumes"]


def test_grafana_is_given_every_variable_of_its_files() -> None:
    given = services()["grafana"]["environment"]

    assert grafana_variables() <= given.keys()
    assert all(given[name] for name in grafana_variables() - {"GITHUB_DISPATCH_TOKEN"})


def test_grafana_and_prometheus_call_the_retrainer_by_a_name_that_it_allows() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "retrainer")
    webhook = urlsplit(services()["grafana"]["environment"]["RETRAIN_WEBHOOK_URL"]).netloc
    allowed = AllowedHosts([services()["retrainer"]["environment"]["HEART_RETRAIN_ALLOWED_HOSTS"]])

    for host in (webhook, *job["static_configs"][0]["targets"]):
        assert parse_authority(host.encode()) in allowed


def test_prometheus_scrapes_the_same_jobs_as_outside_of_the_stack(
    require: Require, command: Callable[..., Any], tmp_path: Path
) -> None:
    configuration = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    stack, alone = (
        yaml.safe_load(path.read_text()) for path in (configuration, PROMETHEUS / "prometheus.yml")
    )
    jobs = [[job["job_name"] for job in config["scrape_configs"]] for config in (stack, alone)]
    assert jobs[0] == jobs[1]
    for key in ("global", "rule_files"):
        assert stack[key] == alone[key]

    program = require(shutil.which("promtool"), "prometheus")
    for path in (configuration, PROMETHEUS / "rules.yml"):
        shutil.copy(path, tmp_path)
    assert "SUCCESS" in command(f"{program} check config prometheus.yml", tmp_path).stdout


@pytest.mark.parametrize("path", sorted(ROOT.glob("deploy/**/*.sh")), ids=lambda p: p.name)
def test_shell_scripts_are_valid(path: Path, command: Callable[..., Any]) -> None:
    shell = path.read_text().splitlines()[0].removeprefix("#!").split()[-1]

    command(f"{shell} -n {path}", ROOT)
    assert path.stat().st_mode & 0o111


def test_the_page_names_every_service_and_image() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()

    for name, service in services().items():
        assert f"| `{name}` |" in page
        if name not in OWN:
            assert f"`{service['image'].split('@')[0]}`" in page
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text())
    assert set(re.findall(r"`make ([a-z-]+)", page)) <= set(targets)
