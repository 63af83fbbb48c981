"""Forward-mode differentiation: the tangent of θ is carried along the training (RTHO, Franceschi et al., 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainers.hypergradients.base import Estimator, Move, Step, T2Batch, Task
from trainers.hypergradients.one_step import mean_weight, sensitivity
from trainers.hyperparameters import penalty_direction, penalty_hypergradient
from trainers.networks.base import Descent
from trainers.noise import whole
from trainers.optimisers import inner, outer


class Forward(Estimator):
    """<∇θ C2(θ'), z> with z = dθ'/dh carried along the whole training, and one step for what is not worth carrying.

    z ← (I - S ∇²C1~) γ z - S ∂_h g at every inner step: γ = 0 is ``t1t2``, γ = 1 the derivative of the unrolled
    training. Assumes of γ < 1 only that what h did 1/(1-γ) steps ago no longer matters.

    With ``tangent_every`` = j > 1 only each j-th step is carried, at its own length. The fixed point is the same,
    -(∇²C1~)⁻¹ ∂_h g, but z comes to it j times slower where the loss is flat. Steps j times longer would not be stable
    where it is steep. So with SGD z has a momentum of its own (heavy ball, Polyak, 1964): each carried step adds μ
    times what the one before changed. That makes z 1/(1-μ) times quicker where the loss is flat, and the noise that
    comes from the few examples as much larger. μ = 1 - 1/j would leave no delay, μ = 0 no further noise; taken is
    μ = 1 - 1/√j, between them. Momentum and Adam as inner optimisers need none, since they have a momentum. With them
    j > 1 is approximate, because the tangent of the optimiser's state fades j times slower than the state itself.

    ``antithetic`` carries the derivative of the gradient's mean over ε and -ε. The part of ∂_n0 g that is odd in ε
    cancels then; it has mean zero, but does not vanish with n0 as the rest does. z is carried for the coordinate c of
    the outer step; for c = n0² what each step adds, ∂_n0 g / (2 n0), then stays finite down to n0 = 0.

    With ``averaging``, v is taken at the running mean of θ', and multiplied with the running mean of z. Both means are
    of the θ' and z at the outer steps.

    Hyperparameters that ``carry`` does not name take the derivative through one step, as in ``t1t2``; with
    ``averaging``, v and, for λ, θ too are those at the mean.
    """

    needs_tangents: ClassVar[bool] = True

    def __init__(self, task: Task, *, seeds: tuple[int, ...], theta: Tensor, h: Tensor) -> None:
        super().__init__(task, seeds=seeds, theta=theta, h=h)
        config = task.config
        self.boxes = outer.boxes(task.layout, config.hyperparameters.clamp, h)
        self.columns = _carried(task)
        self.others = [column for column in range(h.shape[1]) if column not in self.columns]
        self.z = theta.new_zeros(len(theta), len(self.columns), theta.shape[1])  # dθ'/dc
        # z before the latest carried step, for the momentum that z has of its own; SGD alone needs it.
        self.earlier = {"z_before": torch.zeros_like(self.z)} if config.inner.optimiser == "sgd" else {}
        self.z_state = inner.initial_state(config.inner, self.z)  # the tangent of the optimiser's state
        self.z_dot: Tensor | None = None  # dg/dc, between the beginning and the end of a step
        self.average = {"theta": theta.clone(), "z": self.z.clone()} if config.outer.averaging else {}
        # The λs' derivative of one step is in closed form; that of the others needs the trace of the step.
        self.needs_trace = not set(self.others) <= set(task.layout.l2_columns)
        self.looks_back = self.needs_trace or (bool(self.others) and not self.average)

    @classmethod
    def memory(cls, task: Task) -> int:
        """The tangents of θ, now and before, and of the optimiser's state, means, and the examples that carry them."""
        config, directions = task.config, len(_carried(task))
        copies = directions * (2 + 2 * len(inner.STATE[config.inner.optimiser]))
        copies += 1 + directions if config.outer.averaging else 0
        rows = _examples(task) * (2 if config.outer.antithetic else 1)
        return copies * task.network.size + directions * rows * task.network.example_size

    def tensors(self) -> dict[str, Tensor]:
        states = {f"z_state.{name}": value for name, value in self.z_state.items()}
        means = {f"average.{name}": value for name, value in self.average.items()}
        return {"z": self.z} | self.earlier | states | means

    def before_step(self, step: Step) -> None:
        """Carry z through a step of SGD, which needs no gradient. For the others take dg/dc, before θ changes."""
        config, layout, values = self.task.config, self.task.layout, step.values
        if step.number % config.outer.tangent_every or not self.columns:
            return
        trace, rows = self._carrier(step)
        tangent = partial(
            self.task.network.tangent, trace, self.z, rows, columns=self.columns, direct=values.slopes[:, self.columns]
        )
        fade = config.outer.memory**config.outer.tangent_every
        if config.inner.optimiser == "sgd":
            new, momentum = self.earlier["z_before"], 1 - config.outer.tangent_every**-0.5
            tangent(out=new, beta=-momentum, alpha=-step.rate, fade=fade)
            penalty_direction(layout, self.columns, values.strengths, step.theta, new, -step.rate)
            new.addcmul_(self.z, (momentum + fade * (1 - step.rate * values.strength)).unsqueeze(1))
            self.z, self.earlier["z_before"] = new, self.z
        else:
            for fading in (self.z, *self.z_state.values()):
                fading.mul_(fade)
            self.z_dot = torch.empty_like(self.z)
            tangent(out=self.z_dot)
            self.z_dot.addcmul_(values.strength.unsqueeze(1), self.z)
            penalty_direction(layout, self.columns, values.strengths, step.theta, self.z_dot)

    def after_step(self, step: Step, move: Move) -> None:
        """Carry z through a step of momentum or Adam, and update the running means where an outer step is due."""
        config = self.task.config
        if self.z_dot is not None and move.gradient is not None:
            inner.tangent(
                config.inner,
                self.z,
                g_dot=self.z_dot,
                g=move.gradient,
                state=move.optimiser,
                tangents=self.z_state,
                rate=step.rate,
                count=step.number,
            )
            self.z_dot = None
        if self.average and step.number % config.outer.every == 0:
            weight = mean_weight(self.task, step)
            self.average["theta"].lerp_(move.theta, weight)
            self.average["z"].lerp_(self.z, weight)

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network, layout, strengths = self.task.network, self.task.layout, step.values.strengths
        theta, z = self.average.get("theta", move.theta), self.average.get("z", self.z)
        trace = network.linearise(theta, t2.x, t2.y)
        v = network.scaled_gradient(trace, 1.0)
        out = theta.new_zeros(len(theta), len(layout.names))
        for direction, column in enumerate(self.columns):
            out[:, column] = network.dots(z[:, direction], v).sum(1) / step.values.slopes[:, column]
        if self.others:
            w = network.scaled_gradient(trace, sensitivity(self.task, step, move))
            dots = network.dots(theta, w, Descent(strengths=strengths)) if self.average else network.dots(step.theta, w)
            penalty = penalty_hypergradient(layout, strengths, dots)
            one_step = penalty + network.mixed_vjp(step.trace, w) if self.needs_trace else penalty
            out[:, self.others] = -one_step[:, self.others]
        return out

    def _carrier(self, step: Step) -> tuple[Any, int]:
        """The trace that z is carried with, and how many of its rows."""
        rows = _examples(self.task)
        if not self.task.config.outer.antithetic:
            return step.trace, rows
        few = [None if e is None else whole(e, rows) for e in step.noise]
        h = outer.raised(self.boxes, step.values.exact).to(step.theta)
        trace = self.task.network.linearise(step.theta, step.inputs(rows), step.y[:, :rows], h, few, mirrored=True)
        return trace, 2 * rows


def _carried(task: Task) -> tuple[int, ...]:
    """The columns of the hyperparameters whose tangents are carried."""
    return task.layout.columns_of(task.config.outer.carry)


def _examples(task: Task) -> int:
    """How many examples of each T1 batch carry z."""
    batch = task.config.inner.batch_size
    return min(task.config.outer.tangent_batch or batch, batch)
