"""The inner optimisers: their rate, θ' = θ - u(g) of momentum and Adam, and how u moves with the gradient g.

Plain SGD needs no gradient as a whole: ``Network.sgd_step`` makes its steps.

Every function is elementwise on tensors [P, N]. ``sensitivity`` is ∂u/∂g, the diagonal that stands between a change of
the gradient and a change of θ' in a one-step hypergradient; ``tangent`` carries dθ/dh through the optimiser, its state
included. Both differentiate the update that is really made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.config import InnerConfig

OptimiserState = dict[str, Tensor]
STATE = {"sgd": (), "momentum": ("velocity",), "adam": ("mean", "square")}  # its tensors, each of the size of θ


def learning_rate(config: InnerConfig, step: int) -> float:
    """η1 of inner step ``step`` (from 1)."""
    return config.learning_rate * anneal(config.schedule, config.anneal_fraction, step - 1, config.steps)


def anneal(schedule: str, fraction: float, done: int, total: int) -> float:
    """A factor in (0, 1]: 1 until the last ``fraction`` of ``total`` steps, then falling towards 0."""
    tail = fraction * total
    if schedule == "constant" or tail == 0:
        return 1.0
    progress = max(0.0, (done - (total - tail)) / tail)
    return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def initial_state(config: InnerConfig, theta: Tensor) -> OptimiserState:
    """The optimiser's state before the first step; also the state of its tangents, given z [P, H, N] for θ."""
    return {name: torch.zeros_like(theta) for name in STATE[config.optimiser]}


def step(config: InnerConfig, theta: Tensor, g: Tensor, state: OptimiserState, *, rate: float, count: int) -> None:
    """Move θ and the state by one step of gradient g, in place. ``count`` is the number of the step, from 1."""
    if config.optimiser == "momentum":
        theta.sub_(state["velocity"].mul_(config.momentum).add_(g), alpha=rate)
    else:
        b1, b2 = config.betas
        state["mean"].mul_(b1).add_(g, alpha=1 - b1)
        state["square"].mul_(b2).addcmul_(g, g, value=1 - b2)
        root = (state["square"] / (1 - b2**count)).sqrt_()
        theta.addcdiv_(state["mean"], root.add_(config.epsilon), value=-rate / (1 - b1**count))


def sensitivity(
    config: InnerConfig, g: Tensor | None, state: OptimiserState, *, rate: float, count: int
) -> Tensor | float:
    """∂u/∂g of the step just made (``state`` after it): η1 for SGD and momentum; for Adam with m̂, v̂ after the step

    ∂u/∂g = η1 [ (1-β1)/(1-β1^t) / (√v̂+ε) - m̂ / (√v̂+ε)² · (1-β2) g / ((1-β2^t) √v̂) ],  the last factor 0 where v̂ = 0.

    ``g`` may be None for SGD, which does not form it.
    """
    if g is None or config.optimiser != "adam":
        return rate
    mean_dot = torch.full_like(g, 1 - config.betas[0])
    return _adam_tangent(config, state, mean_dot, 2 * (1 - config.betas[1]) * g, rate=rate, count=count)


def tangent(
    config: InnerConfig,
    z: Tensor,
    *,
    g_dot: Tensor,
    g: Tensor,
    state: OptimiserState,
    tangents: OptimiserState,
    rate: float,
    count: int,
) -> None:
    """Carry z = dθ/dh [P, H, N] through the step just made, in place.

    ``g_dot`` [P, H, N] is dg/dh, ``state`` the optimiser's after the step, ``tangents`` its own derivatives.
    """
    if config.optimiser == "momentum":
        z.sub_(tangents["velocity"].mul_(config.momentum).add_(g_dot), alpha=rate)
    else:
        b1, b2 = config.betas
        tangents["mean"].mul_(b1).add_(g_dot, alpha=1 - b1)
        tangents["square"].mul_(b2).addcmul_(g.unsqueeze(1), g_dot, value=2 * (1 - b2))
        each = {name: value.unsqueeze(1) for name, value in state.items()}
        z.sub_(_adam_tangent(config, each, tangents["mean"], tangents["square"], rate=rate, count=count))


def _adam_tangent(
    config: InnerConfig, state: OptimiserState, mean_dot: Tensor, square_dot: Tensor, *, rate: float, count: int
) -> Tensor:
    """u̇ = η1 [ ṁ̂/(√v̂+ε) - m̂ v̂˙ / (2 √v̂ (√v̂+ε)²) ]."""
    c1, c2 = 1 - config.betas[0] ** count, 1 - config.betas[1] ** count
    root = (state["square"] / c2).sqrt_()
    denominator = root + config.epsilon
    root_dot = torch.where(root > 0, square_dot / (2 * c2 * root), 0.0)  # a gradient that never was: v̂ = v̂˙ = 0
    return rate / c1 * (mean_dot / denominator - state["mean"] * root_dot / denominator.square())
