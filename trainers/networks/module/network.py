"""P copies of any ``nn.Module`` as one stacked network: vectorised by ``torch.func``, differentiated by autograd.

``vmap`` evaluates the loss of one run (:mod:`trainers.networks.module.loss`) for P runs at once. Reverse mode gives
gradients, and a second time the mixed derivatives. Forward over reverse mode gives the tangents of ``forward``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, func, nn

from trainers.config import TrainConfig
from trainers.hyperparameters import lay_out, penalty_strength
from trainers.networks.base import Descent, Draws
from trainers.networks.module.loss import Noise, RunLoss
from trainers.networks.module.models import factory, parameters_of, without_running_averages
from trainers.networks.module.probe import (
    check_derivatives,
    check_forward,
    check_parameters,
    numbers_of_an_example,
    seeded,
)
from trainers.seeding import Stream, stream_key

STATISTICS_ROWS = 256  # T1 examples whose statistics normalise everything clean
EVALUATION_ROWS = 2048  # examples times members in one chunk of an evaluation: bounds its memory


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One batch of every member and what θ made of it."""

    x: Tensor  # [P, B, ...]
    y: Tensor  # [P, B]
    h: Tensor | None  # [P, H]; None: clean
    noise: Noise  # [P, B, ...] each
    theta: Tensor  # [P, N], the leaf of the autograd graph of the losses
    losses: Tensor  # C [P]
    logits: Tensor  # [P, B, classes]

    @cached_property
    def gradient(self) -> Tensor:
        """∇θ C [P, N]. Taken at most once, which frees the graph; a trace whose gradient nobody wants costs none."""
        (gradient,) = torch.autograd.grad(self.losses, self.theta, torch.ones_like(self.losses))
        return gradient


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
        sites = check_forward(config, module, statistics, sample, classes)
        self.parameters = parameters_of(module)
        self.size = self.parameters[-1].stop
        self.layout = layout = lay_out(config.hyperparameters, self.parameters, len(sites))
        sizes = zip((shape, *sites.values()), layout.noise, strict=True)
        self.noise_shapes = [size if column is not None else None for size, column in sizes]
        self.noise_shapes += [shape for _, custom in layout.custom if custom.augment]
        self.example_size = numbers_of_an_example(module, statistics, sample)
        hidden = [module.get_submodule(name) for name in sites]
        self.run_loss = RunLoss(
            module=module, parameters=self.parameters, layout=layout, sites=hidden, statistics=statistics, sample=sample
        )
        check_derivatives(config, self, layout=layout, sample=sample, classes=classes, tangents=tangents)

    def initial(self, seed: int) -> Tensor:
        """What the module's own initialisation draws from this seed."""
        made = [parameter.detach().double().flatten() for parameter in self._fresh(seed).parameters()]
        return torch.cat(made)

    def linearise(
        self, theta: Tensor, x: Tensor, y: Tensor, h: Tensor | None = None, noise: Draws = (), mirrored: bool = False
    ) -> Trace:
        draws = {site: drawn for site, drawn in enumerate(noise) if drawn is not None}
        if mirrored:
            x, y = torch.cat([x, x], 1), torch.cat([y, y], 1)
            draws = {site: torch.cat([drawn, -drawn], 1) for site, drawn in draws.items()}
        with torch.enable_grad():
            at = theta.detach().requires_grad_()
            losses, logits = self._losses(at, h, x, y, draws)
        return Trace(x=x, y=y, h=h, noise=draws, theta=at, losses=losses, logits=logits.detach())

    def loss(self, trace: Trace) -> Tensor:
        return -torch.log_softmax(trace.logits, 2).gather(2, trace.y.unsqueeze(2)).mean((1, 2))

    def gradient(self, trace: Trace) -> Tensor:
        """The caller may write into it, but not into θ before."""
        return trace.gradient.clone()

    def sgd_step(self, theta: Tensor, trace: Trace, strength: Tensor, rate: float, out: Tensor) -> None:
        g = trace.gradient  # before ``out``, which may be θ, is written
        torch.mul(theta, 1 - rate * strength, out=out).sub_(g, alpha=rate)

    def scaled_gradient(self, trace: Trace, scale: Tensor | float) -> Tensor:
        return scale * trace.gradient

    def direction(self, w: Tensor) -> Tensor:
        return w

    def dots(self, theta: Tensor, w: Tensor, since: Descent | None = None) -> Tensor:
        return torch.stack([part.sum(1) for part in (w * theta).split_with_sizes(list(self.layout.sizes), 1)], dim=1)

    def mixed_vjp(self, trace: Trace, w: Tensor) -> Tensor:
        """By one double backward for all hyperparameters."""
        if trace.h is None or len(self.layout.l2_columns) == len(self.layout.names):
            return trace.losses.new_zeros(len(trace.losses), len(self.layout.names))
        with torch.enable_grad():
            at, h = trace.theta.detach().requires_grad_(), trace.h.detach().requires_grad_()
            losses, _ = self._losses(at, h, trace.x, trace.y, trace.noise)
            (gradient,) = torch.autograd.grad(losses.sum(), at, create_graph=True)
            (out,) = torch.autograd.grad((gradient * w).sum(), h, allow_unused=True, materialize_grads=True)
        return out

    def tangent(self, trace: Trace, z: Tensor, examples: int, direct: Tensor | None) -> Tensor:
        """By forward over reverse mode; with batch normalisation, under the statistics of those ``examples``."""
        theta = trace.theta.detach()
        x, y = trace.x[:, :examples], trace.y[:, :examples]
        noise = {site: drawn[:, :examples] for site, drawn in trace.noise.items()}

        def gradient(at: Tensor, h: Tensor | None) -> Tensor:
            out: Tensor = func.grad(lambda t: self._losses(t, h, x, y, noise)[0].sum())(at)
            return out

        def along(direction: Tensor, weights: Tensor) -> Tensor:
            if trace.h is None or direct is None:
                tangent: Tensor = func.jvp(lambda t: gradient(t, trace.h), (theta,), (direction,))[1]
            else:
                tangent = func.jvp(gradient, (theta, trace.h), (direction, weights))[1]
            return tangent

        weights = torch.diag_embed(z.new_ones(z.shape[:2]) if direct is None else direct)
        out: Tensor = func.vmap(along, (1, 1), 1)(z, weights)
        return out

    def sgd_step_tangent(
        self, trace: Trace, z: Tensor, examples: int, *, direct: Tensor, strengths: Tensor, fade: float, rate: float
    ) -> None:
        z.mul_(fade)
        z_dot = self.tangent(trace, z, examples, direct)
        z_dot.addcmul_(penalty_strength(self.layout, strengths).unsqueeze(1), z)
        z.sub_(z_dot, alpha=rate)

    @torch.no_grad()
    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, wrong = theta.new_zeros(2, len(theta))
        rows = max(1, EVALUATION_ROWS // len(theta))
        statistics = func.vmap(self.run_loss.statistics_at)(theta)
        for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
            logits = func.vmap(self.run_loss.clean_logits, (0, None, 0))(theta, xs, statistics)
            labels = ys.expand(len(theta), -1)
            loss -= torch.log_softmax(logits, 2).gather(2, labels.unsqueeze(2)).sum((1, 2))
            wrong += (logits.argmax(2) != labels).sum(1)
        return loss / len(y), wrong / len(y)

    def _fresh(self, seed: int) -> nn.Module:
        with seeded(stream_key(seed, Stream.WEIGHTS)):
            return self.factory().train()

    def _losses(self, theta: Tensor, h: Tensor | None, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """C of every member [P] and the logits [P, B, classes]."""
        if h is None:
            return func.vmap(self.run_loss.clean)(theta, x, y)
        return func.vmap(self.run_loss.regularised)(theta, h, x, y, noise)
