"""The service beside an endpoint that does nothing, `mlflow models serve` and BentoML.

Each server is one worker process on loopback, and so is the load generator. The ratios are the result:
both sides share the machine and are measured in turns.
"""

import json
import os
import re
import shutil
import statistics
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import peer
from benchmarks.latency_plot import plot
from benchmarks.servers import (
    ROUNDS,
    Server,
    Target,
    beside,
    free_port,
    load,
    medians,
    post,
    server,
)
from heart import files
from heart.errors import UserError, run_main
from heart.registry import local_store
from heart.registry.aliases import CHALLENGER, CHAMPION
from serve.api.models import EXAMPLE
from serve.encoding import rows_of
from serve.settings import Settings

OUT = Path("benchmarks/serve.json")
# Two nearly equal servers need more; the 4th and 12th of 15 are a 96 % interval of the median.
CHALLENGER_ROUNDS, BOUNDS = 15, (4, 12)
CONNECTIONS = (1, 16, 64)
BATCH, BATCHES = 10_000, 9
LOG_ROWS = 2_000_000  # in the log before the batches are timed
OVERLOAD, OVERLOAD_SECONDS, OVERLOAD_ROUNDS = 5, 60, 6
PREDICTIONS = 1_000_000
START = "start"  # a section with servers of its own
SECTIONS = (
    START, "rest", "nothing", "floor", "mlflow", "bentoml", "challenger", "memory", "batches", "overload",
)  # fmt: skip
PAGE_SECONDS = 15  # until the page is built


def against_nothing(project: Target) -> dict[str, Any]:
    """Beside an endpoint with the same request and response models that does nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.nothing", str(port)]
    target: Target = (port, "/predict", EXAMPLE)
    with server(command, *target):
        return against("nothing", project, target)


def against_floor(project: Target, folder: Path) -> dict[str, Any]:
    """One connection, beside an endpoint that only syncs a file on the file system of the log: the floor of
    the latency of a durable prediction.
    """
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.nothing", str(port), str(folder / "floor")]
    target: Target = (port, "/durable", EXAMPLE)
    with server(command, *target):
        report = against("floor", project, target, connections=CONNECTIONS[:1])
    print(f"latency on one connection: {report['floor_1']['p50_ratio']:.2f} x the floor (median)")
    return report


def against_mlflow(project: Target) -> dict[str, Any]:
    """Beside `mlflow models serve` on the same registered version."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/heart-disease@champion", "--env-manager", "local",
        "-p", str(port), "-w", "1",
    ]  # fmt: skip
    uri = os.environ.get("MLFLOW_TRACKING_URI") or local_store.uri_of(Path.cwd())
    local_store.prepare(uri)
    target: Target = (port, "/invocations", {"inputs": [complete_row()]})
    with server(command, *target, MLFLOW_TRACKING_URI=uri):
        return against("mlflow", project, target)


def against_bentoml(project: Target) -> dict[str, Any]:
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
        return against("bentoml", project, target) | versions


def complete_row() -> list[float]:
    """A patient as numbers without missing values, since JSON has no NaN."""
    row: list[float] = rows_of([{**EXAMPLE, "major_vessels": 0, "thallium": "normal"}])[0].tolist()
    return row


def against(
    name: str,
    project: Target,
    other: Target,
    rounds: int = ROUNDS,
    connections: Sequence[int] = CONNECTIONS,
) -> dict[str, Any]:
    """`beside` a peer, by number of connections."""
    report = {}
    for count in connections:
        figures = report[f"{name}_{count}"] = beside(project, other, count, rounds)
        print(
            f"{name}, {count} connections: {figures['ratio']:.2f} x its requests/s, "
            f"{figures['p99_ratio']:.2f} x its p99"
        )
    return report


