"""The training loop: k inner steps on T1, then an outer step on T2; without outer steps it is plain training."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers import inner, outer
from trainers.batches import Noise, Order
from trainers.config import ConfigError, TrainConfig
from trainers.hypergradient import ESTIMATORS, Step
from trainers.hyperparameters import penalty_direction, penalty_strength
from trainers.inner import State
from trainers.network import Network
from trainers.problem import Problem
from trainers.records import Checkpoint, Member, Point, Record, Result
from trainers.seeding import Stream

LARGEST_SEED = 2**63 - 1  # what a checkpoint and a table hold as an integer


@dataclass
class _State:
    """All that changes during a training of P members."""

    seeds: Tensor  # [P]; with the initial hyperparameters, what a checkpoint is known by
    initial: Tensor  # [P, H] in float64
    theta: Tensor  # [P, N]
    h: Tensor  # [P, H] in float64 whatever θ's type, so that fixed hyperparameters stay exactly as given
    inner: State
    outer: State
    hypergradient: Tensor  # [P, H], of the last outer step
    finite_h: Tensor  # [P, H], the latest recorded values that were finite
    diverged_at: Tensor  # [P], the step at which a non-finite loss was seen; 0 for none
    z: Tensor | None  # [P, H, N], the tangent of ``forward``
    z_state: State
    average: State  # of θ and z, over the steps at which the tangent is carried
    step: int = 0
    seconds: float = 0.0

    def checkpoint(self) -> Checkpoint:
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

    def _groups(self) -> tuple[tuple[str, State], ...]:
        return ("inner", self.inner), ("outer", self.outer), ("z_state", self.z_state), ("average", self.average)

    def restore(self, saved: Checkpoint) -> None:
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


def train(
    problem: Problem,
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Train P members side by side and yield what happens: points, checkpoints, and one result for each at the end.

    With ``online`` the hyperparameters move, one outer step after every ``config.outer.every`` inner steps past the
    warm-up; without, the same loop leaves them alone (the arms ``initial``, ``rerun`` and ``grid``). A member equals
    the same member trained alone; one whose loss is no longer finite ends as ``diverged`` and disturbs no other.

    ``resume`` goes on from a checkpoint of the same call: on a CPU the records that follow are those of the
    uninterrupted training bit for bit. Raises :class:`trainers.ConfigError` where a member's hyperparameters do not fit
    the configuration.
    """
    if not members:
        raise ConfigError("members = []: must be one or more")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ConfigError(f"checkpoint_every = {checkpoint_every!r}: must be at least 1")
    if resume is not None and not 0 <= resume.step <= config.inner.steps:
        raise ConfigError(f"checkpoint at step {resume.step}: must be at most inner.steps = {config.inner.steps}")
    seeds = tuple(member.seed for member in members)
    state = _start(problem, config, members, online)
    if resume is not None:
        state.restore(resume)
    t1 = Order(*problem.t1, seeds, Stream.T1_ORDER, config.inner.batch_size)
    t2 = Order(*problem.t2, seeds, Stream.T2_ORDER, config.outer.batch_size)
    noise = Noise(seeds, problem.network.noise_shapes, config.inner.batch_size, state.theta)
    if state.step == 0:
        yield from _points(problem, state, state.theta.new_full((len(members),), math.nan))
    while state.step < config.inner.steps and not bool((state.diverged_at > 0).all()):
        stop = min(config.inner.steps, (state.step // config.record_every + 1) * config.record_every)
        if checkpoint_every:
            stop = min(stop, (state.step // checkpoint_every + 1) * checkpoint_every)
        started = time.perf_counter()
        loss = _steps(problem, config, state, online, t1, t2, noise, seeds, stop)
        state.seconds += time.perf_counter() - started
        if state.step % config.record_every == 0 or state.step == config.inner.steps:
            yield from _points(problem, state, loss)
        if checkpoint_every and state.step % checkpoint_every == 0 and state.step < config.inner.steps:
            yield state.checkpoint()
    yield from _results(problem, state)


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {str(t.dtype)[6:]}{list(t.shape)}" for name, t in tensors.items())


def _values(problem: Problem, members: Sequence[Member]) -> Tensor:
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


def _start(problem: Problem, config: TrainConfig, members: Sequence[Member], online: bool) -> _State:
    like = problem.t1[0]
    values = _values(problem, members)  # before anything is drawn from the seeds
    theta = torch.stack([problem.network.initial(member.seed) for member in members]).to(like)
    h = values.to(like.device, copy=True)
    seeds = torch.tensor([member.seed for member in members])
    carries = online and config.outer.estimator == "forward"
    z = theta.new_zeros(len(members), h.shape[1], theta.shape[1]) if carries else None
    return _State(
        seeds,
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


@torch.no_grad()
def _steps(
    problem: Problem,
    config: TrainConfig,
    state: _State,
    online: bool,
    t1: Order,
    t2: Order,
    noise: Noise,
    seeds: tuple[int, ...],
    stop: int,
) -> Tensor:
    """Take the inner steps up to ``stop``, and the outer ones that fall among them; the loss of the last batch, [P]."""
    network, layout, theta = problem.network, problem.layout, state.theta
    h = state.h.to(theta)
    estimator = ESTIMATORS[config.outer.estimator]
    examples = config.outer.tangent_batch or config.inner.batch_size
    strength = penalty_strength(layout, h)
    trace = None
    while state.step < stop:
        x, y = t1.at(state.step)
        epsilon = noise.at(state.step)
        trace = network.linearise(theta, x, y, h, epsilon)
        g = network.gradient(trace).addcmul_(strength, theta)
        state.step += 1
        count = state.step
        rate = inner.learning_rate(config.inner, count)
        g_dot = None
        if state.z is not None and count % config.outer.tangent_every == 0:
            for fading in (state.z, *state.z_state.values()):
                fading.mul_(config.outer.memory**config.outer.tangent_every)
            carried, rows = trace, examples
            if config.outer.antithetic:
                carried, rows = _mirrored(network, theta, x, y, h, epsilon, examples), 2 * examples
            g_dot = network.tangent(theta, carried, state.z, rows).addcmul_(strength.unsqueeze(1), state.z)
            penalty_direction(layout, h, theta, g_dot)
        tunes = online and count > config.outer.warmup_steps and count % config.outer.every == 0
        before = theta.clone() if tunes else theta
        inner.step(config.inner, theta, g, state.inner, rate, count)
        if g_dot is not None and state.z is not None:
            inner.tangent(config.inner, state.z, g_dot, g, state.inner, state.z_state, rate, count)
            if state.average:
                j = config.outer.tangent_every
                weight = max(1 - config.outer.averaging**j, j / count)  # the plain mean at first
                state.average["theta"].lerp_(theta, weight)
                state.average["z"].lerp_(state.z, weight)
        if tunes:
            number = count // config.outer.every
            t2_x, t2_y = t2.at(number)
            sensitivity = inner.sensitivity(config.inner, g, state.inner, rate, count)
            state.hypergradient[:] = estimator(
                Step(
                    network,
                    layout,
                    config.outer,
                    h,
                    before,
                    theta,
                    trace,
                    strength,
                    sensitivity,
                    t2_x,
                    t2_y,
                    len(y[0]),
                    state.average.get("z", state.z),
                    state.average.get("theta", theta),
                    rate,
                    seeds,
                    count,
                )
            )
            taken = number - config.outer.warmup_steps // config.outer.every
            outer.step(
                config.outer,
                layout,
                config.hyperparameters.clamp,
                state.h,
                state.hypergradient,
                state.outer,
                taken,
                (count, config.inner.steps),
            )
            h = state.h.to(theta)
            strength = penalty_strength(layout, h)
    return network.loss(trace) if trace is not None else state.theta.new_full((len(seeds),), math.nan)


def _mirrored(
    network: Network, theta: Tensor, x: Tensor, y: Tensor, h: Tensor, noise: list[Tensor | None], examples: int
) -> Any:
    """The trace of the first examples twice, once with their noise and once with its mirror image."""
    part = slice(None, examples)
    mirrored = [None if e is None else torch.cat([e[:, part], -e[:, part]], dim=1) for e in noise]
    return network.linearise(theta, torch.cat([x[:, part]] * 2, dim=1), torch.cat([y[:, part]] * 2, dim=1), h, mirrored)


def _points(problem: Problem, state: _State, t1_loss: Tensor) -> Iterator[Point]:
    t2_loss, _ = problem.network.evaluate(state.theta, *problem.t2)
    ended = state.diverged_at > 0
    finite = (torch.isfinite(t2_loss) & (torch.isfinite(t1_loss) | (state.step == 0))).cpu()
    finite &= torch.isfinite(state.h).all(1).cpu()
    names = problem.layout.names
    state.diverged_at[~finite & ~ended] = max(state.step, 1)
    state.finite_h[finite.to(state.h.device)] = state.h[finite.to(state.h.device)]
    for member in range(len(t2_loss)):
        if not ended[member]:
            yield Point(
                member,
                state.step,
                dict(zip(names, state.h[member].tolist(), strict=True)),
                dict(zip(names, state.hypergradient[member].tolist(), strict=True)),
                float(t1_loss[member]),
                float(t2_loss[member]),
            )


def _results(problem: Problem, state: _State) -> Iterator[Result]:
    (t1_loss, _), (t2_loss, t2_error), (test_loss, test_error) = (
        problem.network.evaluate(state.theta, *part) for part in (problem.t1, problem.t2, problem.test)
    )
    names = problem.layout.names
    for member in range(len(state.seeds)):
        diverged = int(state.diverged_at[member])
        measured = torch.stack([t1_loss, t2_loss, t2_error, test_loss, test_error])[:, member].tolist()
        t1, t2, t2_wrong, test, test_wrong = [math.nan] * 5 if diverged else measured
        yield Result(
            member,
            "diverged" if diverged else "completed",
            diverged or state.step,
            dict(zip(names, state.initial[member].tolist(), strict=True)),
            dict(zip(names, state.finite_h[member].tolist(), strict=True)),
            t1,
            t2,
            t2_wrong,
            test,
            test_wrong,
            state.seconds / len(state.seeds),
        )
