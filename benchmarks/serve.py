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
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import peer
from benchmarks.load import PERCENTILES
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

OUT, PLOT = Path("benchmarks/serve.json"), Path("docs/images/serve.png")
# Two nearly equal servers need more; the 4th and 12th of 15 are a 96 % interval of the median.
CHALLENGER_ROUNDS, BOUNDS = 15, (4, 12)
CONNECTIONS = (1, 16, 64)
BATCH, BATCHES = 10_000, 9
OVERLOAD, OVERLOAD_SECONDS, OVERLOAD_ROUNDS = 5, 60, 6
PREDICTIONS = 1_000_000
START = "start"  # a section with servers of its own
SECTIONS = (
    START, "rest", "nothing", "mlflow", "bentoml", "challenger", "memory", "batches", "overload",
)  # fmt: skip
PAGE_SECONDS = 15  # until the page is built
CURVES = {
    "does nothing": ("nothing", "their_latency"),
    "this project": ("nothing", "latency"),
    "mlflow models serve": ("mlflow", "their_latency"),
    "BentoML": ("bentoml", "their_latency"),
}


def against_nothing(project: Target) -> dict[str, Any]:
    """Beside an endpoint with the same request and response models that does nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.nothing", str(port)]
    target: Target = (port, "/predict", EXAMPLE)
    with server(command, *target):
        return against("nothing", project, target)


def against_mlflow(project: Target) -> dict[str, Any]:
    """Beside `mlflow models serve` on the same registered version."""
    port = free_port()
    command = [
        "mlflow", "models", "serve", "-m", "models:/heart-disease@champion", "--env-manager", "local",
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


def against(name: str, project: Target, other: Target, rounds: int = ROUNDS) -> dict[str, Any]:
    """`beside` a peer, by number of connections."""
    report = {}
    for connections in CONNECTIONS:
        figures = report[f"{name}_{connections}"] = beside(project, other, connections, rounds)
        print(
            f"{name}, {connections} connections: {figures['ratio']:.2f} x its requests/s, "
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
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        text = response.read().decode()
    counts = re.findall(r"(?m)^heart_shadow_(rows|dropped)_total.* (\S+)$", text)
    return {name: float(value) for name, value in counts}


def batches(port: int) -> dict[str, float]:
    """Patients in a second, in batches of 10,000 with the log: the median of some batches."""
    body = json.dumps({"patients": [EXAMPLE] * BATCH}).encode()
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


def main() -> None:
    """Measure all sections, or the named ones."""
    names = sys.argv[1:]
    if unknown := set(names) - set(SECTIONS):
        raise UserError(f"section {min(unknown)!r}, expected some of {', '.join(SECTIONS)}")
    report = json.loads(OUT.read_text()) if names else {}
    port = free_port()
    project: Target = (port, "/predict", EXAMPLE)
    with TemporaryDirectory() as folder:
        env: Any = {
            "HEART_PORT": str(port),
            "HEART_LOG_URL": f"sqlite:///{folder}/log.db",
            "HEART_CACHE_DIR": f"{folder}/cache",
        }
        command = [sys.executable, "-m", "serve"]
        if not names or START in names:
            report |= start(command, project, env)
        with server(command, *project, **env) as running:
            time.sleep(PAGE_SECONDS)
            sections: dict[str, Any] = {
                "rest": lambda: at_rest(running),
                "nothing": lambda: against_nothing(project),
                "mlflow": lambda: against_mlflow(project),
                "bentoml": lambda: against_bentoml(project),
                "challenger": lambda: against_no_challenger(project, Path(folder)),
                "memory": lambda: memory(project, running),
                "batches": lambda: batches(port),
                "overload": lambda: overload(project, running),
            }
            for name in names or sections:
                if name != START:
                    report |= sections[name]()
                files.write_json(OUT, report)  # after each section, since some take minutes
    plot(report)


def plot(report: dict[str, Any]) -> None:
    """Plot the latency of each server by percentile, one panel for each number of connections."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(CONNECTIONS), figsize=(11, 3.4), layout="constrained")
    shares = [f"p{share:g}" for share in PERCENTILES]
    for connections, axes in zip(CONNECTIONS, panels, strict=True):
        for label, (peer_name, side) in CURVES.items():
            if figures := report.get(f"{peer_name}_{connections}"):
                axes.plot(
                    shares, [1e3 * figures[side][share] for share in shares], "o-", label=label
                )
        axes.set(yscale="log", title=f"{connections} at a time", xlabel="percentile of requests")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(lambda ms, _: f"{ms:g}" if f"{ms:e}"[0] in "25" else "")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="latency, ms")
    panels[0].legend(fontsize="small")
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    run_main(main)
