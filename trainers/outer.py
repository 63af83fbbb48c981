"""The outer optimisers: what moves the hyperparameters h [P, H] along their hypergradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.config import OuterConfig
from trainers.hyperparameters import Layout
from trainers.inner import State, anneal


def initial_state(h: Tensor) -> State:
    """The optimiser's state before the first outer step."""
    return {"mean": torch.zeros_like(h), "square": torch.zeros_like(h)}


def raised(layout: Layout, h: Tensor) -> Tensor:
    """``h`` with the standard deviations whose variance is moved raised to a sixteenth of their box's top at least.

    There, at and near 0, dC2/dn0² is taken in place of where dC2/dn0 and 2 n0 both vanish: as a function of n0² the
    loss is close to a straight line over so short a way.
    """
    low = [box.high / 16 if box.coordinate == "variance" else -math.inf for box in layout.ranges]
    return torch.maximum(h, h.new_tensor(low))


def slopes(layout: Layout, h: Tensor) -> Tensor:
    """dh/dc [P, H], c the coordinate that the outer step adds to: 1, or 1 / (2 n0) for the variance."""
    variance = torch.tensor([box.coordinate == "variance" for box in layout.ranges], device=h.device)
    return torch.where(variance, 0.5 / raised(layout, h), 1.0)


def step(
    config: OuterConfig,
    layout: Layout,
    clamp: bool,
    h: Tensor,
    hypergradient: Tensor,
    state: State,
    count: int,
    progress: tuple[int, int],
) -> None:
    """One outer step in place: SGD or Adam, each hyperparameter at its own rate, then the clamp to its box.

    The step is taken in each hyperparameter's own coordinate c: along dC2/dc = dC2/dh · dh/dc (:func:`slopes`).

    ``count`` numbers the outer steps from 1; ``progress`` is (inner steps done, inner steps planned).
    """
    hypergradient = hypergradient * slopes(layout, h)
    rates = h.new_tensor([box.learning_rate for box in layout.ranges])
    rates *= anneal(config.schedule, config.anneal_fraction, *progress)
    if config.optimiser == "sgd":
        move = rates * hypergradient
    else:
        b1, b2 = config.betas
        state["mean"].mul_(b1).add_(hypergradient, alpha=1 - b1)
        state["square"].mul_(b2).addcmul_(hypergradient, hypergradient, value=1 - b2)
        root = (state["square"] / (1 - b2**count)).sqrt_().add_(config.epsilon)
        move = rates * (state["mean"] / (1 - b1**count)) / root
    variance = torch.tensor([box.coordinate == "variance" for box in layout.ranges], device=h.device)
    h.copy_(torch.where(variance, (h * h - move).clamp(min=0).sqrt(), h - move))
    # Without the clamp, a standard deviation or a smoothing below its low still has no meaning.
    free = [not clamp and name.startswith("log10_l2") for name in layout.names]
    low = h.new_tensor([-math.inf if f else box.low for f, box in zip(free, layout.ranges, strict=True)])
    high = h.new_tensor([box.high if clamp else math.inf for box in layout.ranges])
    h.clamp_(low, high)
