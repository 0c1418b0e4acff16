"""Conditional sampling of CTGAN for several tables at once: a condition, and a real row that satisfies it.

As ctgan's DataSampler: a discrete column at random, then one of its categories with a probability that grows with the
logarithm of its frequency, then one of the rows that have it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heart.synthesis.networks import Layout, Random


class ConditionSampler:
    """Draws conditions, and rows that satisfy them."""

    def __init__(
        self, rows: Sequence[Any], infos: Sequence[Any], layout: Layout, device: Any
    ) -> None:
        self.layout, self.device = layout, device
        models, longest = len(rows), max(map(len, rows))
        data = np.zeros((models, longest, layout.width), dtype=np.float32)
        chance = np.zeros((models, layout.conditions))
        counts = np.zeros((models, layout.conditions), dtype=np.int64)
        order = np.zeros((models, layout.columns * longest), dtype=np.int64)
        for model, (table, info) in enumerate(zip(rows, infos, strict=True)):
            data[model, : len(table), layout.places(info)] = table.T
            members = data[model, :, layout.width - layout.conditions :] > 0
            counts[model] = members.sum(axis=0)
            frequency = np.log(counts[model] + 1.0).reshape(layout.columns, layout.categories)
            chance[model] = (frequency / frequency.sum(axis=1, keepdims=True)).ravel()
            matching = np.nonzero(members.T)[1]
            order[model, : len(matching)] = matching
        cumulated = chance.cumsum(axis=1)
        self.data = torch.from_numpy(data).to(device)
        self.cumulated = torch.from_numpy(cumulated / cumulated[:, -1:]).to(device)
        self.counts = torch.from_numpy(counts).to(device)
        self.starts = torch.from_numpy(counts.cumsum(axis=1) - counts).to(device)
        self.order = torch.from_numpy(order).to(device)

    def conditions(self, steps: int, rows: int, random: Random) -> Tensor:
        """Places of categories [models, steps, rows]."""
        models = len(self.data)
        uniform = random.uniform(models, steps * rows)
        return torch.searchsorted(self.cumulated, uniform, right=True).view(models, steps, rows)

    def one_hot(self, conditions: Tensor) -> Tensor:
        """As the networks take them [models, steps, places, rows]."""
        models, steps, rows = conditions.shape
        zeros = torch.zeros((models, steps, self.layout.conditions, rows), device=self.device)
        return zeros.scatter_(2, conditions[:, :, None], 1.0)

    def matching(self, conditions: Tensor, random: Random) -> Tensor:
        """A random real row for each condition [models, steps, places, rows]."""
        model = torch.arange(len(self.data), device=self.device)[:, None, None]
        counts = self.counts[model, conditions]
        position = (
            self.starts[model, conditions] + (random.uniform(*conditions.shape) * counts).long()
        )
        return self.data[model, self.order[model, position]].transpose(2, 3)
