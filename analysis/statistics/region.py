"""The optimal region of the hyperparameters, defined before any online run is looked at, and who starts and ends in it.

The definition (:data:`DEFINITION`) uses the grid of fixed-hyperparameter runs alone. Verdicts use the region of the T2
loss; the regions of the test metrics are found in the same way and are only reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import qmc
from statsmodels.stats.contingency_tables import mcnemar

from analysis.statistics.frames import Boxes, Floats, NotComputable, missing_arms, one_arm, positions, scaled
from analysis.statistics.intervals import Estimate, bootstrap, wilson
from analysis.statistics.surface import Surface, fit_surface

DEFINITION = (
    "The optimal region holds the hyperparameters whose expected metric, read off the surface smoothed over the grid "
    "of fixed-hyperparameter runs, is at most that of the best grid cell plus one standard error of that cell's mean "
    "plus the seed noise (the standard deviation between seeds of one run at the same hyperparameters). A cell with a "
    "diverged run is never the best one."
)
LARGEST_SHARE = 1 / 3  # of the box: a region larger than this does not tell a good method from a poor one
_SAMPLE_POWER = 14  # 2^14 quasi-random points: the volume is good to about 0.001, a distance to about 0.01
_SAMPLE_SEED = 0
_ROUNDING = 1e-6  # of the box's side: a float32 value at a bound differs from it by its rounding
_STABILITY_POINTS = 1024  # of the sample, where surfaces are redrawn


@dataclass(frozen=True)
class Region:
    """The optimal region of one metric for one model; see :data:`DEFINITION`."""

    model: str
    metric: str
    surface: Surface = field(repr=False)
    best: dict[str, float]  # the best grid cell
    best_value: float  # the surface there
    standard_error: float  # of that cell's mean
    seed_noise: float
    margin: float  # standard error + seed noise
    threshold: float  # best value + margin
    definition: str = field(default=DEFINITION, repr=False)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The grid's cells with the smoothed value and whether it is inside: ``surface``, ``inside``.

        ``mean_inside`` judges the cell's own mean against the best mean in place of the smoothed values.
        """
        cells = self.surface.cells
        smooth = self.surface.predict(cells[list(self.surface.names)].to_numpy(dtype=float))
        fine = cells.index.isin(_fine(cells).index)
        best_mean = cells.loc[fine, "mean"].min()
        return cells.assign(
            surface=smooth,
            inside=fine & (smooth <= self.threshold),
            mean_inside=fine & (cells["mean"] <= best_mean + self.margin),
        )

    @property
    def fine_cells(self) -> Floats:
        """The hyperparameters [N, D] of the cells where every run completed, in their own units."""
        cells = self.surface.cells
        return _fine(cells)[list(self.surface.names)].to_numpy(dtype=float)

    @cached_property
    def volume(self) -> float:
        """The region's share of the box."""
        return float((self._sample[1] <= self.threshold).mean())

    @property
    def discriminates(self) -> bool:
        """Whether the region is small enough (a third of the box at most) for ending inside to mean anything."""
        return self.volume <= LARGEST_SHARE

    @cached_property
    def optimum(self) -> dict[str, float]:
        """Where the smoothed surface is lowest."""
        points, values = self._sample
        low, high = self.surface.box.T
        return dict(zip(self.surface.names, (low + points[values.argmin()] * (high - low)).tolist(), strict=True))

    @cached_property
    def _sample(self) -> tuple[Floats, Floats]:
        low, high = self.surface.box.T
        u = qmc.Sobol(len(self.surface.names), rng=_SAMPLE_SEED).random_base2(_SAMPLE_POWER)
        return u, self.surface.predict(low + u * (high - low))

    @cached_property
    def _tree(self) -> Any:
        best = scaled(np.array([[self.best[h] for h in self.surface.names]]), self.surface.box)
        return cKDTree(np.vstack([self._sample[0][self._sample[1] <= self.threshold], best]))

    @cached_property
    def _ordered(self) -> Floats:
        return np.sort(self._sample[1])

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Whether each of ``points`` [N, D] is inside; False outside the box and where a coordinate is NaN."""
        points = np.atleast_2d(np.asarray(points, dtype=float))
        return np.asarray((self.surface.predict(points) <= self.threshold) & self._in_box(points))

    def _in_box(self, points: Floats) -> NDArray[np.bool_]:
        u = scaled(points, self.surface.box)
        return np.asarray(((u > -_ROUNDING) & (u < 1 + _ROUNDING)).all(axis=1))

    def distance(self, points: Floats) -> Floats:
        """Euclidean distance [N] to the region in box units (each side of the box is 1); 0 inside, NaN for NaN."""
        points = np.atleast_2d(np.asarray(points, dtype=float))
        value = self.surface.predict(points)
        out = np.where(np.isnan(value), np.nan, 0.0)
        outside = (value > self.threshold) | (~np.isnan(value) & ~self._in_box(points))
        out[outside] = self._tree.query(scaled(points[outside], self.surface.box))[0]
        return out

    def quantile(self, points: Floats) -> Floats:
        """The share [N] of the box whose surface is lower than at each point: 0 is best; NaN for NaN."""
        value = self.surface.predict(points)
        return np.where(np.isnan(value), np.nan, np.searchsorted(self._ordered, value) / len(self._ordered))


@dataclass(frozen=True)
class RegionShares:
    """How many online runs start and end in the region; a run that diverged ends outside.

    ``end_to_volume`` is the share of ends over the region's share of the box (1: no better than ends thrown at random),
    ``end_to_start`` over the share of starts. ``p_value`` is McNemar's exact test of entering against leaving.
    """

    n: int
    start: Estimate
    end: Estimate
    volume: float
    discriminates: bool
    end_to_volume: Estimate
    end_to_start: Estimate
    entered: int
    left: int
    p_value: float


def find_region(runs: pd.DataFrame, model: str, boxes: Boxes, metric: str = "t2_loss") -> Region | NotComputable:
    """The optimal region of ``metric`` for ``model`` by :data:`DEFINITION`, from the grid arm alone."""
    surface = fit_surface(runs, model, boxes, metric)
    if isinstance(surface, NotComputable):
        return surface
    cells = surface.cells
    names = list(surface.names)
    fine = _fine(cells)
    if fine.empty:
        return NotComputable(f"every grid cell of model {model} has a diverged run")
    values = surface.predict(fine[names].to_numpy(dtype=float))
    best = fine.iloc[int(values.argmin())]
    error = surface.seed_noise / float(np.sqrt(best["n"]))
    margin = error + surface.seed_noise
    return Region(
        model,
        metric,
        surface,
        {h: float(best[h]) for h in names},
        float(values.min()),
        error,
        surface.seed_noise,
        margin,
        float(values.min()) + margin,
    )


def stricter(region: Region) -> Region:
    """The region with its margin measured from the surface's minimum in place of the best cell.

    Where the grid is coarse against the region, the best cell may lie beside the optimum, and the region is then wider
    than the margin says; this one is not, but trusts the surface between the cells.
    """
    lowest = min(region.best_value, float(region._sample[1].min()))
    return replace(
        region,
        best_value=lowest,
        threshold=lowest + region.margin,
        definition=DEFINITION.replace("that of the best grid cell", "the surface's minimum"),
    )


def _fine(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[(cells["diverged"] == 0) & (cells["n"] > 0)]


def region_points(runs: pd.DataFrame, region: Region) -> pd.DataFrame:
    """Where each online run of the region's model starts and ends, one row a run, failed ones left out.

    Columns: run_id, config_index, replicate, status, and start_ and end_ followed by inside, distance (box units) and
    quantile (share of the box that is better).
    """
    online = one_arm(runs, region.model, "online")
    out = online[[c for c in ("run_id", "config_index", "replicate", "status") if c in online]].copy()
    for name, end in (("start", "initial"), ("end", "final")):
        points = positions(online, region.surface.names, end)
        if end == "final":
            points = np.where((online["status"] == "completed").to_numpy()[:, None], points, np.nan)
        out[f"{name}_inside"] = region.contains(points)
        out[f"{name}_distance"] = region.distance(points)
        out[f"{name}_quantile"] = region.quantile(points)
    return out


def region_shares(runs: pd.DataFrame, region: Region, *, seed: int = 0) -> RegionShares | NotComputable:
    """The shares of starts and of ends inside, with Wilson intervals, set against the region's volume."""
    absent = missing_arms(runs, "online", model=region.model)
    if absent:
        return absent
    points = region_points(runs, region)
    start, end = points["start_inside"].to_numpy(), points["end_inside"].to_numpy()
    n, inside = len(points), wilson(int(end.sum()), len(points))
    left, entered = int((start & ~end).sum()), int((~start & end).sum())
    table = [[int((start & end).sum()), left], [entered, int((~start & ~end).sum())]]
    volume = region.volume
    scale = 1 / volume if volume > 0 else float("nan")
    to_volume = Estimate(inside.value * scale, inside.low * scale, inside.high * scale, n)
    to_start = bootstrap((start.astype(float), end.astype(float)), _ratio_of_means, seed=seed)
    p_value = 1.0 if left + entered == 0 else float(mcnemar(table, exact=True).pvalue)
    return RegionShares(
        n,
        wilson(int(start.sum()), n),
        inside,
        volume,
        region.discriminates,
        to_volume,
        to_start,
        entered,
        left,
        p_value,
    )


