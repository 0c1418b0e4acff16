"""The manifests for Kubernetes: they fit the published schemas, and each other, and the image."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from heart.http.hosts import AllowedHosts, parse_authority
from heart.settings import variable
from serve.settings import Settings
from tests.fixtures.security import SecurityFigure
from tests.stack.compose_file import ROOT, services

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = {path.name: path for path in sorted(FOLDER.glob("*.yaml"))}
KUSTOMIZATION = yaml.safe_load(FILES["kustomization.yaml"].read_text())
RESOURCES = [
    resource
    for name in KUSTOMIZATION["resources"]
    for resource in yaml.safe_load_all(FILES[name].read_text())
]
# The oldest that is still looked after, and the newest with a schema.
VERSIONS = ("1.34", kubernetes_validate.latest_version())
FOREIGN = {"ServiceMonitor"}  # its schema is the Prometheus Operator's


def only(kind: str, name: str = "") -> Any:
    (result,) = (
        resource
        for resource in RESOURCES
        if resource["kind"] == kind and name in ("", resource["metadata"]["name"])
    )
    return result


POD = only("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def test_every_file_is_a_resource() -> None:
    assert {"kustomization.yaml", *KUSTOMIZATION["resources"]} == FILES.keys()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", sorted({r["kind"] for r in RESOURCES} - FOREIGN))
def test_resources_fit_the_published_schema(kind: str, version: str) -> None:
    for resource in (r for r in RESOURCES if r["kind"] == kind):
        kubernetes_validate.validate(resource, version, strict=True)


def test_resources_agree_on_pods_and_port() -> None:
    labels = POD["metadata"]["labels"]
    ports = {port["name"] for port in CONTAINER["ports"]}

    for resource in RESOURCES:
        spec = resource.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        if selector:
            assert selector.get("matchLabels", selector) == labels, resource["kind"]
        for port in spec.get("ports", []):
            assert port["targetPort"] in ports
    monitored = only("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    named = [
        r for r in RESOURCES if r["kind"] == "Service" and r["metadata"].get("labels") == monitored
    ]
    assert [service["metadata"]["name"] for service in named] == ["heart"]
    assert only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "heart"
    assert "replicas" not in only("Deployment")["spec"]


def test_the_image_is_the_composes_and_its_tag_pinned() -> None:
    (image,) = KUSTOMIZATION["images"]

    assert image["name"] == CONTAINER["image"] == services()["app"]["image"].split(":")[0]
    assert re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"])


def test_container_has_the_same_restrictions_as_in_compose() -> None:
    pod, own = POD["spec"]["securityContext"], CONTAINER["securityContext"]

    assert (pod["runAsNonRoot"], pod["runAsUser"]) == (True, 1000)
    assert own["readOnlyRootFilesystem"]
    assert own["capabilities"]["drop"] == services()["app"]["cap_drop"]
    assert not own["allowPrivilegeEscalation"]
    assert {mount["mountPath"] for mount in CONTAINER["volumeMounts"]} == {"/tmp", "/var/lib/heart"}  # noqa: S108
    # A Service named heart would otherwise set HEART_PORT.
    assert POD["spec"]["enableServiceLinks"] is False


@pytest.mark.security
def test_pod_fits_the_restricted_pod_security_standard(security_figure: SecurityFigure) -> None:
    spec, pod, own = POD["spec"], POD["spec"]["securityContext"], CONTAINER["securityContext"]
    host = {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"}

    assert not host & spec.keys()
    assert all("hostPort" not in port for port in CONTAINER["ports"])
    assert all(
        "emptyDir" in volume and "sizeLimit" in volume["emptyDir"] for volume in spec["volumes"]
    )
    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    namespace = only("Namespace")["metadata"]
    assert namespace["name"] == KUSTOMIZATION["namespace"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    security_figure(
        "pod of the service: privileges beyond the restricted standard, token of the cluster",
        "0",
        "0",
    )


def test_pod_has_the_limits_of_compose_and_one_for_its_disk() -> None:
    limits, app = CONTAINER["resources"]["limits"], services()["app"]

    assert limits["memory"].removesuffix("Gi") == app["mem_limit"].removesuffix("g")
    assert float(limits["cpu"]) == float(app["cpus"])
    volumes = sum(
        int(v["emptyDir"]["sizeLimit"].removesuffix("Mi")) for v in POD["spec"]["volumes"]
    )
    assert volumes <= 1024 * int(limits["ephemeral-storage"].removesuffix("Gi"))


@pytest.mark.security
def test_egress_reaches_only_dns_database_and_registry(security_figure: SecurityFigure) -> None:
    policy = only("NetworkPolicy", "heart")["spec"]
    destinations = {}
    for rule in policy["egress"]:
        (peer,) = rule["to"]
        assert peer.keys() == {"namespaceSelector", "podSelector"}, "any address, or any pod"
        assert all(selector["matchLabels"] for selector in peer.values())
        (name,) = peer["podSelector"]["matchLabels"].values()
        destinations[name] = {(port["port"], port.get("protocol", "TCP")) for port in rule["ports"]}

    networks = {name: set(service["networks"]) for name, service in services().items()}
    called = {name for name in ("postgres", "mlflow", "s3") if networks[name] & networks["app"]}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert called == {"postgres", "mlflow"}  # as in the stack
    assert destinations == {
        "kube-dns": {(53, "UDP"), (53, "TCP")},
        "postgresql": {(5432, "TCP")},
        "mlflow": {(5000, "TCP")},
    }
    security_figure(
        "pod of the service: destinations outside of the cluster that the network policy allows",
        "0",
        "0",
    )


@pytest.mark.security
def test_only_the_ingress_and_prometheus_reach_the_pods(security_figure: SecurityFigure) -> None:
    policy = only("NetworkPolicy", "heart")["spec"]
    callers = set()
    for rule in policy["ingress"]:
        assert rule["ports"] == [{"port": "http"}]
        for peer in rule["from"]:
            assert peer.keys() == {"namespaceSelector", "podSelector"}, "any pod of a namespace"
            assert all(selector["matchLabels"] for selector in peer.values())
            callers.add(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])

    assert callers == {"ingress-nginx", "prometheus"}
    security_figure(
        "pod of the service: pods beside ingress and Prometheus that the network policy admits",
        "0",
        "0",
    )


def test_what_no_policy_allows_is_denied_in_the_whole_namespace() -> None:
    spec = only("NetworkPolicy", "default-deny")["spec"]

    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_page_sets_every_label_of_a_namespace_that_the_policy_selects() -> None:
    policy = only("NetworkPolicy", "heart")["spec"]
    peers = [
        p for rule in policy["ingress"] + policy["egress"] for p in rule.get("from", rule.get("to"))
    ]
    selected = {
        f"{key}={value}"
        for peer in peers
        for key, value in peer["namespaceSelector"]["matchLabels"].items()
        if not key.startswith("kubernetes.io/")  # which Kubernetes sets
    }
    page = (ROOT / "docs" / "deployment.md").read_text()

    assert selected <= set(re.findall(r"(?m)^\$ kubectl label namespace .* (\S+=\S+)$", page))


def test_the_service_is_called_by_its_names_and_addresses() -> None:
    (setting,) = (e["value"] for e in CONTAINER["env"] if e["name"] == "HEART_ALLOWED_HOSTS")
    hosts = AllowedHosts(Settings(_env_file=None, allowed_hosts=setting).allowed_hosts)
    space = KUSTOMIZATION["namespace"]
    name = next(r for r in RESOURCES if r["kind"] == "Service")["metadata"]["name"]

    for host in (name, f"{name}.{space}", f"{name}.{space}.svc.cluster.local:80", "10.42.0.7:8000"):
        assert parse_authority(host.encode()) in hosts


def test_every_setting_exists_and_the_page_names_the_secrets() -> None:
    known = {variable(Settings, name) for name in Settings.model_fields}
    given = {e["name"] for e in CONTAINER["env"] if e["name"].startswith("HEART_")}
    page = (ROOT / "docs" / "deployment.md").read_text()
    secret = set(re.findall(r"--from-literal=([A-Z_]+)=", page))

    assert given <= known
    assert {name for name in secret if name.startswith("HEART_")} <= known
    assert {"HEART_API_TOKEN", "HEART_LOG_URL", "HEART_TRACKING_URI"} <= secret
