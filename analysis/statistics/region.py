"""The optimal region of the hyperparameters, defined before any online run is looked at.

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

from analysis.frames import ROUNDING, Boxes, Floats, NotComputable, scaled
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
_LATTICE = 40_000  # points of the box at which the region's extent is looked for


@dataclass(frozen=True, kw_only=True)
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
        complete = cells.index.isin(_complete(cells).index)
        best_mean = cells.loc[complete, "mean"].min()
        return cells.assign(
            surface=smooth,
            inside=complete & (smooth <= self.threshold),
            mean_inside=complete & (cells["mean"] <= best_mean + self.margin),
        )

    @property
    def complete_cells(self) -> Floats:
        """The hyperparameters [N, D] of the cells where every run completed, in their own units."""
        cells = self.surface.cells
        return _complete(cells)[list(self.surface.names)].to_numpy(dtype=float)

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

    @property
    def best_index(self) -> int:
        """The ``config_index`` of the best cell's runs."""
        return int(self.cells.loc[(self.cells[list(self.best)] == pd.Series(self.best)).all(axis=1), "cell"].iloc[0])

    def extents(self) -> dict[str, tuple[float, float]]:
        """Hyperparameter -> the lowest and the highest value that occur in the region, whatever the others are."""
        axes, values = self.surface.lattice(int(_LATTICE ** (1 / len(self.surface.names))))
        inside = np.argwhere(values <= self.threshold)
        if not len(inside):
            return {}
        return {
            h: (float(axis[column.min()]), float(axis[column.max()]))
            for h, axis, column in zip(self.surface.names, axes, inside.T, strict=True)
        }

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Whether each of ``points`` [N, D] is inside; False outside the box and where a coordinate is NaN."""
        points = np.atleast_2d(np.asarray(points, dtype=float))
        return np.asarray((self.surface.predict(points) <= self.threshold) & self._in_box(points))

    def _in_box(self, points: Floats) -> NDArray[np.bool_]:
        u = scaled(points, self.surface.box)
        return np.asarray(((u > -ROUNDING) & (u < 1 + ROUNDING)).all(axis=1))

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


def find_region(runs: pd.DataFrame, model: str, boxes: Boxes, metric: str = "t2_loss") -> Region | NotComputable:
    """The optimal region of ``metric`` for ``model`` by :data:`DEFINITION`, from the grid arm alone."""
    surface = fit_surface(runs, model, boxes, metric)
    if isinstance(surface, NotComputable):
        return surface
    cells = surface.cells
    names = list(surface.names)
    complete = _complete(cells)
    if complete.empty:
        return NotComputable(f"every grid cell of model {model} has a diverged run")
    values = surface.predict(complete[names].to_numpy(dtype=float))
    best = complete.iloc[int(values.argmin())]
    error = surface.seed_noise / float(np.sqrt(best["n"]))
    margin = error + surface.seed_noise
    return Region(
        model=model,
        metric=metric,
        surface=surface,
        best={h: float(best[h]) for h in names},
        best_value=float(values.min()),
        standard_error=error,
        seed_noise=surface.seed_noise,
        margin=margin,
        threshold=float(values.min()) + margin,
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


def _complete(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells where every run completed."""
    return cells[(cells["diverged"] == 0) & (cells["n"] > 0)]
