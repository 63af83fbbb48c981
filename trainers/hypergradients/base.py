"""What an estimator of the hypergradient dC2/dh is, and what the training loop hands to it.

With u the inner update, θ' = θ - u(g), g = ∇θ C1~(θ; h) on one T1 batch with its noise ε, S = ∂u/∂g (η1 for SGD) and
v = ∇θ C2, the exact hypergradient of one step is

    dC2/dh = - < S v, ∂_h g >,    ∂_λ g = ln 10 · 10^λ θ,    ∂_n0 g = ∂/∂n0 ∇θ C1(θ; x + n0 ε)

(Luketina et al., 2016, in the parametrisation 10^λ θ²/2 of the slides). C2 is the loss on a T2 batch, without noise or
penalty. The estimators differ in where v is taken and in how much of the past of θ they see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from trainers.config import TrainConfig
from trainers.hyperparameters import Layout
from trainers.networks.base import Draws, Network
from trainers.optimisers.inner import OptimiserState


@dataclass(frozen=True, kw_only=True)
class Task:
    """What stays the same during a training."""

    network: Network
    layout: Layout
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Values:
    """The hyperparameters between two outer steps, in every form in which a step needs them."""

    exact: Tensor  # [P, H] in float64
    h: Tensor  # [P, H], the same in θ's type
    slopes: Tensor  # [P, H], dh/dc of the coordinate c that the outer step adds to
    strengths: Tensor  # [P, K], 10^λ of each parameter tensor
    strength: Tensor  # 10^λ of each entry of θ, broadcasting to [P, N]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One inner step: the T1 batch, and what the network makes of it."""

    number: int  # from 1
    rate: float  # η1
    values: Values
    theta: Tensor  # [P, N]; an inner step moves it in place, unless an outer step follows that looks back
    inputs: Callable[[int], Tensor]  # x of the first m examples, [P, m, ...], without noise
    y: Tensor  # [P, B]
    noise: Draws
    trace: Any  # the network's, of this batch at ``theta``


@dataclass(frozen=True, kw_only=True)
class Move:
    """What the inner step has led to."""

    theta: Tensor  # θ', [P, N]
    gradient: Tensor | None  # g, [P, N]; None for SGD, which does not form it
    optimiser: OptimiserState  # of the inner optimiser, after the step


@dataclass(frozen=True, kw_only=True)
class T2Batch:
    """The batch on which an outer step takes C2."""

    number: int  # of the outer step, from 1
    x: Tensor  # [P, B2, ...]
    y: Tensor  # [P, B2]


class Estimator(ABC):
    """Estimates the hypergradients of one pack, and owns whatever it has to carry from step to step for that.

    ``seeds``, ``theta`` [P, N] and ``h`` [P, H] are the pack's before its first step. An estimator changes nothing but
    its own state. It treats the members apart, so that one that diverges disturbs no other.
    """

    needs_tangents: ClassVar[bool] = False  # whether it calls ``Network.tangent``
    looks_back: bool = True  # whether ``hypergradient`` needs θ and the trace of before the inner step

    def __init__(self, task: Task, *, seeds: tuple[int, ...], theta: Tensor, h: Tensor) -> None:
        self.task, self.seeds = task, seeds

    @classmethod
    def memory(cls, task: Task) -> int:
        """About how many numbers it keeps for each member at its peak, beyond what every outer step needs."""
        return 0

    def tensors(self) -> dict[str, Tensor]:
        """Its state by the names in a checkpoint: the tensors themselves. A resumed training writes into them."""
        return {}

    def before_step(self, step: Step) -> None:  # noqa: B027 - most estimators carry nothing
        """Called before each inner step."""

    def after_step(self, step: Step, move: Move) -> None:  # noqa: B027
        """Called after each inner step."""

    @abstractmethod
    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        """dC2/dh [P, H], after the inner step that an outer step follows."""
