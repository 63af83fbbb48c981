"""The training loop: k inner steps on T1, then an outer step on T2; without outer steps it is plain training."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainers import memory
from trainers.batches import Noise, Order
from trainers.config import ConfigError, TrainConfig
from trainers.hypergradients.base import ESTIMATORS, Step
from trainers.hyperparameters import Layout, penalty_direction, penalty_strength, penalty_strengths
from trainers.networks.base import Descent
from trainers.optimisers import inner, outer
from trainers.problem import Problem
from trainers.records import Checkpoint, Member, Point, Record, Result
from trainers.seeding import Stream
from trainers.state import State, start


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
    uninterrupted training bit for bit. Raises :class:`trainers.ConfigError` where a member's seed or hyperparameters do
    not fit, and before anything is trained where the pack does not fit the memory.
    """
    if not members:
        raise ConfigError("members = []: must be one or more")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ConfigError(f"checkpoint_every = {checkpoint_every!r}: must be at least 1")
    if resume is not None and not 0 <= resume.step <= config.inner.steps:
        raise ConfigError(f"checkpoint at step {resume.step}: must be at most inner.steps = {config.inner.steps}")
    memory.check(problem, config, len(members), online)
    seeds = tuple(member.seed for member in members)
    state = start(problem, config, members, online)
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
        if loss.is_cuda:
            torch.cuda.synchronize(loss.device)  # a GPU is still at work when its last launch returns
        state.seconds += time.perf_counter() - started
        if state.step % config.record_every == 0 or state.step == config.inner.steps:
            yield from _points(problem, state, loss)
        if checkpoint_every and state.step % checkpoint_every == 0 and state.step < config.inner.steps:
            yield state.checkpoint()
    yield from _results(problem, state)


@torch.no_grad()
def _steps(
    problem: Problem,
    config: TrainConfig,
    state: State,
    online: bool,
    t1: Order,
    t2: Order,
    noise: Noise,
    seeds: tuple[int, ...],
    stop: int,
) -> Tensor:
    """Take the inner steps up to ``stop``, and the outer ones that fall among them; the loss of the last batch, [P]."""
    network, layout, theta = problem.network, problem.layout, state.theta
    estimator, sgd = ESTIMATORS[config.outer.estimator], config.inner.optimiser == "sgd"
    examples = min(config.outer.tangent_batch or config.inner.batch_size, config.inner.batch_size)
    boxes = outer.boxes(layout, config.hyperparameters.clamp, state.h)
    h, slopes, strengths, strength = _values(layout, boxes, state.h, theta)
    trace = None
    while state.step < stop:
        x, y = t1.at(state.step)
        epsilon = noise.at(state.step)
        trace = network.linearise(theta, x, y, h, epsilon)
        state.step += 1
        count = state.step
        rate = inner.learning_rate(config.inner, count)
        g, z_dot = theta.new_empty(0), None  # SGD forms neither
        carries = state.z is not None and count % config.outer.tangent_every == 0
        if carries and state.z is not None:
            fade = config.outer.memory**config.outer.tangent_every
            carried, rows = trace, examples
            if config.outer.antithetic:
                few = [None if e is None else e[:, :examples] for e in epsilon]
                raised = outer.raised(boxes, state.h).to(theta)
                carried = network.linearise(theta, x[:, :examples], y[:, :examples], raised, few, mirrored=True)
                rows = 2 * examples
            if sgd:
                network.sgd_step_tangent(carried, state.z, rows, slopes, strengths, fade, rate)
                penalty_direction(layout, strengths, theta, state.z, -rate)
            else:
                for fading in (state.z, *state.z_state.values()):
                    fading.mul_(fade)
                z_dot = network.tangent(carried, state.z, rows, slopes)
                z_dot.addcmul_(strength.unsqueeze(1), state.z)
                penalty_direction(layout, strengths, theta, z_dot)
        tunes = online and count > config.outer.warmup_steps and count % config.outer.every == 0
        before = theta
        if tunes:  # the trace's θ stays as it is
            theta = state.theta = torch.empty_like(theta) if sgd else theta.clone()
        if sgd:
            network.sgd_step(before, trace, strength, rate, out=theta)
        else:
            g = network.gradient(trace).addcmul_(strength, before)
            inner.step(config.inner, theta, g, state.inner, rate, count)
        if z_dot is not None and state.z is not None:
            inner.tangent(config.inner, state.z, z_dot, g, state.inner, state.z_state, rate, count)
        if carries and state.z is not None and state.average:
            j = config.outer.tangent_every
            weight = max(1 - config.outer.averaging**j, j / count)  # the plain mean at first
            state.average["theta"].lerp_(theta, weight)
            state.average["z"].lerp_(state.z, weight)
        if tunes:
            number = count // config.outer.every
            taken = number - config.outer.warmup_steps // config.outer.every
            t2_x, t2_y = t2.at(number)
            sensitivity = inner.sensitivity(config.inner, g, state.inner, rate, count)
            descent = None
            if sgd and taken > 1 and _undoable(config, layout, rate):
                descent = Descent(trace, 1 - rate * strengths, rate)
            state.hypergradient[:] = estimator(
                Step(
                    network,
                    layout,
                    config.outer,
                    h,
                    strengths,
                    before,
                    theta,
                    trace,
                    strength,
                    descent,
                    sensitivity,
                    t2_x,
                    t2_y,
                    len(y[0]),
                    state.average.get("z", state.z),
                    slopes,
                    state.average.get("theta", theta),
                    rate,
                    seeds,
                    count,
                )
            )
            progress = (count, config.inner.steps)
            outer.step(config.outer, boxes, state.h, state.hypergradient, state.outer, taken, progress)
            h, slopes, strengths, strength = _values(layout, boxes, state.h, theta)
    return network.loss(trace) if trace is not None else state.theta.new_full((len(seeds),), math.nan)


def _values(layout: Layout, boxes: outer.Boxes, h: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h [P, H] in θ's type, dh/dc [P, H], and 10^λ by parameter tensor [P, K] and by entry of θ."""
    values = h.to(like)
    strengths = penalty_strengths(layout, values)
    return values, outer.slopes(boxes, h).to(like), strengths, penalty_strength(layout, strengths)


def _undoable(config: TrainConfig, layout: Layout, rate: float) -> bool:
    """θ follows from θ' = (1 - η 10^λ) θ - η ∇C to nearly all digits, whatever λ the outer steps may have led to.

    A bound from the boxes, not from the values: those of one member must not decide how another is computed. Before the
    first outer step the values may lie outside.
    """
    highest = max((layout.ranges[column].high for column in layout.l2_columns), default=-math.inf)
    return config.hyperparameters.clamp and rate * 10**highest <= 0.5


def _points(problem: Problem, state: State, t1_loss: Tensor) -> Iterator[Point]:
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


def _results(problem: Problem, state: State) -> Iterator[Result]:
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
