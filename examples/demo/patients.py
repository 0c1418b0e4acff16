"""Simulated patients: like those of the training, and of another hospital. The simulation knows their outcomes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heart.schema import OUTCOME, Floats
from monitoring.simulated_patients import (
    SHIFTS,
    SimulatedPatients,
    load,
    patient,
    with_share_ill,
)

SEED = 3
SHARE_ILL = 0.85  # at the other hospital; about half of the training patients are ill
SHIFT = (
    "5 years older, cholesterol 30 mg/dl lower, vessels, thallium and ST slope often not measured"
)
# Two halves of the simulated patients, which have no patient in common.
SEEN, UNSEEN = 0, 1


@dataclass(frozen=True)
class Patients:
    """Encoded patients [n, 13] and their outcomes 0 or 1 [n]."""

    rows: Floats
    outcome: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: slice) -> "Patients":
        """Some of them."""
        return Patients(self.rows[which], self.outcome[which])

    def requests(self) -> list[dict[str, Any]]:
        """The patients as the API takes them."""
        return [patient(row) for row in self.rows]

    def tens(self) -> Iterator["Patients"]:
        """Ten patients at a time: as many as come between two drift checks."""
        for start in range(0, len(self), 10):
            yield self.take(slice(start, start + 10))


@dataclass(frozen=True)
class Hospitals:
    """The table of simulated patients of a checkout, before a retraining writes another one."""

    table: SimulatedPatients

    @classmethod
    def of(cls, folder: Path) -> "Hospitals":
        """The patients of a folder's tables. Raises NoPatients."""
        return cls(load(folder))

    def similar(self, count: int) -> Patients:
        """Patients like those of the training."""
        return _draw(self._half(SEEN), count, np.random.default_rng([SEED, 0]))

    def other(self, count: int, half: int, seed: int = 0) -> Patients:
        """Patients of the other hospital."""
        random = np.random.default_rng([SEED, 1, seed])
        shifted = SHIFTS["other-hospital"](self._half(half), random)
        return _draw(with_share_ill(shifted, SHARE_ILL), count, random)

    def _half(self, half: int) -> SimulatedPatients:
        order = np.random.default_rng(SEED).permutation(len(self.table.rows))[half::2]
        names = tuple(self.table.outcomes[number] for number in order)
        return SimulatedPatients(self.table.rows[order], names)


def _draw(patients: SimulatedPatients, count: int, random: np.random.Generator) -> Patients:
    indices = random.choice(len(patients.rows), size=count, p=patients.weights)
    positive = np.array(patients.outcomes)[indices] == OUTCOME.choices[1].name
    return Patients(patients.rows[indices], positive.astype(np.float64))
