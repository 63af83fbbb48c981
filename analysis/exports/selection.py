"""The runs of a study that are exported, one after the other, each with its recorded points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.frames import Boxes, hyperparameters, layers
from analysis.study import Study

Row = dict[str, Any]  # column -> value; None where it is null
# Columns of the runs table that name a run or say how it went. All others but the starts are its results.
_FACTS = ("run_id", "config_index", "arm", "replicate", "model", "dataset", "status", "seed", "attempt", "error")
_PLACE = ("model", "arm", "config_index", "replicate")  # columns that say which run of its study it is
_UNKNOWN = datetime.fromtimestamp(0, UTC)  # where no attempt says when a run was trained
# Columns of the trajectories that name the run.
_RUN_OF_POINT = ("run_id", *_PLACE, "step")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: its row of the runs table, its recorded points in the order of their steps, and when it was trained."""

    row: Row
    points: list[Row]
    started: datetime
    finished: datetime
    names: tuple[str, ...]  # of the study's hyperparameters

    @property
    def place(self) -> tuple[str, ...]:
        """What names the run within its study: model, arm, configuration and replicate."""
        return tuple(str(self.row[part]) for part in _PLACE)

    @property
    def name(self) -> str:
        """Its place, with ``/`` between the parts."""
        return "/".join(self.place)

    def starts(self) -> dict[str, float]:
        """The hyperparameters that the run started with, those that its model has."""
        found = {name: self.row[f"{name}_initial"] for name in self.names}
        return {name: value for name, value in found.items() if is_number(value)}

    def results(self) -> dict[str, float]:
        """What was so at the end, if finite: ``{hyperparameter}_final``, losses (nats), errors, steps, seconds."""
        return {name: float(self.row[name]) for name in result_columns(list(self.row)) if is_number(self.row[name])}

    def facts(self) -> dict[str, Any]:
        """What names the run and says how it went, where it is known."""
        return {name: self.row[name] for name in _FACTS if self.row.get(name) is not None}

    def scalars(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each recorded step with what is finite of it: hyperparameters, their hypergradients, losses (nats)."""
        for point in self.points:
            yield (
                point["step"],
                {name: value for name, value in point.items() if name not in _RUN_OF_POINT and is_number(value)},
            )


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def result_columns(columns: Sequence[str]) -> list[str]:
    """The columns of the runs table that hold what was so at the end of a run, hyperparameters among them."""
    return [name for name in columns if name not in _FACTS and not name.endswith("_initial")]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Runs of a study: ``frame`` holds the rows of ``study.runs`` that were chosen."""

    study: Study
    frame: pd.DataFrame

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of the hyperparameters, one for each layer where layers have their own."""
        return tuple(hyperparameters(self.frame))

    @cached_property
    def boxes(self) -> Boxes:
        """Column of a hyperparameter -> the box that it varies in, wide enough for every finite value of the runs.

        Trainings in float32 end a rounding error beyond a bound, and far beyond one where the study does not clamp. A
        hyperparameter that none of them has is left out.
        """
        found: Boxes = {}
        for name, columns in layers(self.names).items():
            for column in columns:
                values = self.frame[[f"{column}_initial", f"{column}_final"]].to_numpy(dtype=float)
                values = values[np.isfinite(values)]
                if values.size:
                    known = self.study.boxes.get(name, (math.inf, -math.inf))
                    found[column] = min(known[0], float(values.min())), max(known[1], float(values.max()))
        return found

    def about(self) -> dict[str, str]:
        """What says which study this is: its name, its hash, and the commit and the version of what trained it."""
        provenance = self.study.info.get("provenance") or {}
        known = {
            "study": self.study.name,
            "study_hash": self.study.study_hash,
            "git_commit": provenance.get("git_commit"),
            "t1t2_version": (provenance.get("versions") or {}).get("t1t2-study"),
        }
        return {name: str(value) for name, value in known.items() if value is not None}

    def table(self, name: str) -> Iterator[pa.RecordBatch]:
        """The rows of ``runs``, ``trajectories`` or ``attempts`` of the chosen runs, in batches."""
        return self.study.stream(name, list(self.frame["run_id"]))

    def runs(self) -> Iterator[Run]:
        """The chosen runs in their order; only a batch of each table is in memory at a time."""
        run_ids = list(self.frame["run_id"])
        points = _beside(run_ids, self._rows("trajectories"))
        attempts = _beside(run_ids, self._rows("attempts"))
        for row, of_run, tries in zip(self._rows("runs"), points, attempts, strict=True):
            last = [attempt for attempt in tries if attempt["attempt"] == row.get("attempt")]
            started, finished = (last[0].get(end) if last else None for end in ("started_at", "finished_at"))
            finished = finished or started or _UNKNOWN
            yield Run(row=row, points=of_run, started=started or finished, finished=finished, names=self.names)

    def _rows(self, table: str) -> Iterator[Row]:
        for batch in self.table(table):
            yield from batch.to_pylist()


def _beside(run_ids: Sequence[str], rows: Iterator[Row]) -> Iterator[list[Row]]:
    """For each of ``run_ids`` its rows, which come in the order of these; some may have none."""
    groups = groupby(rows, key=lambda row: row["run_id"])
    following = next(groups, None)
    for run_id in run_ids:
        if following is not None and following[0] == run_id:
            yield list(following[1])
            following = next(groups, None)
        else:
            yield []
