"""The training loop: k inner steps on T1, then an outer step on T2; without outer steps it is plain training."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainers import memory
from trainers.batches import Order
from trainers.config import ConfigError, TrainConfig
from trainers.hypergradients.base import Estimator, Move, Step, T2Batch, Values
from trainers.hyperparameters import penalty_strength, penalty_strengths
from trainers.noise import Noise
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
    branch_from: Checkpoint | None = None,
) -> Iterator[Record]:
    """Train P members side by side and yield what happens: points, checkpoints, and one result for each at the end.

    With ``online`` the hyperparameters move, one outer step after every ``config.outer.every`` inner steps past the
    warm-up; without, the same loop leaves them alone (the arms ``initial``, ``rerun`` and ``grid``). A member equals
    the same member trained alone; one whose loss is no longer finite ends as ``diverged`` and disturbs no other.

    ``resume`` goes on from a checkpoint of the same call: on a CPU the records that follow are those of the
    uninterrupted training bit for bit. ``branch_from`` is a checkpoint of *other* members, of as many of the same
    configuration and arm. It gives these members the weights of those, the state of both optimisers, the tangents and
    the step. The hyperparameters stay their own, and from there on they draw batches and noise by their own seeds. That
    is the exploit of population based training (Jaderberg et al., 2017).

    Raises :class:`trainers.ConfigError` where a member's seed or hyperparameters do not fit, and before anything is
    trained where the pack does not fit the memory.
    """
    if not members:
        raise ConfigError("members = []: must be one or more")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ConfigError(f"checkpoint_every = {checkpoint_every!r}: must be at least 1")
    if resume is not None and branch_from is not None:
        raise ConfigError("resume and branch_from are both given: a training goes on from one checkpoint")
    begin = branch_from if resume is None else resume
    if begin is not None and not 0 <= begin.step <= config.inner.steps:
        raise ConfigError(f"checkpoint at step {begin.step}: must be at most inner.steps = {config.inner.steps}")
    memory.check(problem, config, len(members), online)
    state = start(problem, config, members, online)
    if resume is not None:
        state.restore(resume)
    elif branch_from is not None:
        state.branch(branch_from)
    training = _Training(problem, config, state)
    if state.step == 0:
        yield from _points(problem, state, state.theta.new_full((len(members),), math.nan))
    while state.step < config.inner.steps and not bool((state.diverged_at > 0).all()):
        stop = min(config.inner.steps, (state.step // config.record_every + 1) * config.record_every)
        if checkpoint_every:
            stop = min(stop, (state.step // checkpoint_every + 1) * checkpoint_every)
        started = time.perf_counter()
        loss = training.advance(stop)
        if loss.is_cuda:
            torch.cuda.synchronize(loss.device)  # a GPU is still at work when its last launch returns
        state.seconds += time.perf_counter() - started
        if state.step % config.record_every == 0 or state.step == config.inner.steps:
            yield from _points(problem, state, loss)
        if checkpoint_every and state.step % checkpoint_every == 0 and state.step < config.inner.steps:
            yield state.checkpoint()
    yield from _results(problem, state)


class _Training:
    """The steps of one training: what they draw on, and the state that they change."""

    def __init__(self, problem: Problem, config: TrainConfig, state: State) -> None:
        self.problem, self.config, self.state = problem, config, state
        seeds: list[int] = state.seeds.tolist()
        self.t1 = Order(*problem.t1, seeds, Stream.T1_ORDER, config.inner.batch_size)
        self.t2 = Order(*problem.t2, seeds, Stream.T2_ORDER, config.outer.batch_size)
        self.noise = Noise(seeds, problem.network.noise_shapes, config.inner.batch_size, state.theta)
        self.boxes = outer.boxes(problem.layout, config.hyperparameters.clamp, state.h)
        self.values = self._values()
        self.trace: Any = None  # of the latest T1 batch

    @torch.no_grad()
    def advance(self, stop: int) -> Tensor:
        """Take the steps up to ``stop``, of which there is one at least; the loss of the last batch, [P]."""
        for _ in range(self.state.step, stop):
            self.trace = None  # its memory serves the next one, while it is in the processor's cache
            self.trace = self._step()
        return self.problem.network.loss(self.trace)

    def _step(self) -> Any:
        """Take an inner step, and the outer step where it is due. Returns the trace of the T1 batch."""
        state, options = self.state, self.config.outer
        x, y = self.t1.at(state.step)
        noise = self.noise.at(state.step)
        overwrite = not self.t1.is_whole
        trace = self.problem.network.linearise(state.theta, x, y, self.values.h, noise, overwrite=overwrite)
        state.step += 1
        rate = inner.learning_rate(self.config.inner, state.step)
        estimator = state.estimator
        if estimator is None:
            self._inner_step(trace, rate, keep_theta=False)
            return trace
        due = state.step > options.warmup_steps and state.step % options.every == 0
        step = Step(
            number=state.step,
            rate=rate,
            values=self.values,
            theta=state.theta,
            inputs=partial(self.t1.first, state.step - 1),
            y=y,
            noise=noise,
            trace=trace,
        )
        estimator.before_step(step)
        gradient = self._inner_step(trace, rate, keep_theta=due and estimator.looks_back)
        move = Move(theta=state.theta, gradient=gradient, optimiser=state.inner)
        estimator.after_step(step, move)
        if due:
            self._outer_step(estimator, step, move)
        return trace

    def _inner_step(self, trace: Any, rate: float, *, keep_theta: bool) -> Tensor | None:
        """Move θ: in place, or ``keep_theta`` for an outer step that needs it, and its trace, as it was before.

        Returns the gradient [P, N]; None for SGD, which does not form it.
        """
        network, state, sgd = self.problem.network, self.state, self.config.inner.optimiser == "sgd"
        theta, strength = state.theta, self.values.strength
        if keep_theta:
            state.theta = torch.empty_like(theta) if sgd else theta.clone()
        if sgd:
            network.sgd_step(theta, trace, strength, rate, out=state.theta)
            return None
        g = network.gradient(trace).addcmul_(strength, theta)
        inner.step(self.config.inner, state.theta, g, state.inner, rate=rate, count=state.step)
        return g

    def _outer_step(self, estimator: Estimator, step: Step, move: Move) -> None:
        """Move the hyperparameters, after an inner step."""
        options, state = self.config.outer, self.state
        batch = step.number // options.every  # also counts the outer steps that the warm-up left out
        count = batch - options.warmup_steps // options.every
        x, y = self.t2.at(batch)
        state.hypergradient[:] = estimator.hypergradient(step, move, T2Batch(number=count, x=x, y=y))
        progress = step.number, self.config.inner.steps
        outer.step(options, self.boxes, state.h, state.hypergradient, state.outer, count=count, progress=progress)
        self.values = self._values()

    def _values(self) -> Values:
        """Those of the state's h; they hold until the next outer step."""
        exact, layout = self.state.h, self.problem.layout
        h = exact.to(self.state.theta)
        strengths = penalty_strengths(layout, h)
        return Values(
            exact=exact,
            h=h,
            slopes=outer.slopes(self.boxes, exact).to(h),
            strengths=strengths,
            strength=penalty_strength(layout, strengths),
        )