def registry_with_challenger(folder: Path) -> str:
    """The URI of a copy of the own registry in which a copy of the champion is the challenger."""
    from mlflow import MlflowClient

    local_store.prepare(local_store.uri_of(Path.cwd()))
    database = local_store.FOLDER / local_store.DATABASE
    uri = f"sqlite:///{shutil.copyfile(database, folder / 'challenged.db')}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    name = "heart-disease"
    champion = client.get_model_version_by_alias(name, CHAMPION)
    source = client.get_model_version_download_uri(name, champion.version)
    version = client.create_model_version(name, source, champion.run_id, tags=champion.tags)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return uri


def against_no_challenger(without: Target, folder: Path) -> dict[str, Any]:
    """The cost of a challenger: a service with one beside the same service without."""
    port = free_port()
    project: Target = (port, "/predict", EXAMPLE)
    env: Any = {
        "HEART_PORT": str(port),
        "HEART_LOG_URL": f"sqlite:///{folder}/challenged-log.db",
        "HEART_CACHE_DIR": f"{folder}/challenged-cache",
        "HEART_TRACKING_URI": registry_with_challenger(folder),
    }
    with server([sys.executable, "-m", "serve"], *project, **env):
        time.sleep(PAGE_SECONDS)
        report = against("challenger", project, without, CHALLENGER_ROUNDS)
        for connections in CONNECTIONS:
            low, high = bounds(report[f"challenger_{connections}"])
            print(f"{connections} connections: p99 with a challenger {low:.2f} to {high:.2f} x")
        report["challenger_rows"] = shadow_rows(port)
    print(f"rows that the challenger scored and dropped: {report['challenger_rows']}")
    return report


def bounds(figures: dict[str, Any]) -> tuple[float, float]:
    """The interval of the median ratio of p99 with a challenger to that without."""
    low, high = (figures["p99_ratios"][place - 1] for place in BOUNDS)
    return low, high


def shadow_rows(port: int) -> dict[str, float]:
    """The numbers of rows that a service's challenger has scored and dropped."""
    counts = re.findall(r"(?m)^heart_shadow_(rows|dropped)_total.* (\S+)$", metrics(port))
    return {name: float(value) for name, value in counts}


