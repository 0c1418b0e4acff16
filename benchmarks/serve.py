"""The service beside an endpoint that does nothing, `mlflow models serve` and BentoML, in one run.

Each server is one worker process on loopback, and so is the load generator. The ratios are what
counts: both sides share the machine.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aliases import CHALLENGER, CHAMPION
from benchmarks import peer
from serve.patients import EXAMPLE, rows_of
from serve.settings import Settings
from stages import files
from stages.errors import StageError, main_of

OUT = Path("benchmarks/serve.json")
SECONDS, ROUNDS = 5, 5
CONNECTIONS = (1, 16, 64)
BATCH, BATCHES = 10_000, 9
OVERLOAD, OVERLOAD_SECONDS, OVERLOAD_ROUNDS = 5, 60, 6
PREDICTIONS = 1_000_000
PAGE_SECONDS = 15  # enough for the page to be built


@dataclass(frozen=True)
class Server:
    """A server that answers, and how many seconds that took from its start."""

    port: int
    pid: int
    seconds: float

    def memory(self) -> float:
        """What it holds in memory, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def server(
    command: list[str], port: int, probe: str, body: Any, folder: Path = Path(), **env: str
) -> Iterator[Server]:
    """A server, started in a folder, while the block runs."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not _answers(port, probe, body):
            if process.poll() is not None or time.perf_counter() - start > 120:
                raise StageError(f"{' '.join(command)} did not start")
            time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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


Target = tuple[int, str, Any]  # port, path and body


def load(
    target: Target, connections: int, seconds: float = SECONDS, wait: float | None = None
) -> dict[str, Any]:
    """One load, by a process of its own; without `wait` a refusal is an error."""
    port, path, body = target
    command = [
        *(sys.executable, "-m", "benchmarks.load", str(port), path),
        *map(str, (connections, seconds, wait or 0)),
    ]
    done = subprocess.run(
        command, input=json.dumps(body), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    allowed = {"200"} if wait is None else {"200", "503"}
    if not set(found["statuses"]) <= allowed:
        raise StageError(f"port {port}{path}: {found['statuses']} by status, expected {allowed}")
    return found


def beside(ours: Target, theirs: Target, connections: int) -> dict[str, float]:
    """Our answers a second over theirs, and our p99 over theirs: the median of some paired rounds."""
    rounds = []
    for _ in range(ROUNDS):
        a, b = load(ours, connections), load(theirs, connections)
        rounds.append(
            {
                "per_second": a["per_second"],
                "ratio": a["per_second"] / b["per_second"],
                "p99_seconds": a["p99"],
                "p99_ratio": a["p99"] / b["p99"],
            }
        )
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def against_nothing(ours: Target) -> dict[str, Any]:
    """Beside an endpoint with the same models of request and answer that does nothing."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.nothing", str(port)]
    target: Target = (port, "/predict", EXAMPLE)
    with server(command, *target):
        return against("nothing", ours, target)


def against_mlflow(ours: Target) -> dict[str, Any]:
    """Beside `mlflow models serve` on the same registered version."""
    port = free_port()
    command = [
        "mlflow", "models", "serve", "-m", "models:/heart-disease@champion", "--env-manager", "local",
        "-p", str(port), "-w", "1",
    ]  # fmt: skip
    registry = f"sqlite:///{Path('registry/mlflow.db').absolute()}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", registry)
    target: Target = (port, "/invocations", {"inputs": [complete_row()]})
    with server(command, *target, MLFLOW_TRACKING_URI=uri):
        return against("mlflow", ours, target)


