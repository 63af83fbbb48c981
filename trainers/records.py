"""What goes into a training and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Member:
    """One training of a pack: its seed and its initial hyperparameters, by column name.

    The seed alone decides initial weights, batch order and noise, so the arms of a configuration, which share it,
    differ in their hyperparameters only (common random numbers).
    """

    seed: int
    hyperparameters: dict[str, float]  # for example {"log10_l2": -4.0, "input_noise_std": 0.3}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a member's trajectory, after ``step`` inner steps."""

    member: int  # the position in the pack
    step: int
    hyperparameters: dict[str, float]
    hypergradient: dict[str, float]  # of the last outer step; NaN where there was none
    t1_loss: float  # cross-entropy of the latest T1 batch with its noise, without the penalty
    t2_loss: float  # cross-entropy of the whole of T2


@dataclass(frozen=True)
class Checkpoint:
    """A whole pack after ``step`` inner steps: give it to :func:`trainers.train` to go on bit for bit."""

    step: int
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of one member. Losses are mean cross-entropies in nats without noise or penalty; errors are fractions."""

    member: int
    status: Literal["completed", "diverged"]
    steps: int  # inner steps taken; fewer than planned where the run diverged
    initial: dict[str, float]
    final: dict[str, float]
    t1_loss: float
    t2_loss: float
    t2_error: float
    test_loss: float
    test_error: float
    train_time_s: float  # inner and outer steps of the whole pack / its size, evaluation left out


Record = Point | Checkpoint | Result
