"""The service, a Prometheus with the project's configuration, and another replica's metrics, all running."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from tests.monitoring.configuration import PROMETHEUS, ROOT
from tests.processes import free_port

INTERVAL = "500ms"


@dataclass(frozen=True)
class Stack:
    service: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path
    prometheus: httpx.Client
    other_last_run: Gauge
    receiver: httpx.Client

    def ask(self, query: str, at: float | None = None) -> list[dict[str, str]]:
        """The labels of the series that a query returns, now or as it was."""
        when = {} if at is None else {"time": at}
        # Grafana puts in a time that holds some scrapes.
        short = query.replace("$__rate_interval", "10s")
        answer = self.prometheus.post("/api/v1/query", data={"query": short, **when}).json()
        assert answer["status"] == "success", (query, answer)
        return [series["metric"] for series in answer["data"]["result"]]


def until(condition: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> Any:
    """Wait until the condition has a result; return it."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(pause)
    return result


@contextmanager
def running(
    command: list[str], folder: Path, environment: Mapping[str, str], url: str, ready: str
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server, from its start to its end, and a client of it."""
    with (folder / f"{Path(command[-1]).name}.log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )

    def answers() -> bool:
        assert process.poll() is None, Path(output.name).read_text()
        try:
            return client.get(ready).is_success
        except httpx.TransportError:
            return False

    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            until(answers)
            yield process, client
    finally:
        process.kill()
        process.wait()


@contextmanager
def served(
    registry: Path, folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The service, with the champion of a registry."""
    port = free_port()
    shutil.copy(registry, folder / "registry.db")
    settings = {
        "PYTHONPATH": str(ROOT),
        "HEART_PORT": str(port),
        "HEART_TRACKING_URI": f"sqlite:///{folder / 'registry.db'}",
        "HEART_LOG_URL": f"sqlite:///{folder / 'log.db'}",
        "HEART_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "serve"]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder, {**environment, **settings}, url, "/health/ready") as both:
        yield both


@contextmanager
def scraping(
    program: Path,
    folder: Path,
    targets: list[dict[str, Any]],
    receiver: httpx.Client,
    environment: Mapping[str, str],
) -> Iterator[httpx.Client]:
    """Prometheus with the project's configuration, except for targets, intervals and its port."""
    port = free_port()
    for path in PROMETHEUS.iterdir():
        text = path.read_text().replace("15s", INTERVAL).replace(":9090", f":{port}")
        text = text.replace(":8001", f":{receiver.base_url.port}")
        (folder / path.name).write_text(text)
    (folder / "targets.yml").write_text(yaml.safe_dump(targets))
    command = [
        str(program),
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--config.file=prometheus.yml",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder, environment, url, "/-/ready") as (_, client):
        yield client


@contextmanager
def other_replica() -> Iterator[tuple[str, Gauge]]:
    """The address of the metrics of another drift monitor, and the time of its last check: now."""
    registry = CollectorRegistry()
    last_run = Gauge("heart_drift_last_run_timestamp_seconds", "-", registry=registry)
    last_run.set_function(time.time)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}", last_run
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
