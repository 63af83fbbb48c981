"""From the trials of a search to the rows of the three tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.executors.received import plain_text
from service.imports.names import Named, Names
from service.imports.trials import Source, Trial
from service.ledger.shards import Row
from service.spec.study_spec import digest

ARM = "imported"
LOSSES = ("t1_loss", "t2_loss")  # where one of them is not finite at the end, a training has diverged


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The rows of the tables, in their order."""

    runs: list[Row]
    trajectories: list[Row]
    attempts: list[Row]


def make_rows(source: Source, names: Names, *, model: str, dataset: str) -> Tables:
    """The rows of the trials of ``source``.

    A trial is a run of the arm ``imported``: neither drawn at random as those of ``initial`` are, nor on a grid. Its
    number, by its start, is the run's ``config_index``. Its id is a hash of the search's name and its own id.
    """
    tables = Tables(runs=[], trajectories=[], attempts=[])
    for number, trial in enumerate(source.trials):
        place = {
            "run_id": digest([source.kind, source.name, trial.id])[:20],
            "model": model,
            "arm": ARM,
            "config_index": number,
            "replicate": 0,
        }
        status = _status(trial, names)
        tables.runs.append(place | _run(trial, names, status) | {"dataset": dataset})
        tables.trajectories.extend(place | point for point in _points(trial, names))
        tables.attempts.append(_attempt(trial, status) | {"run_id": place["run_id"]})
    return tables


def _status(trial: Trial, names: Names) -> str:
    """How the trial ended. One whose last loss is not finite has diverged, whatever became of it then."""
    values = [each.value(trial.metrics) for each in names.metrics if each.column in LOSSES]
    return "diverged" if any(value is not None and not math.isfinite(value) for value in values) else trial.end


def _run(trial: Trial, names: Names, status: str) -> Row:
    row: Row = {"status": status, "attempt": 1, "train_time_s": trial.seconds}
    for each in names.hyperparameters:
        row[f"{each.column}_initial"] = _finite(each.value(trial.initial))
        row[f"{each.column}_final"] = _finite(each.value(trial.final))
    if status == "failed":
        return row | {"error": plain_text(trial.error or "")}
    results = {each.column: _finite(each.value(trial.metrics)) for each in names.metrics}
    return row | results | {"steps": trial.reports[-1].step if trial.reports else None}


def _points(trial: Trial, names: Names) -> Iterable[Row]:
    losses = [each for each in names.metrics if each.column in LOSSES]
    for report in trial.reports:
        values = {each.column: each.value(report.metrics) for each in losses}
        held = {each.column: _finite(each.value(report.parameters)) for each in names.hyperparameters}
        yield {"step": report.step, **held, **values}


def _attempt(trial: Trial, status: str) -> Row:
    return {
        "attempt": 1,
        "outcome": status,
        "node_ip": None if trial.node_ip is None else plain_text(trial.node_ip),
        "pid": trial.pid,
        "started_at": _time(trial.started_at),
        "finished_at": _time(trial.finished_at),
        "error": plain_text(trial.error or "") if status == "failed" else None,
    }


def without_value(source: Source, names: Names) -> dict[str, int]:
    """How many trials have no number for a hyperparameter, by what the search calls it; those of all trials alone."""
    named = [each for each in names.hyperparameters if isinstance(each, Named)]
    counts = {each.name: sum(_finite(each.value(trial.final)) is None for trial in source.trials) for each in named}
    return {name: count for name, count in counts.items() if count}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
