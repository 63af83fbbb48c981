"""T1-T2: training that tunes its continuous hyperparameters while it runs. See ``trainers/README.md``.

The names below are loaded when first used, so that reading a configuration does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "trainers.config": ("ConfigError", "TrainConfig"),
    "trainers.costs": ("Costs", "measure_costs"),
    "trainers.loop": ("train",),
    "trainers.problem": ("Problem", "boxes", "load_problem"),
    "trainers.records": ("Checkpoint", "Member", "Point", "Result"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)

if TYPE_CHECKING:  # the same for type checkers, which then know every name and refuse all others
    from trainers.config import ConfigError as ConfigError
    from trainers.config import TrainConfig as TrainConfig
    from trainers.costs import Costs as Costs
    from trainers.costs import measure_costs as measure_costs
    from trainers.loop import train as train
    from trainers.problem import Problem as Problem
    from trainers.problem import boxes as boxes
    from trainers.problem import load_problem as load_problem
    from trainers.records import Checkpoint as Checkpoint
    from trainers.records import Member as Member
    from trainers.records import Point as Point
    from trainers.records import Result as Result
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'trainers' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)
