"""The training loop that a competent user of PyTorch writes, and T1-T2 on top of it by autograd alone.

It shares no code with ``trainers``. Batches lie in memory, the penalty 10^λ θ²/2 is part of the loss, the optimiser is
``torch.optim.SGD``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Batch(NamedTuple):
    """Inputs [B, d] and labels [B]."""

    x: Tensor
    y: Tensor


Value = TypeVar("Value", float, Tensor)


class Hyperparameters(NamedTuple, Generic[Value]):
    """λ and n0: numbers in a training that leaves them alone, scalar tensors where they are differentiated."""

    log10_l2: Value
    noise_std: Value


Fixed: TypeAlias = Hyperparameters[float]
Tuned: TypeAlias = Hyperparameters[Tensor]

# Takes one inner step of the model at rate η1 on a T1 batch with noise ε, and returns dC2/dλ and dC2/dn0 of a T2 batch
# after it: (model, η1, T1 batch, ε, T2 batch, hyperparameters) → gradients.
OuterStep = Callable[[nn.Module, float, Batch, Tensor, Batch, Tuned], tuple[Tensor, ...]]


def perceptron(widths: tuple[int, ...], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A multilayer perceptron."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional(image: tuple[int, ...], channels: tuple[int, ...], classes: int) -> nn.Sequential:
    """For images [channels, height, width], stages of a 3×3 convolution, ReLU and 2×2 maximum, then a linear layer."""
    depth, height, width = image
    layers: list[nn.Module] = []
    for maps in channels:
        layers += [nn.Conv2d(depth, maps, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        depth, height, width = maps, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * height * width, classes))


def batches(x: Tensor, y: Tensor, size: int) -> Iterator[Batch]:
    """Endless shuffled epochs; an incomplete last batch is left out."""
    while True:
        order = torch.randperm(len(y), device=y.device)
        for rows in order.split(size)[: len(y) // size]:
            yield Batch(x[rows], y[rows])


def cross_entropy(model: nn.Module, batch: Batch, noise: Tensor, h: Fixed | Tuned) -> Tensor:
    """C1 of noisy inputs."""
    return F.cross_entropy(model(batch.x + h.noise_std * noise), batch.y)


def inner_loss(model: nn.Module, batch: Batch, noise: Tensor, h: Fixed | Tuned) -> Tensor:
    """C1~: the cross-entropy of noisy inputs and the penalty Σ_j 10^λ θ_j² / 2."""
    penalty = 10**h.log10_l2 / 2 * torch.stack([p.square().sum() for p in model.parameters()]).sum()
    return cross_entropy(model, batch, noise, h) + penalty


def autograd_step(model: nn.Module, rate: float, t1: Batch, noise: Tensor, t2: Batch, h: Tuned) -> tuple[Tensor, ...]:
    """The straightforward way: keep the graph of the step and go back through it."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(inner_loss(model, t1, noise, h), parameters, create_graph=True)
    stepped = [p - rate * g for p, g in zip(parameters, gradients, strict=True)]
    outer_loss = F.cross_entropy(torch.func.functional_call(model, dict(zip(names, stepped, strict=True)), t2.x), t2.y)
    hypergradient = torch.autograd.grad(outer_loss, h)
    with torch.no_grad():
        for parameter, value in zip(parameters, stepped, strict=True):
            parameter.copy_(value)
    return hypergradient


def train(
    model: nn.Module,
    t1: Iterator[Batch],
    t2: Iterator[Batch],
    *,
    rate: float,
    steps: int,
    log10_l2: float,
    noise_std: float,
    outer_step: OuterStep | None = None,
    every: int = 10,
    weight_decay: bool = False,
) -> tuple[float, float]:
    """Train with fixed hyperparameters or, given an outer step, tune them at every ``every``-th; their last values.

    Only the step that is differentiated builds the larger graph; all others are the ordinary ones. ``weight_decay``
    leaves the penalty to the optimiser, which is quicker and, where λ is fixed and the optimiser SGD, the same.
    """
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=10**log10_l2 if weight_decay else 0.0)
    tuned = Hyperparameters(torch.tensor(log10_l2, requires_grad=True), torch.tensor(noise_std, requires_grad=True))
    outer = torch.optim.Adam([{"params": [tuned.log10_l2], "lr": 0.03}, {"params": [tuned.noise_std], "lr": 0.01}])
    h = Hyperparameters(log10_l2, noise_std)
    for step in range(1, steps + 1):
        batch = next(t1)
        noise = torch.randn_like(batch.x)
        if outer_step is None or step % every:
            optimiser.zero_grad()
            loss = cross_entropy(model, batch, noise, h) if weight_decay else inner_loss(model, batch, noise, h)
            loss.backward()
            optimiser.step()
        else:
            gradients = outer_step(model, rate, batch, noise, next(t2), tuned)
            tuned.log10_l2.grad, tuned.noise_std.grad = gradients
            outer.step()
            with torch.no_grad():
                tuned.log10_l2.clamp_(-5.5, -2.5)
                tuned.noise_std.clamp_(0.0, 0.8)
            h = Hyperparameters(tuned.log10_l2.item(), tuned.noise_std.item())
    return h.log10_l2, h.noise_std


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and error."""
    z = model(x)
    return F.cross_entropy(z, y).item(), (z.argmax(1) != y).float().mean().item()
