"""What a training costs: the arithmetic, and that what is measured is measured. No time is asserted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.trainers.problems import small_config, small_problem
from trainers.costs import Costs, measure_costs


def test_compute_adds_up() -> None:
    costs = Costs(step_s=1e-4, online=1.5, evaluation=8.0)
    assert costs.compute(100, online=False) == 100
    assert costs.compute(100, online=False, evaluations=2) == 116
    assert costs.compute(100, online=True, evaluations=2) == 166
    assert costs.compute(0, online=True) == 0


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
@pytest.mark.parametrize("every", [1, 7])
def test_every_part_has_a_cost(monkeypatch: pytest.MonkeyPatch, estimator: str, every: int) -> None:
    monkeypatch.setattr("trainers.costs.LEAST_S", 0.002)
    config = small_config(inner={"steps": 5}, outer={"estimator": estimator, "every": every, "warmup_steps": 4})
    costs = measure_costs(small_problem(config), config, repeats=3)
    for value in (costs.step_s, costs.online, costs.evaluation):
        assert math.isfinite(value)
        assert value > 0


def test_a_training_of_one_step_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.costs.LEAST_S", 0.0)
    config = replace(small_config(inner={"steps": 1}), record_every=1)
    assert measure_costs(small_problem(config), config, repeats=1).online > 0
