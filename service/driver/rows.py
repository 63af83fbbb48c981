"""From what has become of a task to the rows of the three tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.executors.base import Finished, Lost, Outcome, Task
from service.executors.received import plain_text
from service.ledger.shards import Row
from service.spec.plan import Plan, PlannedRun

if TYPE_CHECKING:
    from trainers.records import Result

OF_THE_PACK = ("member", "initial", "final")  # fields of a result that are no columns


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
        owners = [task.runs[member] for member in columns.get("member", ())]
        rows: dict[str, list[Any]] = {
            "run_id": [owner.run_id for owner in owners],
            "model": [plan.labels[task.pack.model]] * len(owners),
            "arm": [task.pack.arm.name] * len(owners),
            "config_index": [owner.config_index for owner in owners],
            "replicate": [owner.replicate for owner in owners],
            **{name: values for name, values in columns.items() if name != "member"},
        }
        before = len(self.points.get("run_id", ()))
        for name in {*rows, *self.points}:  # a model without a hyperparameter leaves its column empty
            self.points.setdefault(name, [None] * before).extend(rows.get(name, [None] * len(owners)))


def result_row(plan: Plan, task: Task, run: PlannedRun, result: Result) -> Row:
    """The row of a run that gave a result. A value that is not finite is null."""
    row = _row(plan, task, run, result.status)
    row |= {f"{name}_final": value for name, value in result.final.items()}
    return row | {f.name: _finite(getattr(result, f.name)) for f in fields(result) if f.name not in OF_THE_PACK}


def failed_row(plan: Plan, task: Task, run: PlannedRun, error: str) -> Row:
    """The row of a run that was given up."""
    return _row(plan, task, run, "failed") | {"error": plain_text(error)}


def attempt_row(outcome: Outcome, run: PlannedRun, word: str) -> Row:
    """The row of one execution of a run, which ended as ``word``."""
    place = outcome.place
    return {
        "run_id": run.run_id,
        "attempt": outcome.task.attempt,
        "outcome": word,
        "node_id": place.node_id or None,
        "node_ip": place.node_ip or None,
        "device": place.device or None,
        "pid": place.pid or None,
        "started_at": None if isinstance(outcome, Lost) else _time(outcome.started_at),
        "finished_at": _time(outcome.finished_at),
        "error": None if isinstance(outcome, Finished) else plain_text(outcome.error),
    }


def _row(plan: Plan, task: Task, run: PlannedRun, status: str) -> Row:
    return {
        "run_id": run.run_id,
        "config_index": run.config_index,
        "arm": task.pack.arm.name,
        "replicate": run.replicate,
        "model": plan.labels[task.pack.model],
        "dataset": plan.spec.data.name,
        "status": status,
        "seed": run.seed,
        "attempt": task.attempt,
        **{f"{name}_initial": value for name, value in run.initial.items()},
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
