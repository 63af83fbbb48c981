"""From the outcome of a task to the rows of the three tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.executors.base import Outcome, Task
from service.spec.plan import Member, Plan

if TYPE_CHECKING:
    from trainers.records import Result

Row = dict[str, Any]


@dataclass
class Batch:
    """Rows that wait for their commit."""

    runs: list[Row] = field(default_factory=list)
    points: dict[str, list[Any]] = field(default_factory=dict)
    attempts: list[Row] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)  # checkpoints that the commit makes useless

    @property
    def size(self) -> int:
        """Rows in all."""
        return len(self.runs) + len(self.points.get("run_id", ())) + len(self.attempts)

    def add_points(self, plan: Plan, task: Task, columns: dict[str, list[Any]]) -> None:
        """Append a pack's points, told apart by run."""
        owners = [task.members[member] for member in columns.get("member", ())]
        rows: dict[str, list[Any]] = {
            "run_id": [owner.run_id for owner in owners],
            "model": [plan.labels[task.pack.model]] * len(owners),
            "arm": [task.pack.arm] * len(owners),
            "config_index": [owner.config_index for owner in owners],
            "replicate": [owner.replicate for owner in owners],
            **{name: values for name, values in columns.items() if name != "member"},
        }
        before = len(self.points.get("run_id", ()))
        for name in {*rows, *self.points}:  # a model without a hyperparameter leaves its column empty
            self.points.setdefault(name, [None] * before).extend(rows.get(name, [None] * len(owners)))


def run_row(plan: Plan, task: Task, member: Member, result: Result | None, error: str | None = None) -> Row:
    """The row of a run; without a ``result`` it has failed with ``error``."""
    row: Row = {
        "run_id": member.run_id,
        "config_index": member.config_index,
        "arm": task.pack.arm,
        "replicate": member.replicate,
        "model": plan.labels[task.pack.model],
        "dataset": plan.spec.data.name,
        "status": result.status if result else "failed",
        "seed": member.seed,
        "attempt": task.attempt,
        "error": error,
        **{f"{name}_initial": value for name, value in member.initial.items()},
    }
    if result is not None:
        row |= {f"{name}_final": value for name, value in result.final.items()}
        row |= {
            name: _finite(getattr(result, name))
            for name in ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
        }
        row |= {"steps": result.steps, "train_time_s": result.train_time_s}
    return row


def attempt_row(outcome: Outcome, member: Member, word: str) -> Row:
    """The row of one execution of a run, which ended as ``word``."""
    place, started = outcome.place, outcome.started_at
    return {
        "run_id": member.run_id,
        "attempt": outcome.task.attempt,
        "outcome": word,
        "node_id": place.node_id or None,
        "node_ip": place.node_ip or None,
        "device": place.device or None,
        "pid": place.pid or None,
        "started_at": None if started is None else _time(started),
        "finished_at": _time(outcome.finished_at),
        "error": outcome.error,
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
