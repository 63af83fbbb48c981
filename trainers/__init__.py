"""T1-T2: training that tunes its continuous hyperparameters while it runs. See ``trainers/README.md``.

The names below are loaded when first used, so that reading a configuration does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.config import ConfigError, TrainConfig
    from trainers.loop import train
    from trainers.problem import Problem, boxes, load_problem
    from trainers.records import Checkpoint, Member, Point, Result

_HOMES = {
    "ConfigError": "trainers.config",
    "TrainConfig": "trainers.config",
    "Problem": "trainers.problem",
    "boxes": "trainers.problem",
    "load_problem": "trainers.problem",
    "Checkpoint": "trainers.records",
    "Member": "trainers.records",
    "Point": "trainers.records",
    "Result": "trainers.records",
    "train": "trainers.loop",
}

__all__ = [
    "Checkpoint",
    "ConfigError",
    "Member",
    "Point",
    "Problem",
    "Result",
    "TrainConfig",
    "boxes",
    "load_problem",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainers' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
