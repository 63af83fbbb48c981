"""A study as the report sees it: its statistics, and a sample of its trajectories that is small enough for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import frames
from analysis.frames import NotComputable, missing_arms, thinned
from analysis.statistics.region import Region
from analysis.statistics.summary import Summary
from analysis.study import Study

Drawn = tuple[Figure, str]  # a picture and its caption
MOST_DRAWN = 120  # runs drawn in one static panel
MOST_RUNS = 240  # online runs of a model whose trajectories are drawn; starts and ends are sampled alike
MOST_POINTS = 40  # points of a trajectory that are drawn
MOST_NUMBERS = 6  # of a distribution that a caption names


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study with its statistics; per-layer hyperparameters are tied (their mean), as the regions are."""

    study: Study
    summary: Summary
    most_runs: int = MOST_RUNS
    beside: tuple[Study, ...] = ()  # other studies, to be laid over this one's region

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs table with tied hyperparameters."""
        return frames.tie_layers(self.study.runs)

    @property
    def regions(self) -> dict[str, Region | NotComputable]:
        """Model -> its optimal region by T2 loss."""
        return {model: found.decisive for model, found in self.summary.models.items()}

    @cached_property
    def found(self) -> dict[str, Region]:
        """The regions that could be computed."""
        return {m: r for m, r in self.regions.items() if isinstance(r, Region)}

    @cached_property
    def starts(self) -> str:
        """A sentence on the starts that the spec does not draw uniformly from the box; empty where there are none."""
        tables = frames.tables_of_hyperparameters(self.study.spec)
        laws = {name: table["start"] for name, table in tables.items() if isinstance(table.get("start"), Mapping)}
        words = [f"{name} by {law} {_numbers(values)}" for name, start in laws.items() for law, values in start.items()]
        return f" Not all starts are uniform over the box: the study draws {', '.join(words)}." if words else ""

    def models_with(self, *arms: str) -> list[str] | NotComputable:
        """The models that have a completed run in every one of ``arms``."""
        models = [m for m in self.study.models if missing_arms(self.study.runs, *arms, model=m) is None]
        return (
            models
            or missing_arms(self.study.runs, *arms)
            or NotComputable(f"no model has completed runs in all of the arms {', '.join(arms)}")
        )

    def online(self, model: str) -> pd.DataFrame:
        """The online runs of ``model`` that have an end, tied: at most ``most_runs``, evenly spaced over the plan."""
        return thinned(self.all_online(model), self.most_runs)

    def all_online(self, model: str) -> pd.DataFrame:
        """Every online run of ``model`` that did not fail."""
        runs = self.runs
        return runs[(runs["model"] == model) & (runs["arm"] == "online") & (runs["status"] != "failed")]

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """run_id, step, each tied hyperparameter, t2_loss of the runs of :meth:`online`, at most 40 points each."""
        ids = pd.concat([self.online(m)["run_id"] for m in self.study.models]) if self.study.models else pd.Series([])
        columns = frames.layers(frames.hyperparameters(self.study.runs))
        empty = pd.DataFrame(columns=["run_id", "step", *columns, "t2_loss"])
        known = set(self.study.sql("SELECT * FROM trajectories LIMIT 0").columns)
        if ids.empty or not {c for group in columns.values() for c in group} <= known:
            return empty
        wanted = ", ".join([*(f'"{c}"' for group in columns.values() for c in group), *({"t2_loss"} & known)])
        listed = ", ".join("'" + str(i).replace("'", "''") + "'" for i in ids)
        points = self.study.sql(f"""
            SELECT run_id, step, {wanted} FROM (
                SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY step) - 1 AS place,
                       count(*) OVER (PARTITION BY run_id) AS points
                FROM (SELECT run_id, step, {wanted} FROM trajectories WHERE run_id IN ({listed})))
            WHERE place % greatest(1, CAST(ceil(points / {MOST_POINTS}.0) AS BIGINT)) = 0 OR place = points - 1
            ORDER BY run_id, step""")
        tied = {h: points[group].mean(axis=1, skipna=False) for h, group in columns.items()}
        return points[["run_id", "step"]].assign(**tied, t2_loss=points.get("t2_loss", np.nan))

    def paths(self, model: str, most: int | None = None) -> pd.DataFrame:
        """The sampled trajectories of ``model``, of at most ``most`` runs."""
        ids = thinned(self.online(model), most or self.most_runs)["run_id"]
        return self.trajectories[self.trajectories["run_id"].isin(ids)]


def _numbers(values: object) -> str:
    """The numbers of a distribution, or the first of them."""
    listed = list(values) if isinstance(values, list | tuple) else [values]
    shown = [f"{value:g}" if isinstance(value, int | float) else str(value) for value in listed[:MOST_NUMBERS]]
    return f"[{', '.join(shown)}{', …' if len(listed) > MOST_NUMBERS else ''}]"