def metrics(port: int) -> str:
    """The text of a service's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        text: str = response.read().decode()
    return text


def logged_rows(port: int) -> float:
    """The number of rows that a service has logged since its start."""
    (rows,) = re.findall(r"(?m)^heart_log_rows_total (\S+)$", metrics(port))
    return float(rows)


def batches(port: int) -> dict[str, float]:
    """Patients in a second, in batches of 10,000 with the log: the median of some batches, once the log is long."""
    body = json.dumps({"patients": [EXAMPLE] * BATCH}).encode()
    while logged_rows(port) < LOG_ROWS:
        post(port, "/predict/batch", body)
    times = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        post(port, "/predict/batch", body)
        times.append(time.perf_counter() - start)
    rate = BATCH / statistics.median(times)
    print(f"batches of {BATCH}: {rate:.0f} patients/s")
    return {"batch_patients_per_second": rate}


def overload(project: Target, running: Server) -> dict[str, Any]:
    """Five times the maximum of concurrent requests, for a minute, from clients that wait after a rejection
    as its Retry-After says and from clients that do not, in turns with the load at the maximum.
    """
    places = Settings(_env_file=None).max_concurrent
    report = {}
    for name, wait in (("that wait", 1.0), ("that ask again at once", 0.0)):
        rounds = []
        for _ in range(OVERLOAD_ROUNDS):
            peak = load(project, places)["per_second"]
            result = load(project, OVERLOAD * places, OVERLOAD_SECONDS / OVERLOAD_ROUNDS, wait)
            rejected = result["statuses"].get("503", 0) / sum(result["statuses"].values())
            rounds.append(
                {
                    "answered_ratio": result["per_second"] / peak,
                    "refused_ratio": rejected,
                    "refused_median_seconds": result["refused"]["p50"],
                    "refused_p99_seconds": result["refused"]["p99"],
                    "p99_seconds": result["answered"]["p99"],
                }
            )
        middle = medians(rounds)
        report[f"overload_clients_{name.replace(' ', '_')}"] = middle | {
            "memory_mib": running.memory()
        }
        print(
            f"{OVERLOAD * places} clients {name}: {middle['answered_ratio']:.2f} x the responses/s of "
            f"{places}; rejected within {middle['refused_median_seconds'] * 1000:.0f} ms (median), "
            f"{middle['refused_p99_seconds'] * 1000:.0f} ms (p99); {running.memory():.0f} MiB"
        )
    return report


def memory(project: Target, running: Server) -> dict[str, float]:
    """The memory before and after a million predictions."""
    before, done = running.memory(), 0
    while done < PREDICTIONS:
        done += load(project, 32, 30)["statuses"]["200"]
    report = {"memory_mib": before, "memory_mib_after_a_million": running.memory()}
    print(f"memory: {before:.0f} MiB, {running.memory():.0f} MiB after {done} further predictions")
    return report


def start(command: list[str], project: Target, env: Any) -> dict[str, float]:
    """Seconds from a start to the first response, without a cached model and with one."""
    report = {}
    for name in ("seconds_to_first_answer_without_cache", "seconds_to_first_answer"):
        with server(command, *project, **env) as running:
            report[name] = running.seconds
    print(
        f"first response after {report['seconds_to_first_answer']:.1f} s, "
        f"{report['seconds_to_first_answer_without_cache']:.1f} s without a cached model"
    )
    return report


def at_rest(running: Server) -> dict[str, float]:
    """The memory after the page was built."""
    print(f"memory at rest: {running.memory():.0f} MiB")
    return {"memory_mib_at_rest": running.memory()}


def run_sections(
    sections: Mapping[str, Callable[[], dict[str, Any]]],
    report: dict[str, Any],
    keep: Callable[[dict[str, Any]], None],
) -> list[str]:
    """Add the figures of each section to the report, and keep it; returns the sections that failed."""
    failed = []
    for name, section in sections.items():
        try:
            report |= section()
        except Exception:  # noqa: BLE001  # the other sections take an hour
            traceback.print_exc()
            failed.append(name)
        keep(report)
    return failed


def measure(
    names: Sequence[str], keep: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], list[str]]:
    """The figures of some sections, and the sections that failed."""
    port = free_port()
    project: Target = (port, "/predict", EXAMPLE)
    report: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        env: Any = {
            "HEART_PORT": str(port),
            "HEART_LOG_URL": f"sqlite:///{folder}/log.db",
            "HEART_CACHE_DIR": f"{folder}/cache",
        }
        command = [sys.executable, "-m", "serve"]
        own = {START: lambda: start(command, project, env)} if START in names else {}
        failed = run_sections(own, report, keep)
        with server(command, *project, **env) as running:
            time.sleep(PAGE_SECONDS)
            sections: dict[str, Callable[[], dict[str, Any]]] = {
                "rest": lambda: at_rest(running),
                "nothing": lambda: against_nothing(project),
                "floor": lambda: against_floor(project, place),
                "mlflow": lambda: against_mlflow(project),
                "bentoml": lambda: against_bentoml(project),
                "challenger": lambda: against_no_challenger(project, place),
                "memory": lambda: memory(project, running),
                "batches": lambda: batches(port),
                "overload": lambda: overload(project, running),
            }
            wanted = {name: sections[name] for name in sections if name in names}
            failed += run_sections(wanted, report, keep)
    return report, failed


def main() -> None:
    """Measure all sections and keep the figures; named sections are only printed, so that the page is of one run."""
    names = sys.argv[1:]
    if unknown := set(names) - set(SECTIONS):
        raise UserError(f"section {min(unknown)!r}, expected some of {', '.join(SECTIONS)}")
    if names:
        _, failed = measure(names, lambda _: None)
    else:
        report, failed = measure(SECTIONS, lambda report: files.write_json(OUT, report))
        plot(report, CONNECTIONS)
    if failed:
        raise UserError(f"sections {', '.join(failed)} failed; the figures of the others are kept")


if __name__ == "__main__":
    run_main(main)