def _ratio_of_means(start: Floats, end: Floats, axis: int = -1) -> Floats:
    below = start.mean(axis=axis)
    return np.asarray(np.divide(end.mean(axis=axis), below, out=np.full_like(below, np.nan), where=below > 0))


def concentration(runs: pd.DataFrame, region: Region) -> pd.DataFrame:
    """The shares of starts and of ends in the best ``volume`` of the box, for volumes from 0 to 1.

    Needs no threshold: ends thrown at random lie on the diagonal. Columns: volume, start, end.
    """
    points = region_points(runs, region)
    volume = np.linspace(0, 1, 201)
    shares = {}
    for name in ("start", "end"):
        ordered = np.sort(points[f"{name}_quantile"].dropna().to_numpy())
        shares[name] = np.searchsorted(ordered, volume, side="right") / max(len(points), 1)
    return pd.DataFrame({"volume": volume, **shares})


@dataclass(frozen=True)
class RegionStability:
    """What the verdict owes to the finite grid: volume and shares over surfaces that the grid allows (Surface.draw)."""

    volume: Estimate
    start: Estimate
    end: Estimate


def region_stability(runs: pd.DataFrame, region: Region, *, seed: int = 0, draws: int = 200) -> RegionStability:
    """Intervals of the volume and of the shares inside when the surface is redrawn; the runs are kept.

    Every drawn surface has its own best cell and threshold. Above 500 online runs, 500 evenly spaced ones are used.
    """
    online = one_arm(runs, region.model, "online", completed=True)
    online = online.iloc[np.unique(np.linspace(0, len(online) - 1, 500).astype(int))] if len(online) else online
    surface = region.surface
    low, high = surface.box.T
    sample = low + region._sample[0][:_STABILITY_POINTS] * (high - low)
    parts = [
        region.fine_cells,
        sample,
        positions(online, surface.names, "initial"),
        positions(online, surface.names, "final"),
    ]
    values = np.split(surface.draw(np.vstack(parts), draws, seed=seed), np.cumsum([len(p) for p in parts])[:-1])
    threshold = values[0].min(axis=0) + region.margin
    shares = region.volume, *((region.contains(p).mean() if len(p) else np.nan) for p in parts[2:])
    return RegionStability(
        *(
            _spread_of(value, (drawn <= threshold).mean(axis=0) if len(drawn) else np.array([np.nan]), len(drawn))
            for value, drawn in zip(shares, values[1:], strict=True)
        )
    )


def _spread_of(value: float, draws: Floats, n: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)
