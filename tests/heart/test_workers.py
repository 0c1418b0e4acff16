"""Processes that share the work of a stage end with it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.heart.predictions.logs import until
from tests.processes import ROOT, alive, children, seconds

LONG = {
    "reference": """
import numpy as np
from heart.drift.simulation import Sample, delays
from tests.fixtures.drift import SMALL
sample = Sample(np.ones((242, 13), dtype=np.float32), np.full(242, 0.5, dtype=np.float32))
delays(sample, sample, 242, SMALL, SMALL.stream, 100_000, seed=1, workers=2)
""",
    "train": """
from stages.train import choose_and_cross_validate
from tests.stages.test_train import MODELS, rows
choose_and_cross_validate(rows(), MODELS, [number / 1000 for number in range(1000)], workers=2)
""",
}


@pytest.mark.integration
@pytest.mark.parametrize("stage", LONG)
def test_the_processes_of_a_killed_stage_end(stage: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", LONG[stage]], env=environment) as owner:
        until(lambda: sum(seconds(pid) > 3 for pid in children(owner.pid)) >= 2, 120)
        processes = children(owner.pid)
        owner.kill()
    try:
        until(lambda: not any(map(alive, processes)), 20)
    finally:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
