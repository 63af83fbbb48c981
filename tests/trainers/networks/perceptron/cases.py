"""Stacks of perceptrons with a batch each, and their loss by torch's own operations, one member at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.problems import ALL_KINDS
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.hyperparameters import Layout, lay_out
from trainers.networks.perceptron.network import StackedMLP, parameters_of
from trainers.networks.perceptron.trace import Trace

assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11)
KINDS = {
    "all by layer": ALL_KINDS,
    "all tied": HyperparameterConfig(hidden_noise_std=Range(0.0, 0.8), label_smoothing=Range(0.0, 0.5)),
    "hidden noise alone": HyperparameterConfig(
        log10_l2=None, input_noise_std=None, hidden_noise_std=Range(0.0, 0.8, scope="layer")
    ),
    "smoothing alone": HyperparameterConfig(log10_l2=None, input_noise_std=None, label_smoothing=Range(0.0, 0.5)),
}


@dataclass
class Case:
    """A stack of perceptrons with a batch each, and the loss of one of them by torch's own operations."""

    network: StackedMLP
    layout: Layout
    theta: Tensor  # [P, N]
    x: Tensor  # [P, B, d]
    y: Tensor  # [P, B]
    h: Tensor  # [P, H]
    noise: list[Tensor | None]  # of the first examples; the others take its negative

    def trace(self, mirrored: bool = False) -> Trace:
        """Of the regularised batch."""
        return self.network.linearise(self.theta, self.x, self.y, self.h, self.noise, mirrored=mirrored)

    def loss(self, member: int, theta: Tensor, h: Tensor, rows: slice = slice(None)) -> Tensor:
        """C of one member's batch, regularised but for the L2 penalty."""
        layout, a = self.layout, self.x[member, rows]
        columns = (layout.input_noise, *layout.hidden_noise)
        for layer, (weight, bias) in enumerate(self.parts(theta)):
            if layer:
                a = torch.relu(a) if self.network.activation == "relu" else torch.tanh(a)
            if (column := columns[layer]) is not None:
                epsilon = self.noise[layer]
                assert epsilon is not None
                signed = torch.cat([epsilon[member], -epsilon[member]])[: len(self.y[member])]
                a = a + h[column] * signed[rows]
            a = torch.nn.functional.linear(a, weight, bias)
        smoothing = h[layout.label_smoothing] if layout.label_smoothing is not None else 0.0
        q = torch.nn.functional.one_hot(self.y[member, rows], 3) * (1 - smoothing) + smoothing / 3
        return -(q * torch.log_softmax(a, 1)).sum(1).mean()

    def tangent(
        self,
        trace: Trace,
        z: Tensor,
        examples: int,
        direct: Tensor | None = None,
        columns: tuple[int, ...] | None = None,
    ) -> Tensor:
        """What the network adds of it to nothing; by default a direction for each column."""
        out = torch.full_like(z, torch.nan)
        columns = tuple(range(z.shape[1])) if columns is None else columns
        self.network.tangent(trace, z, examples, columns=columns, direct=direct, out=out)
        return out

    def parts(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        pieces = [theta[p.start : p.stop].view(p.shape) for p in self.network.parameters]
        return list(zip(pieces[::2], pieces[1::2], strict=True))

    def gradient(self, member: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """θ, h and ∇θ C, to be differentiated again."""
        theta, h = self.theta[member].clone().requires_grad_(), self.h[member].clone().requires_grad_()
        loss = self.loss(member, theta, h, rows) + 0 * (theta.sum() + h.sum())  # each is used, if only like this
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return theta, h, gradient


def case(
    seed: int,
    activation: str,
    hidden: tuple[int, ...],
    kinds: HyperparameterConfig,
    size: int = 4,
    batch: int = 6,
    drawn: int | None = None,
) -> Case:
    """``drawn`` examples have noise of their own; by default half of the batch, as in a training."""
    drawn = (batch + 1) // 2 if drawn is None else drawn
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    layout = lay_out(kinds, parameters_of(size, hidden, 3), len(hidden))
    network = StackedMLP(ModelConfig(hidden=hidden, activation=activation), size, 3, layout)  # type: ignore[arg-type]
    noise = [None if shape is None else normal(2, drawn, *shape) for shape in network.noise_shapes]
    h = torch.rand(2, len(layout.names), generator=draw, dtype=torch.float64) * 0.5
    y = torch.randint(3, (2, batch), generator=draw)
    return Case(network, layout, normal(2, network.size), normal(2, batch, size), y, h, noise)


each_kind = pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
each_activation = pytest.mark.parametrize("activation", ["relu", "tanh"])
seeds, widths = st.integers(0, 10_000), st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
