"""All that changes during a training of a pack: how it starts, and how it goes into a checkpoint and out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ConfigError, TrainConfig
from trainers.errors import quoted, shortened
from trainers.hypergradients import ESTIMATORS
from trainers.hypergradients.base import Estimator
from trainers.optimisers import inner, outer
from trainers.optimisers.inner import OptimiserState
from trainers.problem import Problem
from trainers.records import Checkpoint, Member

LARGEST_SEED = 2**63 - 1  # what a checkpoint and a table hold as an integer


@dataclass(kw_only=True)
class State:
    """P members after ``step`` inner steps."""

    seeds: Tensor  # [P]; by these and the initial hyperparameters a checkpoint is recognised
    initial: Tensor  # [P, H] in float64
    theta: Tensor  # [P, N]
    h: Tensor  # [P, H] in float64 whatever θ's type, so that fixed hyperparameters stay exactly as given
    inner: OptimiserState
    outer: OptimiserState
    hypergradient: Tensor  # [P, H], of the last outer step
    finite_h: Tensor  # [P, H], the latest recorded values that were finite
    diverged_at: Tensor  # [P], the step at which a non-finite loss was seen; 0 for none
    estimator: Estimator | None  # None where the hyperparameters are fixed
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """What the steps change, by the names in a checkpoint: the tensors themselves."""
        named = {name: getattr(self, name) for name in ("theta", "h", "hypergradient", "finite_h", "diverged_at")}
        named |= {f"inner.{name}": value for name, value in self.inner.items()}
        named |= {f"outer.{name}": value for name, value in self.outer.items()}
        return named | (self.estimator.tensors() if self.estimator is not None else {})

    def checkpoint(self) -> Checkpoint:
        """A copy of everything, on the CPU."""
        seconds = torch.tensor(self.seconds, dtype=torch.float64)
        tensors = {"seeds": self.seeds, "initial": self.initial, "seconds": seconds} | self.tensors()
        copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return Checkpoint(step=self.step, tensors=copies)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint. Raises :class:`ConfigError` where it is of another configuration, arm or pack."""
        own = self._checked(saved)
        for name in ("seeds", "initial"):
            if not torch.equal(own[name], saved.tensors[name]):
                raise ConfigError(
                    f"checkpoint of members with {name} {quoted(saved.tensors[name].tolist())}: must be of those "
                    f"with {quoted(own[name].tolist())}; train(branch_from=…) begins from a checkpoint of others"
                )
        self._take(saved, self.tensors())

    def branch(self, donor: Checkpoint) -> None:
        """Go on where other members are, with the hyperparameters and the draws of these.

        Raises :class:`ConfigError` where the checkpoint is of another configuration, arm or size of the pack.
        """
        self._checked(donor)
        own = ("h", "finite_h", "diverged_at")
        self._take(donor, {name: value for name, value in self.tensors().items() if name not in own})

    def _checked(self, saved: Checkpoint) -> dict[str, Tensor]:
        """The own tensors, those of ``saved`` having the same names, types and shapes; else raises ConfigError."""
        own = self.checkpoint().tensors
        if {n: (t.dtype, t.shape) for n, t in own.items()} != {n: (t.dtype, t.shape) for n, t in saved.tensors.items()}:
            raise ConfigError(
                f"checkpoint with {shortened(_shapes(saved.tensors), 1000)}: must be of the same configuration, arm "
                f"and pack, which has {_shapes(own)}"
            )
        return own

    def _take(self, saved: Checkpoint, tensors: dict[str, Tensor]) -> None:
        self.step, self.seconds = saved.step, float(saved.tensors["seconds"])
        for name, value in tensors.items():
            value.copy_(saved.tensors[name])


def start(problem: Problem, config: TrainConfig, members: Sequence[Member], online: bool) -> State:
    """The state before the first step. Raises :class:`ConfigError` for members that do not fit the configuration."""
    values = _values(problem, members)  # before anything is drawn from the seeds
    seeds = tuple(member.seed for member in members)
    like = problem.t1[0]
    theta = like.new_empty(len(members), problem.network.size)
    for row, seed in zip(theta, seeds, strict=True):
        row.copy_(problem.network.initial(seed))
    h = values.to(like.device, copy=True)
    estimator = None
    if online:
        estimator = ESTIMATORS[config.outer.estimator](problem.task(config), seeds=seeds, theta=theta, h=h)
    return State(
        seeds=torch.tensor(seeds),
        initial=values,
        theta=theta,
        h=h,
        inner=inner.initial_state(config.inner, theta),
        outer=outer.initial_state(h),
        hypergradient=torch.full_like(h, math.nan),
        finite_h=h.clone(),
        diverged_at=torch.zeros(len(members), dtype=torch.int64),
        estimator=estimator,
    )


def _values(problem: Problem, members: Sequence[Member]) -> Tensor:
    """The initial hyperparameters, [P, H] in float64."""
    names = problem.layout.names
    for member in members:
        if set(member.hyperparameters) != set(names):
            raise ConfigError(
                f"hyperparameters of a member = {quoted(sorted(member.hyperparameters))}: must be {sorted(names)}"
            )
        for name, value in member.hyperparameters.items():
            if not math.isfinite(value):
                raise ConfigError(f"hyperparameters.{name} = {quoted(value)} of a member: must be a finite number")
        if type(member.seed) is not int or not 0 <= member.seed <= LARGEST_SEED:
            raise ConfigError(
                f"seed = {quoted(member.seed)} of a member: must be a whole number from 0 to {LARGEST_SEED}"
            )
    return torch.tensor([[m.hyperparameters[n] for n in names] for m in members], dtype=torch.float64)


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {str(t.dtype)[6:]}{list(t.shape)}" for name, t in tensors.items())
