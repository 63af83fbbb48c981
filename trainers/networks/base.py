"""What the loop and the hypergradients ask of a network: P stacked members, θ as one tensor [P, N].

There are two networks: ``perceptron`` in closed form, and ``module`` for any ``nn.Module`` by ``torch.func``. What
their methods do is said here, and there only what is special. Each has traces and directions of its own type, which
callers keep and give back, but do not look into. A trace refers to the θ that it was taken at and holds no copy, so
that it is valid until that θ is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from trainers.hyperparameters import Parameter

# ε [P, M, ...] of each noise site, M ≤ B: the examples of a batch beyond the first M take -ε, in their order. None
# where there is no noise.
Draws = Sequence[Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """A step of SGD, θ' = (1 - η 10^λ) θ - η ∇θ C. Where ``trace`` is None there was no step, and θ' = θ."""

    trace: Any = None  # of the batch, at θ
    strengths: Tensor  # 10^λ of each parameter tensor, [P, K]
    rate: float = 0.0  # η


class Network(Protocol):
    """P networks of one shape. C is the mean cross-entropy of a batch, without the L2 penalty."""

    parameters: tuple[Parameter, ...]
    noise_shapes: list[tuple[int, ...] | None]  # for each site, an example's shape; None where there is no noise

    @property
    def size(self) -> int:
        """N, the number of parameters of one member."""

    @property
    def example_size(self) -> int:
        """About how many numbers a traced example takes at once, for an estimate of memory."""

    def initial(self, seed: int) -> Tensor:
        """θ of one member, [N] in float64."""

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
    ) -> Any:
        """The trace of one batch at θ [P, N]: inputs x [P, B, ...], labels y [P, B].

        ``h`` [P, H] are the hyperparameters. Without them and ``noise`` the batch is clean. ``mirrored`` takes each
        example a second time, with -ε, and wants the ε of every one; such a trace has 2 B rows and serves for tangents
        only. ``overwrite`` allows that x is written into.
        """

    def loss(self, trace: Any) -> Tensor:
        """Mean cross-entropy of the traced batch against the labels, [P]."""

    def gradient(self, trace: Any) -> Tensor:
        """∇θ C, [P, N]."""

    def sgd_step(self, theta: Tensor, trace: Any, strength: Tensor, rate: float, out: Tensor) -> None:
        """θ - η (∇θ C + s θ), one step of SGD, into ``out``, which may be θ; s is the strength of the penalty."""

    def scaled_gradient(self, trace: Any, scale: Tensor | float) -> Any:
        """scale ∘ ∇θ C as a direction."""

    def direction(self, w: Tensor) -> Any:
        """The direction w [P, N]."""

    def dots(self, theta: Tensor, w: Any, since: Descent | None = None) -> Tensor:
        """Σ w_j θ_j over each of the K parameter tensors, [P, K]; ``since`` led from θ to where w was taken."""

    def mixed_vjp(self, trace: Any, w: Any) -> Tensor:
        """<w, ∂_h ∇θ C> for each hyperparameter but the λs, [P, H]."""

    def tangent(
        self,
        trace: Any,
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
        """``out`` ← ``beta`` ``out`` + ``alpha`` (∇²θ C ``fade`` z_h + ``direct``_h ∂_h ∇θ C), for H directions z.

        z and ``out``, which is not z, are [P, H, N]. Where ``beta`` is 0, ``out`` need not hold numbers. Taken on the
        first ``examples`` of the batch, an unbiased estimate of its mean. Direction h belongs to the hyperparameter in
        column ``columns``[h]. ``direct`` [P, H] weighs the second term, which the λs lack here; without it these are
        Hessian-vector products, of any number H, and ``columns`` say nothing.
        """

    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Clean mean cross-entropy and error on shared data x [M, ...], y [M]: two tensors [P]."""
