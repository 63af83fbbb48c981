"""Implicit differentiation by a Neumann series (Lorraine et al., 2020; Clarke et al., 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from trainers.hypergradients.base import Estimator, Move, Step, T2Batch, Task
from trainers.hypergradients.one_step import negative_mixed_vjp, sensitivity


class Neumann(Estimator):
    """- Σ_{i=0}^{n} < S (I - H S)^i v, ∂_h g >, n = ``look_back``, v at θ', H = ∇²C1~ on the step's T1 batch at θ.

    Assumes that the last n steps had this H and this S, as near a minimum. n = 0 is ``t1t2``.
    """

    needs_tangents: ClassVar[bool] = True

    @classmethod
    def memory(cls, task: Task) -> int:
        """The sum, the term, S times the term, and its product with H."""
        return 4 * task.network.size

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network = self.task.network
        scale = sensitivity(self.task, step, move)
        p = network.gradient(network.linearise(move.theta, t2.x, t2.y))
        total = p.clone()
        for _ in range(self.task.config.outer.look_back):
            sp = scale * p
            hvp = torch.empty_like(sp)
            network.tangent(step.trace, sp.unsqueeze(1), step.y.shape[1], out=hvp.unsqueeze(1))
            p = p - hvp.addcmul_(step.values.strength, sp)
            total += p
        return negative_mixed_vjp(self.task, step, network.direction(scale * total))
