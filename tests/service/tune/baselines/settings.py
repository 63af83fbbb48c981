"""A problem so small that a search takes a second, and costs that are given and not measured."""

from __future__ import annotations

from typing import Any

import pytest

from service import StudySpec
from service.tune.baselines import run
from trainers.config import TrainConfig
from trainers.costs import Costs
from trainers.problem import Problem

STEPS = 200
COSTS = Costs(step_s=1e-4, online=1.5, evaluation=4.0)
ONE_STEP_COST = 1.25
FIXED = STEPS + COSTS.evaluation  # inner-step equivalents of a fixed training


def small_spec(**changes: Any) -> StudySpec:
    values: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "data": {"name": "digits", "t1_size": 200, "t2_size": 100, "test_size": 100},
        "models": [{"hidden": [8]}],
        "inner": {"steps": STEPS, "batch_size": 50},
        "outer": {"batch_size": 50},
    }
    return StudySpec.from_dict(values | changes)


def give_costs(patch: pytest.MonkeyPatch) -> None:
    """Let :func:`run_baselines` find these costs, whatever the machine does."""

    def given(problem: Problem, config: TrainConfig) -> Costs:
        online = ONE_STEP_COST if config.outer.estimator == "t1t2" else COSTS.online
        return Costs(step_s=COSTS.step_s, online=online, evaluation=COSTS.evaluation)

    patch.setattr(run, "measure_costs", given)
