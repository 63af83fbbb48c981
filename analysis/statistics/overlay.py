"""Runs of another study, such as an imported search, laid over the optimal region of this one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.frames import NotComputable, has_values, hyperparameters, positions, tie_layers
from analysis.statistics.intervals import Estimate, wilson
from analysis.statistics.records import Row
from analysis.statistics.region import Region


@dataclass(frozen=True, kw_only=True)
class Overlay(Row):
    """Where the runs of one arm lie in a region; the best is the completed one with the lowest T2 loss.

    ``expected_t2_loss`` is that of the region's surface where the best run lies. If the two losses differ by far more
    than the seed noise, then the other study trained another network, on other data, or in another way. The values of
    the best run are NaN where no run completed.
    """

    study: str  # the other one
    arm: str
    n: int  # runs, failed ones left out
    stopped: int  # of them, by a scheduler or a pruner
    diverged: int
    inside: Estimate  # their share in the region; a run that diverged, or lies outside the box, is not inside
    volume: float  # the region's share of the box: what values drawn at random would give
    best_t2_loss: float
    expected_t2_loss: float
    best_test_loss: float
    best_distance: float  # to the region, where the box has sides of length 1; 0 inside


def lie_inside(runs: pd.DataFrame, region: Region) -> NDArray[np.bool_]:
    """Whether each of ``runs``, whose layers are tied, ends in the region; not if it diverged."""
    return region.contains(positions(runs, region.surface.names, "final")) & (runs["status"] != "diverged").to_numpy()


def runs_beside(runs: pd.DataFrame, region: Region) -> pd.DataFrame | NotComputable:
    """Of another study's ``runs`` those of the region's model that did not fail, layers or groups tied."""
    of_model = tie_layers(runs[(runs["model"] == region.model) & (runs["status"] != "failed")])
    if of_model.empty:
        models = ", ".join(map(str, dict.fromkeys(runs["model"])))
        return NotComputable(f"no run of model {region.model} that did not fail; there are runs of {models}")
    absent = [h for h in region.surface.names if h not in hyperparameters(of_model) or not has_values(of_model, h)]
    if absent:
        return NotComputable(f"its runs have no value of {', '.join(absent)}, over which the region is found")
    return of_model


def overlays(runs: pd.DataFrame, region: Region, *, study: str) -> tuple[Overlay, ...] | NotComputable:
    """One row for each arm of another study's ``runs``; ``study`` is its name."""
    chosen = runs_beside(runs, region)
    if isinstance(chosen, NotComputable):
        return chosen
    return tuple(_overlay(chosen[chosen["arm"] == arm], region, study, str(arm)) for arm in chosen["arm"].unique())


def best_run(runs: pd.DataFrame) -> pd.DataFrame:
    """The completed run with the lowest T2 loss, as a frame of one row; of none where no run completed."""
    completed = runs[(runs["status"] == "completed") & runs["t2_loss"].notna()]
    return completed.sort_values("t2_loss", kind="stable").head(1)


def _overlay(runs: pd.DataFrame, region: Region, study: str, arm: str) -> Overlay:
    best = best_run(runs)
    place = positions(best, region.surface.names, "final")
    return Overlay(
        study=study,
        arm=arm,
        n=len(runs),
        stopped=int((runs["status"] == "stopped").sum()),
        diverged=int((runs["status"] == "diverged").sum()),
        inside=wilson(int(lie_inside(runs, region).sum()), len(runs)),
        volume=region.volume,
        best_t2_loss=float(best["t2_loss"].mean()),
        expected_t2_loss=float(region.surface.predict(place).mean()) if len(best) else float("nan"),
        best_test_loss=float(best["test_loss"].mean()),
        best_distance=float(region.distance(place).mean()) if len(best) else float("nan"),
    )
