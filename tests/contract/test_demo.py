"""The demo with small parameters: the whole life cycle through real processes."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from examples.demo.project import DemoFailed, change
from tests.conftest import SMALL
from tests.heart.drift.snapshots import tables

# Limits of the real policy: with those of a short simulation a quiet stream may alarm.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "reference": {"simulations": 20000, "check_streams": 20},
    "register": {"bootstrap": 500},
}


@pytest.fixture
def demo(tmp_path: Path, command: Callable[..., Any]) -> Callable[..., str]:
    """Run the demo with real patients; what it says."""
    tables(tmp_path)
    settings = [
        f"-S{section}.{name}={value}"
        for section, values in CHANGES.items()
        for name, value in values.items()
    ]
    words = [sys.executable, "-m", "examples.demo", "--patients", str(tmp_path), *settings]

    def run(code: int, *more: str) -> str:
        root = Path(__file__).parents[2]
        done = command([*words, *more], root, code=code, TMPDIR=str(tmp_path))
        return str(done.stdout)

    return run


def test_the_demo_ends_with_a_better_champion_and_a_rollback(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    told = demo(0)

    events = [
        "pipeline:", "no alarm: ", "ALARM: ", "the webhook, as Grafana sends it", "retraining:",
        "challenger version 2: passed", "version 2 answers; of ", "brier ", "rollback",
        "version 1 answers again", "done",
    ]  # fmt: skip
    places = [told.index(event) for event in events]
    assert places == sorted(places)
    alarm = re.search(r"ALARM: (.*)", told)
    assert alarm is not None
    assert "major_vessels" in alarm[1]
    assert not list(tmp_path.glob("heart-demo-*"))


def test_a_parameter_at_any_depth_is_changed() -> None:
    params = {"train": {"seed": 0}, "register": {"floors": {"roc_auc": 0.75}}}

    change(params, "register.floors.roc_auc", "0.9")
    change(params, "train.seed", "1")

    assert params == {"train": {"seed": 1}, "register": {"floors": {"roc_auc": 0.9}}}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("trian.seed", "1", "-S trian.seed: trian is unknown, known are train"),
        ("train.sed", "1", "-S train.sed: sed is unknown, known are seed"),
        ("train.seed.x", "1", "-S train.seed.x: x is unknown, known are none"),
        ("train.seed", "[1", "'[1' is no value of YAML"),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(name: str, value: str, reason: str) -> None:
    with pytest.raises(DemoFailed, match=re.escape(reason)):
        change({"train": {"seed": 0}}, name, value)


def test_what_is_no_parameter_is_refused_before_anything_is_made(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    assert "'nonsense' is not SECTION.NAME=VALUE" in demo(2, "-S", "nonsense")
    assert not list(tmp_path.glob("heart-demo-*"))


@pytest.mark.heavy
def test_a_first_model_that_the_gate_refuses_ends_the_demo_and_its_folder_is_left(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    told = demo(
        1, "-Sregister.floors={roc_auc: 0.999, recall: 0.6, brier: 0.18, group_roc_auc: 0.65}"
    )

    assert "error: the gate refused the first model: ['roc_auc at least 0.999: it is 0.9" in told
    assert list(tmp_path.glob("heart-demo-*"))
