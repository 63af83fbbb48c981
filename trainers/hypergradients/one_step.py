"""T1-T2 (Luketina et al., 2016): the hypergradient through one inner step, as if θ itself did not depend on h."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.hypergradients.base import Estimator, Move, Step, T2Batch, Task
from trainers.hyperparameters import penalty_hypergradient
from trainers.networks.base import Descent
from trainers.optimisers import inner


class T1T2(Estimator):
    """- < S v, ∂_h g > with v at θ': the exact derivative of C2 after one step."""

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network, descent = self.task.network, None
        # Before the first outer step the hyperparameters may lie outside their boxes.
        if move.gradient is None and t2.number > 1 and undoable(self.task, step.rate):
            descent = Descent(trace=step.trace, strengths=step.values.strengths, rate=step.rate)
        trace = network.linearise(move.theta, t2.x, t2.y)
        w = network.scaled_gradient(trace, sensitivity(self.task, step, move))
        return negative_mixed_vjp(self.task, step, w, descent)


class T1T2AtTheta(Estimator):
    """The same with v at θ, before the step, as in the authors' code: the limit of a small step.

    It leaves out the η1/2 · ∂_h E[gᵀ ∇²C2 g] by which a noisier gradient is paid for at once (short-horizon bias, Wu et
    al., 2018), and so does not press the noise towards 0 as :class:`T1T2` does.
    """

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network = self.task.network
        trace = network.linearise(step.theta, t2.x, t2.y)
        w = network.scaled_gradient(trace, sensitivity(self.task, step, move))
        return negative_mixed_vjp(self.task, step, w, Descent(strengths=step.values.strengths))


class T1T2Lagged(Estimator):
    """The same with the v of the outer step before: ∇θ C2 at the running mean of θ' at the outer steps.

    That v does not depend on the noise of the present step. So, like :class:`T1T2AtTheta`, it leaves out that a noisier
    gradient is paid for at once; and the mean of θ' has less of the noise of the latest steps than θ. The first outer
    step has no other before it, and takes its own v.
    """

    def __init__(self, task: Task, *, seeds: tuple[int, ...], theta: Tensor, h: Tensor) -> None:
        super().__init__(task, seeds=seeds, theta=theta, h=h)
        self.v, self.mean = torch.zeros_like(theta), theta.clone()

    @classmethod
    def memory(cls, task: Task) -> int:
        """Both v, the mean and S v."""
        return 4 * task.network.size

    def tensors(self) -> dict[str, Tensor]:
        return {"v": self.v, "average.theta": self.mean}

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network = self.task.network
        self.mean.lerp_(move.theta, mean_weight(self.task, step))
        v = network.gradient(network.linearise(self.mean, t2.x, t2.y))
        w = network.direction(sensitivity(self.task, step, move) * (self.v if t2.number > 1 else v))
        out = negative_mixed_vjp(self.task, step, w)
        self.v.copy_(v)
        return out


def mean_weight(task: Task, step: Step) -> float:
    """How much the present θ' counts in a running mean that is updated at the outer steps; at first the plain mean."""
    config = task.config.outer
    return max(1 - config.averaging**config.every, config.every / step.number)


def sensitivity(task: Task, step: Step, move: Move) -> Tensor | float:
    """S = ∂u/∂g of the step just made: [P, N], or one number where it is the same for all."""
    return inner.sensitivity(task.config.inner, move.gradient, move.optimiser, rate=step.rate, count=step.number)


def negative_mixed_vjp(task: Task, step: Step, w: Any, since: Descent | None = None) -> Tensor:
    """- <w, ∂_h g> [P, H] for a direction w of the network: the λ part in closed form, the others by the network.

    ``since`` is the way from θ to where w was taken, where the network may use it to save products.
    """
    dots = task.network.dots(step.theta, w, since)
    penalty = penalty_hypergradient(task.layout, step.values.strengths, dots)
    return -(penalty + task.network.mixed_vjp(step.trace, w))


def undoable(task: Task, rate: float) -> bool:
    """Whether θ follows from θ' = (1 - η 10^λ) θ - η ∇C to nearly all digits, wherever in their boxes the λs are.

    A bound from the boxes, not from the values: those of one member must not decide how another is computed.
    """
    layout = task.layout
    highest = max((layout.ranges[column].high for column in layout.l2_columns), default=-math.inf)
    return task.config.hyperparameters.clamp and rate * 10**highest <= 0.5
