"""The time of `dvc repro` with an empty cache, by stage, and the share of fits in it.

It works in a clone of the last commit in a temporary folder, with a DVC cache and a registry of its
own. Concurrent fits count once, by the union of their intervals.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from heart import files
from heart.errors import UserError, run_main

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("benchmarks/pipeline.json")
REPEATS = 5

Spans = list[tuple[float, float]]


def union(spans: Spans) -> float:
    """The length of the union of the intervals."""
    covered, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered


def within(spans: Spans, start: float, stop: float) -> Spans:
    """The intervals that start within another."""
    return [span for span in spans if start <= span[0] < stop]


def repro(folder: Path, env: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Run `dvc repro`; returns the start and the end of each stage, in seconds since 1970."""
    starts: dict[str, float] = {"dvc itself": time.time()}
    with subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output = []
        for line in process.stdout or ():
            output.append(line)
            if match := re.match(r"Running stage '(\w+)'", line):
                starts[match[1]] = time.time()
    if process.returncode:
        raise UserError("dvc repro failed:\n" + "".join(output[-20:]))
    ends = [*list(starts.values())[1:], time.time()]
    return {name: (start, end) for (name, start), end in zip(starts.items(), ends, strict=True)}


def shortest(command: list[str], folder: Path, env: dict[str, str]) -> float:
    """The shortest time of some runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    with TemporaryDirectory() as folder:
        clone, log = Path(folder) / "clone", Path(folder) / "fits"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        log.touch()
        env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        recorder = {"PYTHONPATH": str(ROOT / "benchmarks" / "fit_recorder"), "FIT_LOG": str(log)}
        stages = repro(clone, env | recorder)
        fits: Spans = []
        for line in log.read_text().splitlines():
            start, stop = map(float, line.split())
            fits.append((start, stop))
        status = shortest(["dvc", "status"], clone, env)
        nothing = shortest(["dvc", "repro"], clone, env)
    print(f"{'stage':12} {'seconds':>8} {'in fits':>8}")
    for name, (start, end) in stages.items():
        print(f"{name:12} {end - start:8.1f} {union(within(fits, start, end)):8.1f}")
    total = sum(end - start for start, end in stages.values())
    share = union(fits) / total
    print(f"{'all':12} {total:8.1f} {union(fits):8.1f}  share in fits {share:.2f}")
    print(
        f"nothing changed: dvc repro {nothing:.2f} s, dvc status {status:.2f} s, ratio {nothing / status:.2f}"
    )
    files.write_json(
        OUT,
        {
            "seconds": {name: end - start for name, (start, end) in stages.items()},
            "total_seconds": total,
            "share_in_fits": share,
            "noop_to_status": nothing / status,
        },
    )


if __name__ == "__main__":
    run_main(main)
