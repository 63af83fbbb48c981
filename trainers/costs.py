"""What the parts of a training cost on this machine, in fixed inner steps: the currency of equal compute."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from trainers.config import TrainConfig
from trainers.loop import train
from trainers.problem import Problem
from trainers.records import Member, Result

REPEATS = 7
LEAST_S = 0.1  # of one measurement, so that the clock and the first touch of memory do not count
MOST_STEPS = 400


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The costs of one training that is trained alone, without a pack.

    An *inner-step equivalent* is the time of one inner step with fixed hyperparameters.
    """

    step_s: float  # seconds of such a step
    online: float  # inner-step equivalents of an inner step of T1-T2: tangents and outer steps with their T2 gradients
    evaluation: float  # of one evaluation of the whole of T2

    def compute(self, steps: int, *, online: bool, evaluations: int = 0) -> float:
        """Inner-step equivalents of so many inner steps and evaluations of T2."""
        return steps * (self.online if online else 1.0) + evaluations * self.evaluation


def measure_costs(problem: Problem, config: TrainConfig, *, repeats: int = REPEATS) -> Costs:
    """Measure them side by side, the parts in turn, and take medians of ``repeats`` rounds.

    It takes about a second for a small network. Outer steps are measured from the first step on, whatever
    ``config.outer.warmup_steps`` says: a training with a warm-up costs a little less than that.
    """
    steps = _steps(problem, config)
    rounds = []
    for _ in range(repeats):
        fixed = _seconds_a_step(problem, config, steps, online=False)
        online = _seconds_a_step(problem, config, steps, online=True)
        rounds.append((fixed, online, _evaluation_s(problem)))
    fixed, online, evaluation = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Costs(step_s=fixed, online=online / fixed, evaluation=evaluation / fixed)


def _steps(problem: Problem, config: TrainConfig) -> int:
    """How many steps one measurement takes: whole rounds of inner steps, each with its outer step."""
    every = config.outer.every * config.outer.tangent_every  # a round in which every part has its turn
    once = _seconds_a_step(problem, config, min(every, MOST_STEPS), online=False)  # also warms up
    rounds = min(LEAST_S / once, MOST_STEPS) / every
    return max(1, round(rounds)) * every


def _seconds_a_step(problem: Problem, config: TrainConfig, steps: int, *, online: bool) -> float:
    short = replace(
        config,
        inner=replace(config.inner, steps=steps),
        outer=replace(config.outer, warmup_steps=0),
        record_every=steps,
    )
    middle = {
        name: (box.low + box.high) / 2 for name, box in zip(problem.layout.names, problem.layout.ranges, strict=True)
    }
    for record in train(problem, short, [Member(0, middle)], online=online):
        if isinstance(record, Result):
            return record.train_time_s / steps
    raise AssertionError("a training ends with its result")


def _evaluation_s(problem: Problem) -> float:
    theta = problem.network.initial(0).to(problem.t1[0]).unsqueeze(0)
    started = time.perf_counter()
    times = 0
    while times == 0 or time.perf_counter() - started < LEAST_S / 10:
        loss, _ = problem.network.evaluate(theta, *problem.t2)
        if loss.is_cuda:
            torch.cuda.synchronize(loss.device)
        times += 1
    return (time.perf_counter() - started) / times
