"""What the tests of the monitoring share: the real patients with made-up scores, and a small policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heart import files
from heart.drift.baseline import Policy, Reference
from heart.drift.detector import fit
from heart.drift.simulation import Sample
from heart.schema import NAMES, Floats

SMALL = Policy(
    windows=(20, 40, 80, 160, 280, 400), step=10, stream=1000, false_alarms=0.01, bins=10,
    simulations=2000, seed=0,
)  # fmt: skip


@pytest.fixture(scope="session")
def sample(patients: pd.DataFrame) -> Sample:
    """The real patients; the score is the share of men, older and of ST depression in them."""
    rows, _ = files.encoded(patients)
    parts = rows[:, [NAMES.index(name) for name in ("age", "sex", "st_depression")]] / [110, 1, 10]
    return Sample(rows, parts.mean(axis=1).astype(np.float32))


@pytest.fixture(scope="session")
def reference(sample: Sample) -> Reference:
    return fit(sample.rows, sample.scores, SMALL)


@pytest.fixture
def drawn(sample: Sample) -> Callable[..., tuple[Floats, Floats]]:
    """Rows and scores of patients drawn with replacement, to change."""

    def draw(number: int, seed: int = 0) -> tuple[Any, Any]:
        which = np.random.default_rng(seed).integers(len(sample.rows), size=number)
        return sample.rows[which].copy(), sample.scores[which].copy()

    return draw
