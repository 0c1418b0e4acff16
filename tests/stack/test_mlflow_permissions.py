"""MLflow's users, on a real server with the stack's configuration: the service's user reads and changes nothing."""

import contextlib
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from heart.registry import publishing
from heart.registry.aliases import set_champion
from serve.model_manager import ModelManager
from serve.settings import Settings
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import NAME, publish, serving, until
from tests.processes import free_port
from tests.stack.compose_file import ROOT, services

pytestmark = pytest.mark.integration

PASSWORDS = {name: f"{name}-password-1" for name in ("admin", "pipeline", "serve")}
DEPLOY = ROOT / "deploy/mlflow"


@dataclass(frozen=True)
class Server:
    """An MLflow server whose databases and artifacts are in a folder."""

    folder: Path
    address: str

    def state(self) -> dict[str, Any]:
        """All rows of both databases, and the hash of each artifact."""
        state: dict[str, Any] = {}
        for name in ("mlflow.db", "users.db"):
            connection = sqlite3.connect(self.folder / name)
            state[name] = set(connection.iterdump())
            connection.close()
        for path in (self.folder / "artifacts").rglob("*"):
            if path.is_file():
                state[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        return state


def variables(user: str, address: str) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": PASSWORDS[user],
    }


def command(port: int) -> list[str]:
    """The command of docker-compose.yml, with SQLite and a folder for the stores."""
    replaced = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": "sqlite:///mlflow.db",
        "--artifacts-destination": "./artifacts",
        "--allowed-hosts": f"127.0.0.1:{port}",
    }
    options = [option.partition("=") for option in services()["mlflow"]["command"]]
    assert replaced.keys() <= {name for name, _, _ in options}
    return [
        *services()["mlflow"]["entrypoint"],
        *(f"{name}{equals}{replaced.get(name, value)}" for name, equals, value in options),
    ]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]
) -> Iterator[Server]:
    """A server with the stack's users and one registered version, the champion."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    text = (DEPLOY / "basic_auth.ini").read_text()
    configuration = re.sub("database_uri = .*", "database_uri = sqlite:///users.db", text)
    (folder / "basic_auth.ini").write_text(configuration)
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": "basic_auth.ini",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": str(DEPLOY),
    }
    assert given.keys() <= services()["mlflow"]["environment"].keys()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command(port), cwd=folder, env={**environment, **given}, stdout=log, stderr=log,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        server = Server(folder, f"http://127.0.0.1:{port}")
        try:
            until(lambda: process.poll() is not None or answers(server.address), 120)
            assert process.poll() is None, (folder / "log").read_text()
            fill(server, environment)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").is_success
    except httpx.TransportError:
        return False


def fill(server: Server, environment: Mapping[str, str]) -> None:
    """Make the users as the stack does, then register a version as the pipeline's user."""
    given = {f"MLFLOW_{name.upper()}_PASSWORD": PASSWORDS[name] for name in ("pipeline", "serve")}
    subprocess.run(
        [sys.executable, DEPLOY / "users.py"],
        env={**environment, **given, **variables("admin", server.address)}, check=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        for name, value in variables("pipeline", server.address).items():
            patch.setenv(name, value)
        client = publishing.connect()
        publish(client, server.folder, 0.1)
        set_champion(client, NAME, "1")


@pytest.fixture
def attacks(server: Server) -> list[tuple[str, str, dict[str, Any]]]:
    """Requests that change something, each valid: method, path and body."""
    with httpx.Client(
        auth=("pipeline", PASSWORDS["pipeline"]), base_url=server.address, timeout=60
    ) as http:
        api = "/api/2.0/mlflow"
        model = {"name": NAME, "version": "1"}
        version = http.get(f"{api}/model-versions/get", params=model).json()["model_version"]
        run = version["run_id"]
        info = http.get(f"{api}/runs/get", params={"run_id": run}).json()["run"]["info"]
    experiment, files = info["experiment_id"], "/api/2.0/mlflow-artifacts/artifacts"
    tag = {"key": "a", "value": "b"}
    alias = {"name": NAME, "alias": "champion"}
    user = {"username": "serve", "password": "another-password-1"}
    return [
        ("POST", f"{api}/experiments/create", {"name": "another"}),
        ("POST", f"{api}/experiments/update", {"experiment_id": experiment, "new_name": "x"}),
        ("POST", f"{api}/experiments/delete", {"experiment_id": experiment}),
        ("POST", f"{api}/runs/create", {"experiment_id": experiment}),
        ("POST", f"{api}/runs/update", {"run_id": run, "status": "FAILED"}),
        ("POST", f"{api}/runs/delete", {"run_id": run}),
        ("POST", f"{api}/runs/log-metric", {"run_id": run, "key": "a", "value": 1, "timestamp": 1}),
        ("POST", f"{api}/runs/log-parameter", {"run_id": run, **tag}),
        ("POST", f"{api}/runs/set-tag", {"run_id": run, **tag}),
        ("POST", f"{api}/registered-models/create", {"name": "another"}),
        ("POST", f"{api}/registered-models/rename", {"name": NAME, "new_name": "x"}),
        ("PATCH", f"{api}/registered-models/update", {"name": NAME, "description": "x"}),
        ("DELETE", f"{api}/registered-models/delete", {"name": NAME}),
        ("POST", f"{api}/registered-models/set-tag", {"name": NAME, **tag}),
        ("POST", f"{api}/registered-models/alias", {**alias, "version": "1"}),
        ("DELETE", f"{api}/registered-models/alias", alias),
        ("POST", f"{api}/model-versions/create", {"name": NAME, "source": version["source"]}),
        ("PATCH", f"{api}/model-versions/update", {**model, "description": "x"}),
        ("POST", f"{api}/model-versions/set-tag", {**model, **tag}),
        ("DELETE", f"{api}/model-versions/delete-tag", {**model, "key": "model_sha256"}),
        ("DELETE", f"{api}/model-versions/delete", model),
        ("POST", f"{api}/logged-models", {"experiment_id": experiment, "name": "x"}),
        ("PUT", f"{files}/{experiment}/{run}/artifacts/metrics/evaluate.json", {}),
        ("DELETE", f"{files}/{experiment}/{run}/artifacts/metrics", {}),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=x", {}),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate", {"features": ["prompts"]}),
        ("POST", "/graphql", {"operationName": "a", "query": "query a { test { inputString } }"}),
        ("PATCH", f"{api}/users/update-password", user),
        ("PATCH", f"{api}/users/update-admin", {"username": "serve", "is_admin": True}),
        ("POST", f"{api}/users/create", {**user, "username": "another"}),
    ]


