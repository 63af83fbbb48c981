"""A small study for Ray Tune's trials: ten points of 20 steps in float64."""

from __future__ import annotations

from typing import Any

from service import StudySpec
from trainers.costs import Costs

COSTS = Costs(step_s=1e-4, online=1.5, evaluation=4.0)
STEPS, EVERY, CONFIGURATIONS = 200, 20, 4


def small_study(**changes: Any) -> StudySpec:
    values: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "configurations": CONFIGURATIONS,
        "arms": ["initial", "online"],
        "data": {"name": "digits", "t1_size": 200, "t2_size": 100, "test_size": 100},
        "models": [{"hidden": [8]}],
        "inner": {"steps": STEPS, "batch_size": 50},
        "outer": {"batch_size": 50},
        "record_every": EVERY,
        "dtype": "float64",
        "execution": {"actors": 1},
    }
    return StudySpec.from_dict(values | changes)
