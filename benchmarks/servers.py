"""Servers on loopback, under load one by one or two in turns."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heart.errors import UserError

SECONDS, ROUNDS = 5, 5


@dataclass(frozen=True)
class Server:
    """A server that answers, and the seconds from its start to the first response."""

    port: int
    pid: int
    seconds: float

    def memory(self) -> float:
        """The resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def server(
    command: list[str], port: int, probe: str, body: Any, folder: Path = Path(), **env: str
) -> Iterator[Server]:
    """A server, started in a folder, while the block runs."""
    start = time.perf_counter()
    # Some servers start other programs of their environment, which need not be activated.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PATH": path, **env},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not _answers(port, probe, body):
            if process.poll() is not None or time.perf_counter() - start > 120:
                raise UserError(f"{' '.join(command)} did not start")
            time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int, path: str, body: Any) -> bool:
    try:
        return bool(post(port, path, body))
    except OSError:
        return False


def post(port: int, path: str, body: Any) -> bytes:
    """The response to one request; `body` is JSON as bytes, or a value to convert to JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return bytes(response.read())


Target = tuple[int, str, Any]  # port, path and body


def load(
    target: Target, connections: int, seconds: float = SECONDS, wait: float | None = None
) -> dict[str, Any]:
    """One load, by a process of its own; without `wait` a rejection is an error."""
    port, path, body = target
    command = [
        *(sys.executable, "-m", "benchmarks.load", str(port), path),
        *map(str, (connections, seconds, wait or 0)),
    ]
    done = subprocess.run(
        command, input=json.dumps(body), capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    allowed = {"200"} if wait is None else {"200", "503"}
    if not set(result["statuses"]) <= allowed:
        raise UserError(f"port {port}{path}: {result['statuses']} by status, expected {allowed}")
    return result


def beside(
    project: Target, other: Target, connections: int, rounds: int = ROUNDS
) -> dict[str, Any]:
    """The ratios of responses in a second and of p99 of the project to those of another server, and the
    latencies of both: the medians of some paired rounds.
    """
    figures, latencies, other_latencies = [], [], []
    for number in range(rounds):
        # In turns, since the first load may leave writes for the disk.
        if number % 2:
            b, a = load(other, connections), load(project, connections)
        else:
            a, b = load(project, connections), load(other, connections)
        figures.append(
            {
                "per_second": a["per_second"],
                "ratio": a["per_second"] / b["per_second"],
                "p50_ratio": a["answered"]["p50"] / b["answered"]["p50"],
                "p99_ratio": a["answered"]["p99"] / b["answered"]["p99"],
            }
        )
        latencies.append(a["answered"])
        other_latencies.append(b["answered"])
    return medians(figures) | {
        "p99_ratios": sorted(round_["p99_ratio"] for round_ in figures),
        "latency": medians(latencies),
        "their_latency": medians(other_latencies),
    }


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
