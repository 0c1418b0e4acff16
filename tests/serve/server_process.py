"""The service as its users start it: `python -m serve`, a process of its own on a free port."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.heart.predictions.logs import until
from tests.heart.registry.registry_fixture import ROOT
from tests.processes import free_port

TOKEN = "a-token-of-some-length"

SERVE = (sys.executable, "-m", "serve")


@dataclass
class Server:
    """A service that runs; `client` is an HTTP client of it, `output` all that it has printed."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def answers(self, path: str) -> bool:
        """Whether a page is there."""
        assert self.process.poll() is None, self.output.read_text()
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def with_page(self) -> "Server":
        """Itself, once its page is built, which takes processor and memory."""
        until(lambda: self.answers("/"), 120)
        return self

    def metric(self, sample: str) -> float:
        """The value of a sample, with its labels as /metrics writes them."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{sample} ")).split()[-1])

    def resident(self) -> int:
        """The bytes of memory that the process occupies."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def settled(self) -> int:
        """`resident` once it grows no more: the page goes on loading after its first answer."""
        sizes = [self.resident()]

        def still() -> bool:
            time.sleep(0.5)
            sizes.append(self.resident())
            return sizes[-1] - sizes[-2] < 500_000

        until(still, 60)
        return sizes[-1]


def own_environment(**settings: Any) -> dict[str, str]:
    """The environment of a service with these settings and no others."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("HEART_", "MLFLOW_"))}
    own = {f"HEART_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(ROOT), **own}


@contextmanager
def served(
    folder: Path, registry: Path, command: Sequence[str] = SERVE, **settings: Any
) -> Iterator[Server]:
    """The service on the registry in a database file, with its log in a folder, ready to predict.

    Services on the same registry share a cache, which only the first of them has to fill.
    """
    port = free_port()
    given = {
        "port": port,
        "tracking_uri": f"sqlite:///{registry}",
        "cache_dir": registry.with_name("cache"),
        "log_url": f"sqlite:///{folder}/log.db",
        **settings,
    }
    output = folder / "output"
    with output.open("ab") as printed:
        process = subprocess.Popen(
            command, cwd=folder, env=own_environment(**given),
            stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = Server(port, process, output)
    try:
        until(lambda: server.answers("/health/ready"), 60)
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait()


@contextmanager
def served_with_token(folder: Path, watched: Path) -> Iterator[Server]:
    """A server for the pipeline's registry in `watched` that requires TOKEN, once its first drift check is complete."""
    with served(folder, watched / "registry" / "mlflow.db", api_token=TOKEN) as server:
        server.client.headers["Authorization"] = f"Bearer {TOKEN}"
        until(lambda: server.answers("/drift"))
        yield server
