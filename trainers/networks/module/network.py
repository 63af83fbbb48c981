"""P copies of any ``nn.Module`` as one stacked network, differentiated by autograd and ``torch.func``.

The pack is cut into groups of members that are evaluated together (:mod:`trainers.networks.module.group`), and here
their results are put together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.config import TrainConfig
from trainers.hyperparameters import lay_out
from trainers.networks.base import Descent, Draws
from trainers.networks.module.group import Group, evaluation, flat, groups
from trainers.networks.module.loss import RunLoss
from trainers.networks.module.models import factory, parameters_of, without_running_averages
from trainers.networks.module.probe import (
    check_derivatives,
    check_forward,
    check_parameters,
    numbers_of_an_example,
    seeded,
    takes_channels_last,
)
from trainers.noise import whole
from trainers.seeding import Stream, stream_key

STATISTICS_ROWS = 256  # T1 examples whose statistics normalise everything clean


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One batch of every member. A trace whose loss and gradient nobody asks for costs nothing.

    The first of the two that is asked for computes both, from the batch, its noise and θ as they are then. So a step
    has to be taken before these change, and the loss may be asked for at any time after it.
    """

    y: Tensor  # [P, B]
    groups: list[Group]
    members: list[slice]  # of each group, the places in the pack

    @property
    def logits(self) -> Tensor:
        """[P, B, classes]."""
        return torch.cat([group.logits for group in self.groups])


class StackedModule:
    """P modules side by side. See :class:`trainers.networks.base.Network`.

    ``shape`` is that of one input, and ``t1_x`` are the inputs of T1; ``tangents`` says whether tangents are needed.
    Raises :class:`trainers.ConfigError` for a module that does not fit the data, is random, keeps a state beside its
    parameters or cannot be differentiated twice, and for a custom hyperparameter that the gradient does not depend on.
    """

    def __init__(
        self, config: TrainConfig, shape: tuple[int, ...], classes: int, t1_x: NDArray[np.float32], *, tangents: bool
    ) -> None:
        self.factory = factory(config.model, shape, classes)
        module = self._fresh(0)
        check_parameters(config.model.name, module, self._fresh(0))
        statistics = without_running_averages(module)
        sample = torch.from_numpy(t1_x[:STATISTICS_ROWS])
        sites = check_forward(config, module, sample, classes)
        self.parameters = parameters_of(module)
        self.size = self.parameters[-1].stop
        self.layout = layout = lay_out(config.hyperparameters, self.parameters, len(sites))
        sizes = zip((shape, *sites.values()), layout.noise, strict=True)
        self.noise_shapes = [size if column is not None else None for size, column in sizes]
        self.noise_shapes += [shape for _, custom in layout.custom if custom.augment]
        self.example_size = numbers_of_an_example(module, sample)
        hidden = [module.get_submodule(name) for name in sites]
        self.run_loss = run_loss = RunLoss(
            module=module,
            parameters=self.parameters,
            layout=layout,
            sites=hidden,
            statistics=statistics,
            sample=sample,
            channels_last=takes_channels_last(module, sample),
        )
        theta, shapes = self.initial(0), self.noise_shapes
        check_derivatives(config, run_loss, theta, shapes, classes=classes, tangents=tangents)

    def initial(self, seed: int) -> Tensor:
        """What the module's own initialisation draws from this seed."""
        made = [parameter.detach().double().flatten() for parameter in self._fresh(seed).parameters()]
        return torch.cat(made)

    def linearise(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        h: Tensor | None = None,
        noise: Draws = (),
        *,
        mirrored: bool = False,
        overwrite: bool = False,
    ) -> Trace:
        draws = {site: whole(drawn, y.shape[1]) for site, drawn in enumerate(noise) if drawn is not None}
        if mirrored:
            x, y = torch.cat([x, x], 1), torch.cat([y, y], 1)
            draws = {site: torch.cat([drawn, -drawn], 1) for site, drawn in draws.items()}
        members = groups(self.run_loss, theta)
        parts = [
            Group(
                run_loss=self.run_loss,
                theta=theta[group],
                x=x[group],
                y=y[group],
                h=None if h is None else h[group],
                noise={site: drawn[group] for site, drawn in draws.items()},
            )
            for group in members
        ]
        return Trace(y=y, groups=parts, members=members)

    def loss(self, trace: Trace) -> Tensor:
        return -torch.log_softmax(trace.logits, 2).gather(2, trace.y.unsqueeze(2)).mean((1, 2))

    def gradient(self, trace: Trace) -> Tensor:
        """The caller may write into it, but not into θ before."""
        return torch.cat([flat(group.gradient) for group in trace.groups])

    def sgd_step(self, theta: Tensor, trace: Trace, strength: Tensor, rate: float, out: Tensor) -> None:
        """Part by part, without the gradient as one vector."""
        kept = (1 - rate * strength).expand(theta.shape)
        sizes = list(self.layout.sizes)
        for group, place in zip(trace.groups, trace.members, strict=True):
            gradient = group.gradient  # before ``out``, which may be θ, is written
            pieces = (tensor[place].split_with_sizes(sizes, 1) for tensor in (theta, kept, out))
            for g, old, keep, new in zip(gradient, *pieces, strict=True):
                torch.mul(old, keep, out=new).sub_(g.flatten(1), alpha=rate)

    def scaled_gradient(self, trace: Trace, scale: Tensor | float) -> Tensor:
        return self.gradient(trace).mul_(scale)

    def direction(self, w: Tensor) -> Tensor:
        return w

    def dots(self, theta: Tensor, w: Tensor, since: Descent | None = None) -> Tensor:
        sums = []
        for place in groups(self.run_loss, theta):
            products = (w[place] * theta[place]).split_with_sizes(list(self.layout.sizes), 1)
            sums.append(torch.stack([part.sum(1) for part in products], dim=1))
        return torch.cat(sums)

    def mixed_vjp(self, trace: Trace, w: Tensor) -> Tensor:
        return torch.cat([group.mixed_vjp(w[place]) for group, place in zip(trace.groups, trace.members, strict=True)])

    def tangent(
        self,
        trace: Trace,
        z: Tensor,
        examples: int,
        *,
        columns: tuple[int, ...] = (),
        direct: Tensor | None = None,
        out: Tensor,
        beta: float = 0.0,
        alpha: float = 1.0,
        fade: float = 1.0,
    ) -> None:
        """By forward over reverse mode; with batch normalisation, under the statistics of those ``examples``."""
        for group, place in zip(trace.groups, trace.members, strict=True):
            weights = None if direct is None else direct[place]
            found = group.tangent(fade * z[place], examples, columns=columns, direct=weights)
            if beta == 0:  # ``out`` may hold no numbers yet
                torch.mul(found, alpha, out=out[place])
            else:
                out[place].mul_(beta).add_(found, alpha=alpha)

    @torch.no_grad()
    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = [evaluation(self.run_loss, theta[place], x, y) for place in groups(self.run_loss, theta)]
        losses, errors = zip(*found, strict=True)
        return torch.cat(losses), torch.cat(errors)

    def _fresh(self, seed: int) -> nn.Module:
        with seeded(stream_key(seed, Stream.WEIGHTS)):
            return self.factory().train()
