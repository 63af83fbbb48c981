"""All that changes during a training of a pack: how it starts, and how it goes into a checkpoint and out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ConfigError, TrainConfig
from trainers.optimisers import inner, outer
from trainers.optimisers.inner import State as OptimiserState
from trainers.problem import Problem
from trainers.records import Checkpoint, Member

LARGEST_SEED = 2**63 - 1  # what a checkpoint and a table hold as an integer


@dataclass
class State:
    """P members after ``step`` inner steps."""

    seeds: Tensor  # [P]; with the initial hyperparameters, what a checkpoint is known by
    initial: Tensor  # [P, H] in float64
    theta: Tensor  # [P, N]
    h: Tensor  # [P, H] in float64 whatever θ's type, so that fixed hyperparameters stay exactly as given
    inner: OptimiserState
    outer: OptimiserState
    hypergradient: Tensor  # [P, H], of the last outer step
    finite_h: Tensor  # [P, H], the latest recorded values that were finite
    diverged_at: Tensor  # [P], the step at which a non-finite loss was seen; 0 for none
    z: Tensor | None  # [P, H, N], the tangent of ``forward``
    z_state: OptimiserState
    average: OptimiserState  # of θ and z, over the steps at which the tangent is carried
    step: int = 0
    seconds: float = 0.0

    def checkpoint(self) -> Checkpoint:
        """A copy of everything, on the CPU."""
        tensors = {
            "seeds": self.seeds,
            "initial": self.initial,
            "theta": self.theta,
            "h": self.h,
            "hypergradient": self.hypergradient,
            "finite_h": self.finite_h,
            "diverged_at": self.diverged_at,
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
        }
        if self.z is not None:
            tensors["z"] = self.z
        for kind, state in self._groups():
            tensors |= {f"{kind}.{name}": value for name, value in state.items()}
        return Checkpoint(self.step, {name: value.detach().cpu().clone() for name, value in tensors.items()})

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint. Raises :class:`ConfigError` where it is of another configuration, arm or pack."""
        own = self.checkpoint().tensors
        if {n: (t.dtype, t.shape) for n, t in own.items()} != {n: (t.dtype, t.shape) for n, t in saved.tensors.items()}:
            raise ConfigError(
                f"checkpoint with {_shapes(saved.tensors)}: must be of the same configuration, arm and pack, "
                f"which has {_shapes(own)}"
            )
        for name in ("seeds", "initial"):
            if not torch.equal(own[name], saved.tensors[name]):
                raise ConfigError(
                    f"checkpoint of members with {name} {saved.tensors[name].tolist()}: must be of those "
                    f"with {own[name].tolist()}"
                )
        self.step, self.seconds = saved.step, float(saved.tensors["seconds"])
        for name in ("theta", "h", "hypergradient", "finite_h", "diverged_at"):
            getattr(self, name).copy_(saved.tensors[name])
        if self.z is not None:
            self.z.copy_(saved.tensors["z"])
        for kind, state in self._groups():
            for name, value in state.items():
                value.copy_(saved.tensors[f"{kind}.{name}"])

    def _groups(self) -> tuple[tuple[str, OptimiserState], ...]:
        return ("inner", self.inner), ("outer", self.outer), ("z_state", self.z_state), ("average", self.average)


def start(problem: Problem, config: TrainConfig, members: Sequence[Member], online: bool) -> State:
    """The state before the first step. Raises :class:`ConfigError` for members that do not fit the configuration."""
    values = _values(problem, members)  # before anything is drawn from the seeds
    like = problem.t1[0]
    theta = like.new_empty(len(members), problem.network.size)
    for row, member in zip(theta, members, strict=True):
        row.copy_(problem.network.initial(member.seed))
    h = values.to(like.device, copy=True)
    carries = online and config.outer.estimator == "forward"
    z = theta.new_zeros(len(members), h.shape[1], theta.shape[1]) if carries else None
    return State(
        torch.tensor([member.seed for member in members]),
        values,
        theta,
        h,
        inner.initial_state(config.inner, theta),
        outer.initial_state(h),
        torch.full_like(h, math.nan),
        h.clone(),
        torch.zeros(len(members), dtype=torch.int64),
        z,
        inner.initial_state(config.inner, z) if z is not None else {},
        {"theta": theta.clone(), "z": z.clone()} if z is not None and config.outer.averaging else {},
    )


def _values(problem: Problem, members: Sequence[Member]) -> Tensor:
    """The initial hyperparameters, [P, H] in float64."""
    names = problem.layout.names
    for member in members:
        if set(member.hyperparameters) != set(names):
            raise ConfigError(
                f"hyperparameters of a member = {sorted(member.hyperparameters)}: must be {sorted(names)}"
            )
        for name, value in member.hyperparameters.items():
            if not math.isfinite(value):
                raise ConfigError(f"hyperparameters.{name} = {value!r} of a member: must be a finite number")
        if type(member.seed) is not int or not 0 <= member.seed <= LARGEST_SEED:
            raise ConfigError(f"seed = {member.seed!r} of a member: must be a whole number from 0 to {LARGEST_SEED}")
    return torch.tensor([[m.hyperparameters[n] for n in names] for m in members], dtype=torch.float64)


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {str(t.dtype)[6:]}{list(t.shape)}" for name, t in tensors.items())
