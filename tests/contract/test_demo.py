"""The demo with small parameters, with real processes."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from heart.errors import INTERRUPTED
from tests.conftest import ROOT, SMALL
from tests.heart.drift.snapshots import tables
from tests.heart.predictions.logs import until
from tests.processes import alive, children, command_line

# Limits of the real policy: those of a short simulation may raise a false alarm.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "reference": {"simulations": 20000, "check_streams": 20},
    "register": {"bootstrap": 500},
}
STEPS = 8


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command line of a demo with small parameters and real patients."""
    tables(tmp_path)
    settings = [
        f"-S{section}.{name}={value}"
        for section, values in CHANGES.items()
        for name, value in values.items()
    ]
    report = str(tmp_path / "report" / "demo.html")
    demo = [sys.executable, "-m", "examples.demo", "--report", report]
    return [*demo, "--patients", str(tmp_path), *settings]


@pytest.fixture
def demo(words: list[str], tmp_path: Path, command: Callable[..., Any]) -> Callable[..., str]:
    """Run the demo with real patients; returns its output."""

    def run(code: int, *more: str) -> str:
        return str(command([*words, *more], ROOT, code=code, TMPDIR=str(tmp_path)).stdout)

    return run


@pytest.mark.integration
def test_the_demo_ends_with_a_better_champion_and_a_rollback(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    output = demo(0)

    report = tmp_path / "report" / "demo.html"
    document = json.loads(report.with_suffix(".json").read_text())
    figures, steps = document["figures"], document["steps"]
    assert [len(step["lines"]) > 0 for step in steps] == [True] * STEPS
    assert all(step["title"] in output for step in steps)
    assert [step["start"] for step in steps] == sorted(step["start"] for step in steps)
    drift = figures["drift"]
    assert "major_vessels" in drift["features"]
    assert drift["detected_after"] <= 100
    ratios = {patients <= drift["normal"]: ratio for patients, ratio in drift["curve"]}
    assert ratios[True] < 1 < ratios[False]
    assert all(s["low"] <= s["value"] <= s["high"] for s in figures["estimate"]["scores"].values())
    outcomes = figures["outcomes"]
    assert (bool(outcomes["shuffled"]["reasons"]), outcomes["recorded"]["reasons"]) == (True, [])
    assert figures["ladder"]["rung"] != "keep"
    gate = figures["gate"]
    assert (gate["verdict"], gate["version"], gate["champion"]) == ("passed", 2, 1)
    assert all(check["passed"] for check in gate["checks"])
    assert figures["fresh"]["scores"]["brier"]["high"] < 0
    assert report.read_text().count("<figure>") == 5
    assert str(report) in output
    assert not list(tmp_path.glob("heart-demo-*"))


def of_folder(folder: Path) -> list[int]:
    """The processes whose current folder is in a folder."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                pids.append(int(process.name))
    return pids


@pytest.mark.integration
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "stage synthesize"),
        (signal.SIGTERM, "stage synthesize"),
        # Service, receiver, and the retraining with its stages run.
        (signal.SIGKILL, r" 6\. [^$]*stage synthesize"),
    ],
)
def test_a_killed_demo_leaves_no_process(
    number: signal.Signals,
    moment: str,
    words: list[str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "output"
    with output.open("w") as file:
        demo = subprocess.Popen(
            words, cwd=ROOT, env={**environment, "TMPDIR": str(tmp_path)},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: bool(re.search(moment, output.read_text())), 600)
        until(lambda: any("stages." in command_line(pid) for pid in children(demo.pid)), 60)
        processes = children(demo.pid)
        demo.send_signal(number)
        code = demo.wait(60)
    finally:
        demo.kill()
        demo.wait()

    until(lambda: not any(map(alive, processes)), 60)
    assert of_folder(tmp_path) == []
    if number != signal.SIGKILL:
        assert code == INTERRUPTED
        assert not list(tmp_path.glob("heart-demo-*"))


@pytest.mark.integration
def test_an_invalid_parameter_is_rejected_before_the_demo_starts(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    assert "'nonsense' is not of the form SECTION.NAME=VALUE" in demo(2, "-S", "nonsense")
    assert not list(tmp_path.glob("heart-demo-*"))


@pytest.mark.integration
def test_a_failed_step_ends_the_demo_with_its_name_and_keeps_the_copy(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    *_, last = demo(1, "-Ssplit.folds=1").splitlines()

    [copy] = tmp_path.glob("heart-demo-*")
    assert last.startswith("error: step 1 ")
    assert str(copy / "logs" / "pipeline.log") in last
    assert (copy / "logs" / "pipeline.log").stat().st_size


@pytest.mark.heavy
def test_a_rejected_first_model_ends_the_demo_and_keeps_its_folder(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    output = demo(
        1, "-Sregister.floors={roc_auc: 0.999, recall: 0.6, brier: 0.18, group_roc_auc: 0.65}"
    )

    assert "rejected the first model: ['roc_auc at least 0.999: it is 0.9" in output
    assert list(tmp_path.glob("heart-demo-*"))
