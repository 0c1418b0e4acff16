"""The two networks of CTGAN for several tables at once: weights [models, outputs, inputs], rows [models, inputs, rows].

The rows are the last axis, so that a softmax over few categories runs over many adjacent numbers.

The tables differ in the categories that they have and in the modes of their numbers. A common layout of columns has
a place for each, and what a table lacks is filled up: its real values and its weights there are 0 and stay 0, since
their gradients are, and its logits are so low that the softmax is 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ABSENT = -1e9  # logit of a category that a table does not have
TEMPERATURE = 0.2  # of the Gumbel softmax
LEAK = 0.2  # slope of the leaky ReLU below 0

Places = list[int]


class Random:
    """Random numbers on a device, the same on each. numpy draws them, several times as fast as torch on a processor."""

    def __init__(self, seed: int, device: Any) -> None:
        self.random, self.device = np.random.default_rng(seed), device

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and variance 1."""
        return self._tensor(self.random.standard_normal(shape, dtype=np.float32))

    def exponential(self, *shape: int) -> Tensor:
        """Of mean 1, and more than 0."""
        drawn = self.random.standard_exponential(shape, dtype=np.float32)
        return self._tensor(np.maximum(drawn, np.float32(1e-30)))

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to below 1, in double precision."""
        return self._tensor(self.random.random(shape))

    def coins(self, *shape: int) -> Tensor:
        """0 or 1."""
        count = int(np.prod(shape))
        octets = np.frombuffer(self.random.bytes(-(-count // 8)), dtype=np.uint8)
        return self._tensor(np.unpackbits(octets, count=count).reshape(shape)).float()

    def _tensor(self, drawn: Any) -> Tensor:
        return torch.from_numpy(drawn).to(self.device)


@dataclass(frozen=True)
class Layout:
    """Where a row has what: the numbers, then the modes of each number, then the categories of each column."""

    numbers: int
    modes: int
    columns: int
    categories: int

    @classmethod
    def of(cls, infos: Sequence[Any]) -> "Layout":
        """The layout with room for all tables, of the `output_info_list` of their transformers."""
        spans = [[int(column[-1].dim) for column in info if len(column) == 2] for info in infos]
        choices = [[int(column[0].dim) for column in info if len(column) == 1] for info in infos]
        return cls(
            len(spans[0]), max(map(max, spans), default=0),
            len(choices[0]), max(map(max, choices), default=0),
        )  # fmt: skip

    @property
    def softmax(self) -> int:
        """Places of modes and categories."""
        return self.numbers * self.modes + self.conditions

    @property
    def conditions(self) -> int:
        """Places of categories, which are those of a condition too."""
        return self.columns * self.categories

    @property
    def width(self) -> int:
        """Places of a row."""
        return self.numbers + self.softmax

    def places(self, info: Any) -> Places:
        """Where the columns of a table's transformer are in this layout, in their order."""
        places: Places = []
        number = column = 0
        for spans in info:
            if len(spans) == 2:
                start = self.numbers + number * self.modes
                places += [number, *range(start, start + spans[1].dim)]
                number += 1
            else:
                start = self.width - self.conditions + column * self.categories
                places += range(start, start + spans[0].dim)
                column += 1
        return places

    def condition_places(self, info: Any) -> Places:
        """The same for a condition."""
        first = self.width - self.conditions
        return [place - first for place in self.places(info) if place >= first]


class Linear:
    """A linear layer of each model."""

    def __init__(self, models: int, inputs: int, outputs: int, device: Any) -> None:
        self.weight = torch.zeros(models, outputs, inputs, device=device)
        self.bias = torch.zeros(models, outputs, 1, device=device)
        self.places: list[tuple[Any, Any]] = []

    def load(
        self, layers: Sequence[Any], inputs: Sequence[Places], outputs: Sequence[Places]
    ) -> None:
        """Take the weights of one torch layer for each model; they are at these places."""
        for model, (layer, columns, rows) in enumerate(zip(layers, inputs, outputs, strict=True)):
            places = torch.tensor(rows)[:, None], torch.tensor(columns)
            self.weight[model][places] = layer.weight.detach().to(self.weight.device)
            self.bias[model, rows, 0] = layer.bias.detach().to(self.bias.device)
            self.places.append(places)

    def store(self, model: int, layer: Any) -> None:
        """Give a model's weights back to a torch layer."""
        places = self.places[model]
        with torch.no_grad():
            layer.weight.copy_(self.weight[model][places])
            layer.bias.copy_(self.bias[model, places[0][:, 0], 0])

    def parameters(self) -> list[Tensor]:
        """What is fitted."""
        return [self.weight, self.bias]

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, self.weight, rows)


