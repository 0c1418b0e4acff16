"""The demo with small parameters, with real processes."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from examples.demo.project import DemoFailed, change
from tests.conftest import SMALL
from tests.heart.drift.snapshots import tables

# Limits of the real policy: those of a short simulation may raise a false alarm.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "reference": {"simulations": 20000, "check_streams": 20},
    "register": {"bootstrap": 500},
}


@pytest.fixture
def demo(tmp_path: Path, command: Callable[..., Any]) -> Callable[..., str]:
    """Run the demo with real patients; returns its output."""
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


@pytest.mark.integration
def test_the_demo_ends_with_a_better_champion_and_a_rollback(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    output = demo(0)

    events = [
        "pipeline:", "no alarm: ", "ALARM: ", "the webhook in Grafana's format", "retraining:",
        "challenger version 2: passed", "version 2 is in use; ", "brier ", "rollback",
        "version 1 is in use again", "done",
    ]  # fmt: skip
    places = [output.index(event) for event in events]
    assert places == sorted(places)
    alarm = re.search(r"ALARM: (.*)", output)
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
        ("train.seed", "[1", "'[1' is not valid YAML"),
    ],
)
def test_an_unknown_parameter_is_rejected(name: str, value: str, reason: str) -> None:
    with pytest.raises(DemoFailed, match=re.escape(reason)):
        change({"train": {"seed": 0}}, name, value)


@pytest.mark.integration
def test_an_invalid_parameter_is_rejected_before_the_demo_starts(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    assert "'nonsense' is not of the form SECTION.NAME=VALUE" in demo(2, "-S", "nonsense")
    assert not list(tmp_path.glob("heart-demo-*"))


@pytest.mark.heavy
def test_a_rejected_first_model_ends_the_demo_and_keeps_its_folder(
    demo: Callable[..., str], tmp_path: Path
) -> None:
    output = demo(
        1, "-Sregister.floors={roc_auc: 0.999, recall: 0.6, brier: 0.18, group_roc_auc: 0.65}"
    )

    assert "rejected the first model: ['roc_auc at least 0.999: it is 0.9" in output
    assert list(tmp_path.glob("heart-demo-*"))
