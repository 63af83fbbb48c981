"""The outer optimisers: what moves the hyperparameters h [P, H] along their hypergradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import OuterConfig
from trainers.hyperparameters import Layout
from trainers.optimisers.inner import OptimiserState, anneal


def initial_state(h: Tensor) -> OptimiserState:
    """The optimiser's state before the first outer step."""
    return {"mean": torch.zeros_like(h), "square": torch.zeros_like(h)}


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """What the boxes of the H hyperparameters say, as tensors [H]."""

    rates: Tensor
    low: Tensor  # no step ends below
    high: Tensor
    squares: Tensor | None  # where the step moves a square n0², or a function of it; None: nowhere
    offset: Tensor  # κ of those that move log(n0² + κ); 0 for the others
    floor: Tensor  # see :func:`raised`


def boxes(layout: Layout, clamp: bool, like: Tensor) -> Boxes:
    """Those of a layout, on the device of ``like`` and of its type."""
    # Without the clamp, a standard deviation or a smoothing below its low still has no meaning.
    free = [not clamp and name.startswith("log10_l2") for name in layout.names]
    squares = [box.coordinate != "value" for box in layout.ranges]
    offsets = [(box.high / 2) ** 2 if box.coordinate == "log_variance" else 0.0 for box in layout.ranges]
    floors = [box.high / 16 if square else -math.inf for square, box in zip(squares, layout.ranges, strict=True)]
    return Boxes(
        rates=like.new_tensor([box.learning_rate for box in layout.ranges]),
        low=like.new_tensor([-math.inf if f else box.low for f, box in zip(free, layout.ranges, strict=True)]),
        high=like.new_tensor([box.high if clamp else math.inf for box in layout.ranges]),
        squares=torch.tensor(squares, device=like.device) if any(squares) else None,
        offset=like.new_tensor(offsets),
        floor=like.new_tensor(floors),
    )


def raised(boxes: Boxes, h: Tensor) -> Tensor:
    """``h`` with the standard deviations whose squares are moved raised to a sixteenth of their box's top at least.

    At n0 = 0 both parts of dC2/dn0² = dC2/dn0 / (2 n0) vanish. So, at and near 0, this derivative is taken at the
    raised value: as a function of n0² the loss is close to a straight line over so short a way.
    """
    return h if boxes.squares is None else torch.maximum(h, boxes.floor)


def slopes(boxes: Boxes, h: Tensor) -> Tensor:
    """dh/dc [P, H], where c is the coordinate that the outer step adds to.

    It is 1 for the value itself, 1 / (2 n0) for n0², and (n0² + κ) / (2 n0) for log(n0² + κ).
    """
    if boxes.squares is None:
        return torch.ones_like(h)
    scale = torch.where(boxes.offset > 0, h * h + boxes.offset, 1.0)
    return torch.where(boxes.squares, 0.5 * scale / raised(boxes, h), 1.0)


def step(
    config: OuterConfig,
    boxes: Boxes,
    h: Tensor,
    hypergradient: Tensor,
    state: OptimiserState,
    *,
    count: int,
    progress: tuple[int, int],
) -> None:
    """One outer step in place: SGD or Adam, each hyperparameter at its own rate, then the clamp to its box.

    The step is taken in each hyperparameter's own coordinate c: along dC2/dc = dC2/dh · dh/dc (:func:`slopes`).
    ``count`` numbers the outer steps from 1; ``progress`` is (inner steps done, inner steps planned).
    """
    if boxes.squares is not None:
        hypergradient = hypergradient * slopes(boxes, h)
    rates = boxes.rates * anneal(config.schedule, config.anneal_fraction, *progress)
    if config.optimiser == "sgd":
        move = rates * hypergradient
    else:
        b1, b2 = config.betas
        state["mean"].mul_(b1).add_(hypergradient, alpha=1 - b1)
        state["square"].mul_(b2).addcmul_(hypergradient, hypergradient, value=1 - b2)
        root = (state["square"] / (1 - b2**count)).sqrt_().add_(config.epsilon)
        move = (rates / (1 - b1**count)) * state["mean"] / root
    moved = h - move
    if boxes.squares is not None:
        square = h * h
        # By expm1, a value that takes no step stays as it is to the last bit.
        by_log = (square + boxes.offset) * torch.expm1(-move)
        square = square + torch.where(boxes.offset > 0, by_log, -move)
        moved = torch.where(boxes.squares, square.clamp_(min=0).sqrt_(), moved)
    torch.clamp(moved, boxes.low, boxes.high, out=h)