def against_bentoml(ours: Target) -> dict[str, Any]:
    """Beside a BentoML service of the same ONNX file, if BentoML is installed."""
    if absent := peer.absent(("bentoml",)):
        return {"absent": absent}
    port = free_port()
    program = Path(peer.command("bentoml")[0]).with_name("bentoml")
    command = [str(program), "serve", "risk_bentoml:Risk", "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    env: Any = {
        "MODEL": str(files.ONNX.absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": "",
    }
    target: Target = (port, "/predict", {"rows": [complete_row()]})
    with server(command, *target, folder=Path("benchmarks/peers"), **env):
        versions = {"versions": {"bentoml": peer.version("bentoml")}}
        return against("bentoml", ours, target) | versions


def complete_row() -> list[float]:
    """A patient as numbers, without a missing one: JSON has no NaN."""
    row: list[float] = rows_of([{**EXAMPLE, "major_vessels": 0, "thallium": "normal"}])[0].tolist()
    return row


def against(name: str, ours: Target, theirs: Target) -> dict[str, Any]:
    """`beside` a peer, by number of connections."""
    report = {}
    for connections in CONNECTIONS:
        found = report[f"{name}_{connections}"] = beside(ours, theirs, connections)
        print(
            f"{name}, {connections} connections: {found['ratio']:.2f} x its requests/s, "
            f"{found['p99_ratio']:.2f} x its p99"
        )
    return report


def challenged(folder: Path) -> str:
    """The URI of a copy of the own registry in which the champion, once more, is its challenger."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{shutil.copyfile('registry/mlflow.db', folder / 'challenged.db')}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    name = "heart-disease"
    champion = client.get_model_version_by_alias(name, CHAMPION)
    source = client.get_model_version_download_uri(name, champion.version)
    made = client.create_model_version(name, source, champion.run_id, tags=champion.tags)
    client.set_registered_model_alias(name, CHALLENGER, made.version)
    return uri


def against_no_challenger(without: Target, folder: Path) -> dict[str, Any]:
    """What a challenger adds: a service with one beside the same service without."""
    port = free_port()
    ours: Target = (port, "/predict", EXAMPLE)
    env: Any = {
        "HEART_PORT": str(port),
        "HEART_LOG_URL": f"sqlite:///{folder}/challenged-log.db",
        "HEART_CACHE_DIR": f"{folder}/challenged-cache",
        "HEART_TRACKING_URI": challenged(folder),
    }
    with server([sys.executable, "-m", "serve"], *ours, **env):
        time.sleep(PAGE_SECONDS)
        report = against("challenger", ours, without)
        report["challenger_rows"] = shadowed(port)
    print(f"rows that the challenger scored and dropped: {report['challenger_rows']}")
    return report


def shadowed(port: int) -> dict[str, float]:
    """How many rows a service's challenger scored, and how many it did not."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.findall(r"(?m)^heart_shadow_(rows|dropped)_total.* (\S+)$", text)
    return {name: float(value) for name, value in found}


def batches(port: int) -> dict[str, float]:
    """Patients a second in batches of 10,000, the log included: the median of some."""
    body = json.dumps({"patients": [EXAMPLE] * BATCH}).encode()
    times = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        post(port, "/predict/batch", body)
        times.append(time.perf_counter() - start)
    found = BATCH / statistics.median(times)
    print(f"batches of {BATCH}: {found:.0f} patients/s")
    return {"batch_patients_per_second": found}


def overload(ours: Target, running: Server) -> dict[str, Any]:
    """Five times the requests that it takes in at once, from clients that do, and do not, wait for
    the second that a refusal asks for; a minute each, beside the peak, in turns.
    """
    places = Settings(_env_file=None).max_concurrent
    report = {}
    for name, wait in (("that wait", 1.0), ("that ask again at once", 0.0)):
        rounds = []
        for _ in range(OVERLOAD_ROUNDS):
            peak = load(ours, places)["per_second"]
            found = load(ours, OVERLOAD * places, OVERLOAD_SECONDS / OVERLOAD_ROUNDS, wait)
            refused = found["statuses"].get("503", 0) / sum(found["statuses"].values())
            rounds.append(
                {
                    "answered_ratio": found["per_second"] / peak,
                    "refused_ratio": refused,
                    "refused_median_seconds": found["refused_median"],
                    "refused_p99_seconds": found["refused_p99"],
                    "p99_seconds": found["p99"],
                }
            )
        middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
        report[f"overload_clients_{name.replace(' ', '_')}"] = middle | {
            "memory_mib": running.memory()
        }
        print(
            f"{OVERLOAD * places} clients {name}: {middle['answered_ratio']:.2f} x the answers/s of "
            f"{places}; refused within {middle['refused_median_seconds'] * 1000:.0f} ms (median), "
            f"{middle['refused_p99_seconds'] * 1000:.0f} ms (p99); {running.memory():.0f} MiB"
        )
    return report


def memory(ours: Target, running: Server) -> dict[str, float]:
    """What a million predictions leave in memory."""
    before, done = running.memory(), 0
    while done < PREDICTIONS:
        done += load(ours, 32, 30)["statuses"]["200"]
    report = {"memory_mib": before, "memory_mib_after_a_million": running.memory()}
    print(f"memory: {before:.0f} MiB, {running.memory():.0f} MiB after {done} predictions more")
    return report


def main() -> None:
    port = free_port()
    ours: Target = (port, "/predict", EXAMPLE)
    report: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        env: Any = {
            "HEART_PORT": str(port),
            "HEART_LOG_URL": f"sqlite:///{folder}/log.db",
            "HEART_CACHE_DIR": f"{folder}/cache",
        }
        command = [sys.executable, "-m", "serve"]
        with server(command, *ours, **env) as running:
            report["seconds_to_first_answer_without_cache"] = running.seconds
        with server(command, *ours, **env) as running:
            report["seconds_to_first_answer"] = running.seconds
            print(
                f"first answer after {report['seconds_to_first_answer']:.1f} s, "
                f"{report['seconds_to_first_answer_without_cache']:.1f} s without a cached model"
            )
            time.sleep(PAGE_SECONDS)
            report["memory_mib_at_rest"] = running.memory()
            print(f"memory at rest: {running.memory():.0f} MiB")
            report |= against_nothing(ours) | against_mlflow(ours) | against_bentoml(ours)
            report |= against_no_challenger(ours, Path(folder))
            report |= memory(ours, running)
            report |= batches(port) | overload(ours, running)
    files.write_json(OUT, report)


if __name__ == "__main__":
    main_of(main)
