"""What the README says about adding an estimator is all it takes: its class, and its name in the table."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import TUNED, after, bits, checkpoints, points, results, run
from tests.trainers.test_readme import EXAMPLES
from trainers import Member
from trainers.checkpoint import dumps, loads
from trainers.config import EstimatorName
from trainers.hypergradients import ESTIMATORS
from trainers.hypergradients.base import Estimator, Move, Step, T2Batch, Task
from trainers.hypergradients.one_step import negative_mixed_vjp
from trainers.memory import member_bytes

MEMBERS = [Member(1, TUNED), Member(2, {"log10_l2": -5.0, "input_noise_std": 0.7})]
NAME: EstimatorName = "t1t2_at_theta"  # the settings know this name; the table gives it another class here


class AverageGradient(Estimator):
    """The hypergradient of one step, with a running mean of the T2 gradients in the place of v."""

    def __init__(self, task: Task, *, seeds: tuple[int, ...], theta: Tensor, h: Tensor) -> None:
        super().__init__(task, seeds=seeds, theta=theta, h=h)
        self.mean = torch.zeros_like(theta)
        self.steps = torch.zeros(len(theta), dtype=torch.float64)

    @classmethod
    def memory(cls, task: Task) -> int:
        return task.network.size + 1

    def tensors(self) -> dict[str, Tensor]:
        return {"mean_gradient": self.mean, "counted": self.steps}

    def after_step(self, step: Step, move: Move) -> None:
        self.steps += 1

    def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
        network = self.task.network
        self.mean.lerp_(network.gradient(network.linearise(move.theta, t2.x, t2.y)), 0.5)
        return negative_mixed_vjp(self.task, step, network.direction(step.rate * self.mean))


def test_an_estimator_that_carries_something_trains_and_goes_on_from_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_config(inner={"steps": 12}, outer={"estimator": NAME, "every": 3})
    problem = small_problem(config)
    published = run(problem, config, MEMBERS)
    monkeypatch.setitem(ESTIMATORS, NAME, AverageGradient)

    whole = run(problem, config, MEMBERS, checkpoint_every=5)
    assert all(result.final != result.initial for result in results(whole))
    assert points(whole)[-1].hypergradient != points(published)[-1].hypergradient
    for saved in checkpoints(whole):
        assert saved.tensors["counted"].tolist() == [saved.step] * 2
        assert saved.tensors["mean_gradient"].shape == (2, problem.network.size)
        rest = run(problem, config, MEMBERS, checkpoint_every=5, resume=loads(dumps(saved)))
        assert bits(rest) == bits(after(whole, saved.step))


def test_what_it_says_it_keeps_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(outer={"estimator": NAME})
    problem = small_problem(config)
    before = member_bytes(problem, config, online=True)
    monkeypatch.setitem(ESTIMATORS, NAME, AverageGradient)
    assert member_bytes(problem, config, online=True) == before + 8 * (problem.network.size + 1)


def test_the_one_of_the_readme_works(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [example for example in EXAMPLES if re.search(r"\(Estimator\):", example)]
    namespace: dict[str, Any] = {}
    exec(compile(code, "trainers/README.md", "exec"), namespace)
    config = small_config(inner={"steps": 4}, outer={"estimator": NAME})
    problem = small_problem(config)
    monkeypatch.setitem(ESTIMATORS, NAME, namespace["Still"])

    assert all(result.final == result.initial for result in results(run(problem, config, MEMBERS)))