class Generators:
    """The generators: from random numbers and a condition to the logits of a row."""

    def __init__(
        self, nets: Sequence[Any], infos: Sequence[Any], layout: Layout, embedding: int, device: Any
    ) -> None:
        self.layout = layout
        models = len(nets)
        blocks = [list(net.seq)[:-1] for net in nets]
        self.layers: list[Linear] = []
        self.norms: list[tuple[Tensor, Tensor]] = []
        width = embedding + layout.conditions
        inputs = [
            [*range(embedding), *(embedding + place for place in layout.condition_places(info))]
            for info in infos
        ]
        for residuals in zip(*blocks, strict=True):
            units = residuals[0].fc.out_features
            layer = Linear(models, width, units, device)
            layer.load([r.fc for r in residuals], inputs, [list(range(units))] * models)
            self.layers.append(layer)
            self.norms.append(
                (
                    torch.ones(models * units, device=device),
                    torch.zeros(models * units, device=device),
                )
            )
            # A residual layer puts its units before its inputs.
            inputs = [[*range(units), *(units + place for place in places)] for places in inputs]
            width += units
        outputs = [layout.places(info) for info in infos]
        self.last = Linear(models, width, layout.width, device)
        self.last.load([net.seq[-1] for net in nets], inputs, outputs)
        self.absent = torch.full((models, layout.width, 1), ABSENT, device=device)
        for model, places in enumerate(outputs):
            self.absent[model, places] = 0

    def parameters(self) -> Iterator[Tensor]:
        """What is fitted."""
        for layer in (*self.layers, self.last):
            yield from layer.parameters()
        for norm in self.norms:
            yield from norm

    def store(self, model: int, net: Any) -> None:
        """Give a model's weights back to ctgan's network."""
        for layer, (scale, shift), residual in zip(
            self.layers, self.norms, list(net.seq)[:-1], strict=True
        ):
            layer.store(model, residual.fc)
            units = residual.fc.out_features
            with torch.no_grad():
                residual.bn.weight.copy_(scale[model * units : (model + 1) * units])
                residual.bn.bias.copy_(shift[model * units : (model + 1) * units])
        self.last.store(model, net.seq[-1])

    def __call__(self, rows: Tensor) -> Tensor:
        for layer, (scale, shift) in zip(self.layers, self.norms, strict=True):
            units = layer(rows)
            models, width, count = units.shape
            flat = units.view(1, models * width, count)
            normed = functional.batch_norm(flat, None, None, scale, shift, training=True)
            rows = torch.cat([functional.relu(normed.view_as(units)), rows], dim=1)
        logits: Tensor = self.last(rows) + self.absent
        return logits

    def activated(self, logits: Tensor, random: Random) -> Tensor:
        """Rows: tanh of the numbers, Gumbel softmax of modes and of categories (Jang et al. 2017)."""
        layout = self.layout
        softmax = logits[:, layout.numbers :]
        noisy = (softmax - random.exponential(*softmax.shape).log_()) / TEMPERATURE
        models, _, rows = noisy.shape
        categories = layout.softmax - layout.conditions  # where they begin
        modes = noisy[:, :categories].reshape(models, layout.numbers, layout.modes, rows)
        spans = noisy[:, categories:].reshape(models, layout.columns, layout.categories, rows)
        parts = [modes.softmax(2).flatten(1, 2), spans.softmax(2).flatten(1, 2)]
        return torch.cat([torch.tanh(logits[:, : layout.numbers]), *parts], dim=1)

    def cross_entropy(self, logits: Tensor, conditions: Tensor) -> Tensor:
        """Of the categories that the conditions name [models, rows]."""
        layout = self.layout
        models, _, rows = logits.shape
        categories = logits[:, layout.width - layout.conditions :]
        spans = categories.reshape(models, layout.columns, layout.categories, rows)
        entropy: Tensor = -(conditions * spans.log_softmax(2).flatten(1, 2)).sum(1)
        return entropy


class Discriminators:
    """The discriminators: from rows with their conditions to scores."""

    def __init__(
        self, nets: Sequence[Any], infos: Sequence[Any], layout: Layout, device: Any
    ) -> None:
        models = len(nets)
        linears = [[layer for layer in net.seq if hasattr(layer, "weight")] for net in nets]
        inputs = [
            layout.places(info) + [layout.width + place for place in layout.condition_places(info)]
            for info in infos
        ]
        width = layout.width + layout.conditions
        self.layers: list[Linear] = []
        for layers in zip(*linears, strict=True):
            units = layers[0].out_features
            layer = Linear(models, width, units, device)
            layer.load(layers, inputs, [list(range(units))] * models)
            self.layers.append(layer)
            inputs, width = [list(range(units))] * models, units

    def parameters(self) -> Iterator[Tensor]:
        """What is fitted."""
        for layer in self.layers:
            yield from layer.parameters()

    def __call__(self, rows: Tensor, random: Random) -> tuple[Tensor, list[Tensor]]:
        """The scores [models, rows], and the slope of each hidden unit: of its leaky ReLU times its dropout."""
        slopes = []
        for layer in self.layers[:-1]:
            units = layer(rows)
            # Dropout keeps one half and doubles it; 1 + LEAK and 1 - LEAK are twice the mean and half the step.
            slope = units.detach().sign().mul_(1 - LEAK).add_(1 + LEAK)
            slopes.append(slope.mul_(random.coins(*units.shape)))
            rows = units * slopes[-1]
        return self.layers[-1](rows).squeeze(1), slopes

    def input_gradients(self, slopes: Sequence[Tensor]) -> Tensor:
        """The gradient of each score with respect to its row [models, places, rows].

        The network is linear on each side of its kinks, so the gradient is the product of the weights and
        the slopes. Its own derivative is an ordinary one: nothing is differentiated twice.
        """
        gradients = self.layers[-1].weight.transpose(1, 2)
        for layer, slope in zip(self.layers[-2::-1], reversed(slopes), strict=True):
            gradients = torch.bmm(layer.weight.transpose(1, 2), gradients * slope)
        return gradients
