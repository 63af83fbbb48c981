"""The formulas of the project's slides, as they are written there."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.config import ConfigError
from trainers.hypergradients.base import Estimator, Move, Step, T2Batch
from trainers.hyperparameters import LN10, penalty_hypergradient
from trainers.seeding import Stream, generator


class Slides(Estimator):
    """For λ: -η1 <∇θ C2, θ>. For n0: the sum of N(0, n0) w0 ∇w0 C2, with a fresh draw for each input.

    Assumes nothing that would make it the derivative of C2: the first lacks ln 10 · 10^λ, the second has mean zero.
    v is taken at θ' (the slides do not say). Raises :class:`ConfigError` for any hyperparameter but L2 and input noise.
    """

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network, layout = self.task.network, self.task.layout
        hidden = any(column is not None for column in layout.hidden_noise)
        if hidden or layout.label_smoothing is not None or layout.custom:
            raise ConfigError(
                "outer.estimator = 'seed_literal': the slides give formulas for log10_l2 and input_noise_std "
                f"only, not for {list(layout.names)}"
            )
        v = network.gradient(network.linearise(move.theta, t2.x, t2.y))
        dots = network.dots(step.theta, network.direction(v))
        out = -step.rate / LN10 * penalty_hypergradient(layout, torch.ones_like(dots), dots)
        if layout.input_noise is not None:
            first = network.parameters[0]
            product = (step.theta * v)[:, first.start : first.stop].view(len(v), *first.shape)
            draws = [generator(s, Stream.SLIDES, step.number).standard_normal(first.shape[1:]) for s in self.seeds]
            noise = torch.stack([torch.from_numpy(draw) for draw in draws]).to(product).unsqueeze(1)
            noise = noise * step.values.h[:, layout.input_noise].view(-1, *[1] * len(first.shape))
            out[:, layout.input_noise] = (noise * product).flatten(1).sum(1)
        return out