@pytest.mark.security
def test_the_services_user_changes_nothing(
    server: Server, attacks: list[tuple[str, str, dict[str, Any]]], security_figure: SecurityFigure
) -> None:
    before = server.state()

    with httpx.Client(
        auth=("serve", PASSWORDS["serve"]), base_url=server.address, timeout=60
    ) as http:
        statuses = {
            (method, path): http.request(method, path, json=body).status_code
            for method, path, body in attacks
        }

    assert {request: status for request, status in statuses.items() if status != 403} == {}
    assert server.state() == before
    security_figure(
        f"MLflow, the service's user: changes of {len(attacks)} kinds that succeeded", "0", "0"
    )


def test_the_pipelines_user_may_write_what_the_services_user_may_not(server: Server) -> None:
    body = {"name": NAME, "version": "1", "key": "note", "value": "text"}
    url = f"{server.address}/api/2.0/mlflow/model-versions/set-tag"

    statuses = [
        httpx.post(url, json=body, auth=auth, timeout=60).status_code
        for auth in (("serve", PASSWORDS["serve"]), ("pipeline", PASSWORDS["pipeline"]))
    ]

    assert statuses == [403, 200]


@pytest.mark.security
def test_a_user_without_a_role_reads_nothing(
    server: Server, security_figure: SecurityFigure
) -> None:
    admin = httpx.BasicAuth("admin", PASSWORDS["admin"])
    user = {"username": "user", "password": "a-password-of-a-user"}
    url = f"{server.address}/api/2.0/mlflow"
    created = httpx.post(f"{url}/users/create", json=user, auth=admin, timeout=60)
    assert created.is_success, created.text
    read = f"{url}/registered-models/get?name={NAME}"

    statuses = [
        httpx.get(read, auth=auth, timeout=60).status_code
        for auth in (None, ("serve", "wrong"), (user["username"], user["password"]))
    ]

    assert statuses == [401, 401, 403]
    security_figure("MLflow, no user or one without a role: models that it could read", "0", "0")


def test_the_service_loads_the_champion_as_its_user(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: Callable[[ModelManager], ModelManager],
) -> None:
    name = services()["app"]["environment"]["MLFLOW_TRACKING_USERNAME"]
    for variable, value in variables(name, server.address).items():
        monkeypatch.setenv(variable, value)
    settings = Settings(
        _env_file=None,
        tracking_uri=server.address,
        cache_dir=tmp_path,
        poll_seconds=60,
        allowed_hosts=["testserver"],
    )

    manager = started(ModelManager(settings))
    until(lambda: manager.current is not None, 60)

    assert serving(manager).version == "1"
    assert serving(manager).figures
