"""The service beside an endpoint that does nothing and beside `mlflow models serve`, in one run.

Each server is one worker process on loopback, and so is the load generator. The ratios are what
counts: both sides share the machine.
"""

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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from serve.patients import EXAMPLE, rows_of
from stages import files
from stages.errors import StageError, main_of

OUT = Path("benchmarks/serve.json")
SECONDS, ROUNDS = 5, 3
CONNECTIONS = (1, 16, 32)
BATCH = 10_000


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def server(command: list[str], port: int, probe: str, body: Any, **env: str) -> Iterator[float]:
    """A server while the block runs; gives the seconds from its start to its first answer."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(port, probe, body):
            if process.poll() is not None or time.perf_counter() - start > 120:
                raise StageError(f"{' '.join(command)} did not start")
            time.sleep(0.02)
        yield time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int, path: str, body: Any) -> bool:
    try:
        return bool(post(port, path, body))
    except OSError:
        return False


def post(port: int, path: str, body: Any) -> bytes:
    """The answer to one request; `body` is JSON, or what is to be made into it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


def load(port: int, path: str, body: Any, connections: int) -> dict[str, Any]:
    """One load, by a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.load",
        str(port),
        path,
        str(connections),
        str(SECONDS),
    ]
    done = subprocess.run(
        command, input=json.dumps(body), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        raise StageError(f"port {port}{path}: {found['statuses']} by status, expected 200 alone")
    return found


def beside(
    ours: tuple[int, str, Any], theirs: tuple[int, str, Any], connections: int
) -> dict[str, float]:
    """Our answers a second over theirs, and our p99 over theirs: the best of some paired rounds."""
    rounds = []
    for _ in range(ROUNDS):
        a, b = load(*ours, connections), load(*theirs, connections)
        rounds.append(
            {
                "per_second": a["per_second"],
                "ratio": a["per_second"] / b["per_second"],
                "p99_seconds": a["p99"],
                "p99_ratio": a["p99"] / b["p99"],
            }
        )
    return sorted(rounds, key=lambda found: found["ratio"])[ROUNDS // 2]


def batch(port: int) -> float:
    """Patients a second in batches of 10,000, the log included: the median of some."""
    body = json.dumps({"patients": [EXAMPLE] * BATCH}).encode()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        post(port, "/predict/batch", body)
        times.append(time.perf_counter() - start)
    return BATCH / statistics.median(times)


def main() -> None:
    ours, nothing, mlflow = free_port(), free_port(), free_port()
    report: dict[str, Any] = {}
    with TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        env = {
            "HEART_PORT": str(ours),
            "HEART_LOG_URL": f"sqlite:///{folder}/log.db",
            "HEART_CACHE_DIR": f"{folder}/cache",
        }
        service = [sys.executable, "-m", "serve"]
        with server(service, ours, "/predict", EXAMPLE, **env) as seconds:
            report["seconds_to_first_answer_without_cache"] = seconds
        seconds = servers.enter_context(server(service, ours, "/predict", EXAMPLE, **env))
        report["seconds_to_first_answer"] = seconds
        idle = [sys.executable, "-m", "benchmarks.nothing", str(nothing)]
        servers.enter_context(server(idle, nothing, "/predict", EXAMPLE))
        time.sleep(10)  # the page is built meanwhile
        for connections in CONNECTIONS:
            found = beside((ours, "/predict", EXAMPLE), (nothing, "/predict", EXAMPLE), connections)
            report[f"nothing_{connections}"] = found
            print(
                f"{connections:3} connections: {found['per_second']:.0f} requests/s, "
                f"{found['ratio']:.2f} x doing nothing; p99 {found['p99_seconds'] * 1000:.0f} ms, "
                f"{found['p99_ratio']:.1f} x"
            )
        report["batch_patients_per_second"] = batch(ours)
        print(f"batches of {BATCH}: {report['batch_patients_per_second']:.0f} patients/s")
        row = {"inputs": [[None if v != v else float(v) for v in rows_of([EXAMPLE])[0]]]}
        row["inputs"][0] = [0.0 if v is None else v for v in row["inputs"][0]]
        command = [
            "mlflow", "models", "serve", "-m", "models:/heart-disease@champion", "--env-manager", "local",
            "-p", str(mlflow), "-w", "1",
        ]  # fmt: skip
        registry = f"sqlite:///{Path('registry/mlflow.db').absolute()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI", registry)
        servers.enter_context(server(command, mlflow, "/invocations", row, MLFLOW_TRACKING_URI=uri))
        found = beside((ours, "/predict", EXAMPLE), (mlflow, "/invocations", row), 16)
        report["mlflow_16"] = found
        print(f"against mlflow models serve, 16 connections: {found['ratio']:.1f} x")
    print(
        f"first answer after {report['seconds_to_first_answer']:.1f} s, "
        f"{report['seconds_to_first_answer_without_cache']:.1f} s without a cached model"
    )
    files.write_json(OUT, report)


if __name__ == "__main__":
    main_of(main)