def _points(problem: Problem, state: State, t1_loss: Tensor) -> Iterator[Point]:
    """A point for each member that has not ended; those whose loss or values are no longer finite end here."""
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
                member=member,
                step=state.step,
                hyperparameters=dict(zip(names, state.h[member].tolist(), strict=True)),
                hypergradient=dict(zip(names, state.hypergradient[member].tolist(), strict=True)),
                t1_loss=float(t1_loss[member]),
                t2_loss=float(t2_loss[member]),
            )


def _results(problem: Problem, state: State) -> Iterator[Result]:
    """The end of each member, in the order of the pack; NaN for the losses of one that diverged."""
    (t1_loss, _), (t2_loss, t2_error), (test_loss, test_error) = (
        problem.network.evaluate(state.theta, *part) for part in (problem.t1, problem.t2, problem.test)
    )
    names = problem.layout.names
    measured = {
        "t1_loss": t1_loss, "t2_loss": t2_loss, "t2_error": t2_error, "test_loss": test_loss, "test_error": test_error,
    }  # fmt: skip
    rows = torch.stack(list(measured.values()), dim=1).tolist()
    for member, row in enumerate(rows):
        diverged = int(state.diverged_at[member])
        yield Result(
            member=member,
            status="diverged" if diverged else "completed",
            steps=diverged or state.step,
            initial=dict(zip(names, state.initial[member].tolist(), strict=True)),
            final=dict(zip(names, state.finite_h[member].tolist(), strict=True)),
            train_time_s=state.seconds / len(rows),
            **dict(zip(measured, [math.nan] * len(row) if diverged else row, strict=True)),
        )
