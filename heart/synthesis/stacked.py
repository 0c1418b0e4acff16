"""CTGAN on several tables at once: one batched program instead of a loop in Python for each table.

A step of ctgan's own fit works on some 20 rows and 64 units, so that nearly all of its time is the cost of calls. Here the
networks of all tables are stacked and each call serves all of them. Transformer, initial weights, layers, losses,
optimizer and conditional sampling are those of ctgan (Xu et al. 2019, arXiv 1907.00503), and the result is ctgan's own
object, which draws the rows. Random numbers come in another order, so a fit is not ctgan's bit for bit.

Two things that ctgan computes are left out without effect: the gradients of the generator in a step of the
discriminator, which it discards, and a second derivative (`Discriminators.input_gradients`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from ctgan import CTGAN
from ctgan.data_sampler import DataSampler
from ctgan.synthesizers.base import set_random_states
from ctgan.synthesizers.ctgan import Discriminator, Generator
from torch import Tensor

from heart.synthesis.conditions import ConditionSampler
from heart.synthesis.networks import Discriminators, Generators, Layout, Random
from heart.synthesis.transformer import Transformer

PENALTY = 10  # weight of the gradient penalty
BLOCK = 64  # steps whose conditions and real rows are drawn at once


@dataclass(frozen=True)
class Batch:
    """What one step of both networks sees [models, places, rows]: the generators' random numbers and conditions of either step."""

    noise: tuple[Tensor, Tensor]
    conditions: tuple[Tensor, Tensor]
    real: Tensor  # with the conditions that these rows satisfy


class StackedCTGAN:
    """CTGAN for several tables with the same columns."""

    def __init__(self, settings: dict[str, Any], discrete: Sequence[str], seed: int) -> None:
        """`settings` are arguments of ctgan.CTGAN; `pac` is 1."""
        self.settings, self.discrete, self.seed = settings | {"pac": 1}, list(discrete), seed

    def fit(self, tables: Sequence[pd.DataFrame], tick: Callable[[], object]) -> list[Any]:
        """A fitted ctgan.CTGAN for each table; `tick` is called after each step of all."""
        fits = [self._prepared(table) for table in tables]
        generators = [fit[0] for fit in fits]
        device = generators[0]._device  # noqa: SLF001
        infos = [generator._transformer.output_info_list for generator in generators]  # noqa: SLF001
        layout = Layout.of(infos)
        nets = [generator._generator for generator in generators]  # noqa: SLF001
        training = Training(
            Generators(nets, infos, layout, self.settings["embedding_dim"], device),
            Discriminators([fit[1] for fit in fits], infos, layout, device),
            ConditionSampler([fit[2] for fit in fits], infos, layout, device),
            Random(self.seed, device),
            self.settings,
        )
        ends = [self.steps(len(table)) for table in tables]
        for step in range(1, max(ends) + 1):
            training.step()
            # A table with fewer rows has fewer steps; the steps after its last one change nothing of it.
            for model in np.flatnonzero(np.equal(ends, step)).tolist():
                training.generators.store(model, nets[model])
            tick()
        return generators

    def steps(self, rows: int) -> int:
        """How many steps the fit of a table takes."""
        return int(self.settings["epochs"] * max(rows // self.settings["batch_size"], 1))

    def _prepared(self, table: pd.DataFrame) -> tuple[Any, Any, Any]:
        """A CTGAN of which only the weights are missing, its discriminator, and the transformed rows."""
        generator = CTGAN(**self.settings)
        generator.set_random_state(self.seed)
        with set_random_states(generator.random_states, generator.set_random_state):
            transformer = Transformer()
            transformer.fit(table, self.discrete)
            rows = transformer.transform(table)
            sampler = DataSampler(rows, transformer.output_info_list, log_frequency=True)
            width, conditions = transformer.output_dimensions, sampler.dim_cond_vec()
            net = Generator(
                self.settings["embedding_dim"] + conditions, self.settings["generator_dim"], width
            )
            critic = Discriminator(
                width + conditions, self.settings["discriminator_dim"], self.settings["pac"]
            )
        generator._transformer, generator._data_sampler = transformer, sampler  # noqa: SLF001
        generator._generator = net.to(generator._device)  # noqa: SLF001
        return generator, critic, rows


class Optimizer:
    """Adam on all parameters as one vector, which they become views of: one call instead of one for each."""

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        self.parameters = parameters
        self.vector = torch.cat([parameter.flatten() for parameter in parameters])
        parts = torch.split(self.vector, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.data = part.view_as(parameter)
            parameter.requires_grad_()
        self.adam = torch.optim.Adam(
            [self.vector], lr=rate, betas=(0.5, 0.9), weight_decay=1e-6, fused=True
        )

    def step(self, loss: Tensor) -> None:
        """One step down the gradient."""
        gradients = torch.autograd.grad(loss, self.parameters)
        self.vector.grad = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.adam.step()


class Training:
    """The steps of the fit."""

    def __init__(
        self, generators: Generators, discriminators: Discriminators, sampler: ConditionSampler,
        random: Random, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        self.generators, self.discriminators = generators, discriminators
        self.sampler, self.random = sampler, random
        self.rows, self.embedding = settings["batch_size"], settings["embedding_dim"]
        self.optimizers = (
            Optimizer(list(discriminators.parameters()), settings["discriminator_lr"]),
            Optimizer(list(generators.parameters()), settings["generator_lr"]),
        )
        self.batches: list[Batch] = []

    def step(self) -> None:
        """One step of the discriminators, then one of the generators."""
        if not self.batches:
            self.batches = self._block()
        batch = self.batches.pop()
        losses = (self._discriminator_loss, self._generator_loss)
        for loss, optimizer in zip(losses, self.optimizers, strict=True):
            optimizer.step(loss(batch))

    def _block(self) -> list[Batch]:
        """Random numbers of the next steps."""
        models, sampler = len(self.sampler.data), self.sampler
        drawn = sampler.conditions(2 * BLOCK, self.rows, self.random)
        fake, next_ = drawn[:, :BLOCK], drawn[:, BLOCK:]
        # Real rows satisfy the conditions of the generated ones in another order, so that the two are not paired.
        order = self.random.uniform(*fake.shape).argsort(-1)
        satisfied = fake.gather(-1, order)
        real = torch.cat([sampler.matching(satisfied, self.random), sampler.one_hot(satisfied)], 2)
        noise = self.random.normal(2, BLOCK, models, self.embedding, self.rows)
        first, second = sampler.one_hot(fake), sampler.one_hot(next_)
        return [
            Batch((noise[0, k], noise[1, k]), (first[:, k], second[:, k]), real[:, k])
            for k in range(BLOCK)
        ]

    def _discriminator_loss(self, batch: Batch) -> Tensor:
        """Wasserstein loss with gradient penalty (Gulrajani et al. 2017), the sum over the models."""
        with torch.no_grad():
            logits = self.generators(torch.cat([batch.noise[0], batch.conditions[0]], 1))
            rows = self.generators.activated(logits, self.random)
            fake = torch.cat([rows, batch.conditions[0]], 1)
            share = self.random.uniform(len(fake), 1, self.rows).float()
            between = torch.lerp(fake, batch.real, share)
        scores, slopes = self.discriminators(
            torch.cat([fake, batch.real, between], dim=2), self.random
        )
        last = slice(2 * self.rows, None)
        norms = self.discriminators.input_gradients([s[..., last] for s in slopes]).norm(2, dim=1)
        real, generated = scores[:, self.rows : 2 * self.rows], scores[:, : self.rows]
        loss: Tensor = (generated - real + PENALTY * (norms - 1) ** 2).mean(dim=1).sum()
        return loss

    def _generator_loss(self, batch: Batch) -> Tensor:
        """Minus the score, and the cross entropy of the category that the condition names."""
        logits = self.generators(torch.cat([batch.noise[1], batch.conditions[1]], 1))
        rows = self.generators.activated(logits, self.random)
        scores, _ = self.discriminators(torch.cat([rows, batch.conditions[1]], 1), self.random)
        entropy = self.generators.cross_entropy(logits, batch.conditions[1])
        loss: Tensor = (entropy - scores).mean(dim=1).sum()
        return loss
