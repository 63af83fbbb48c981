"""Do models of different sizes have different optimal regions?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from analysis.frames import Floats, NotComputable, hyperparameters, positions, scaled, tie_layers
from analysis.statistics.intervals import Estimate, bootstrap, middle
from analysis.statistics.records import Row, bounded, framed
from analysis.statistics.region import Region

_POINTS = 1024  # quasi-random points of the box at which surfaces are redrawn
_REFIT_POINTS = 8192  # at which they are refitted, which is cheaper; the finer, the fewer ties between optima
_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class ModelPair(Row):
    """The optimal regions of two models against each other; shifts are second - first, in box units."""

    first: str
    second: str
    jaccard: Estimate  # volume of the regions' intersection over that of their union
    shift: float  # distance between the surfaces' optima
    shifts: Mapping[str, Estimate]  # hyperparameter -> the optimum's shift, with an interval from drawn surfaces
    n_ends: int  # how many pairs of online runs from one start
    end_shifts: Mapping[str, Estimate]  # hyperparameter -> the paired difference of where they end (bootstrap)
    p_shape: float  # of the squared distance of the two surfaces' cells
    p_shift: float
    p_region: float  # of 1 - jaccard

    def published(self) -> dict[str, Any]:
        """Column -> value; the shifts of the hyperparameter h are ``shift_{h}`` and ``end_shift_{h}``."""
        columns: dict[str, Any] = {}
        for name, value in super().published().items():
            if isinstance(value, Mapping):
                for h, estimate in value.items():
                    columns |= bounded(f"{name.removesuffix('s')}_{h}", estimate)
            else:
                columns[name] = value
        return columns


def model_pairs(
    runs: pd.DataFrame, regions: Sequence[Region], *, seed: int = 0, permutations: int = 999
) -> tuple[ModelPair, ...] | NotComputable:
    """The optimal regions of each pair of models against each other.

    The p-values are of permutation tests. The null hypothesis is that the two surfaces differ by a constant at most. A
    permutation keeps the mean of the two surfaces, and exchanges within each cell the replicates' residuals between the
    models (residuals of the full model, ter Braak 1992). Holm's method adjusts each p-value over the pairs. They are
    NaN where the grid has one replicate.
    """
    if len(regions) < 2:
        return NotComputable(f"{len(regions) or 'no'} model with a region: regions are compared between two or more")
    rows = [
        _compare(runs, a, b, seed, permutations)
        for a, b in combinations(regions, 2)
        if a.surface.names == b.surface.names and a.metric == b.metric
    ]
    if not rows:
        return NotComputable("the models' grids vary different hyperparameters")
    shape, shift, region = (_holm([getattr(r, p) for r in rows]) for p in ("p_shape", "p_shift", "p_region"))
    return tuple(
        replace(row, p_shape=p_shape, p_shift=p_shift, p_region=p_region)
        for row, p_shape, p_shift, p_region in zip(rows, shape, shift, region, strict=True)
    )


def _holm(p: list[float]) -> list[float]:
    """P-values adjusted by Holm's method; NaN stays, and does not count."""
    adjusted = np.array(p)
    known = np.isfinite(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method="holm")[1]
    return [float(value) for value in adjusted]


compare_models = framed(model_pairs)


def _compare(runs: pd.DataFrame, a: Region, b: Region, seed: int, permutations: int) -> ModelPair:
    low, high = a.surface.box.T
    u = a._sample[0][:_POINTS]
    drawn = [_drawn(r, low + u * (high - low), seed + k) for k, r in enumerate((a, b))]
    optima = [scaled(np.array([[r.optimum[h] for h in r.surface.names]]), r.surface.box)[0] for r in (a, b)]
    shift, shifts = optima[1] - optima[0], u[drawn[1][1]] - u[drawn[0][1]]
    ends = _end_shifts(runs, a, b, seed)
    return ModelPair(
        first=a.model,
        second=b.model,
        jaccard=middle(_overlap(a, b), _jaccard(drawn[0][0], drawn[1][0]), _DRAWS),
        shift=float(np.linalg.norm(shift)),
        shifts={h: middle(float(shift[i]), shifts[:, i], _DRAWS) for i, h in enumerate(a.surface.names)},
        n_ends=ends[0],
        end_shifts=ends[1],
        **_permutation(runs, a, b, seed, permutations),
    )


def _overlap(a: Region, b: Region) -> float:
    inside = [r._sample[1] <= r.threshold for r in (a, b)]  # the two samples are of the same points
    return float(_jaccard(inside[0][:, None], inside[1][:, None])[0])


def _jaccard(first: Any, second: Any) -> Floats:
    either = (first | second).sum(axis=0)
    both = (first & second).sum(axis=0)
    return np.asarray(np.divide(both, either, out=np.zeros(len(either)), where=either > 0), dtype=float)


def _drawn(region: Region, points: Floats, seed: int) -> tuple[Any, Any]:
    """For surfaces drawn from the posterior: inside or not [points, draws], and the index of the optimum [draws]."""
    cells = region.complete_cells
    values = region.surface.draw(np.vstack([cells, points]), _DRAWS, seed=seed)
    values, best = values[len(cells) :], values[: len(cells)].min(axis=0)
    return values <= best + region.margin, values.argmin(axis=0)


def _end_shifts(runs: pd.DataFrame, a: Region, b: Region, seed: int) -> tuple[int, dict[str, Estimate]]:
    tied = tie_layers(runs)
    online = tied[(tied["arm"] == "online") & (tied["status"] == "completed")].set_index(["config_index", "replicate"])
    names = [h for h in a.surface.names if h in hyperparameters(tied)]
    ends = [online[online["model"] == r.model] for r in (a, b)]
    shared = ends[0].index.intersection(ends[1].index).sort_values()
    first, second = (scaled(positions(e.loc[shared], names, "final"), a.surface.box) for e in ends)
    return len(shared), {h: bootstrap((second - first)[:, i], np.mean, seed=seed) for i, h in enumerate(names)}


def _permutation(runs: pd.DataFrame, a: Region, b: Region, seed: int, permutations: int) -> dict[str, float]:
    logarithmic = a.surface.logarithmic and b.surface.logarithmic
    tables = [_table(runs, r.model, r.metric, logarithmic) for r in (a, b)]
    cells = tables[0].index.intersection(tables[1].index)
    replicates = tables[0].columns.intersection(tables[1].columns)
    if len(cells) < 3 or len(replicates) < 2 or a.surface.logarithmic != b.surface.logarithmic:
        return dict.fromkeys(("p_shape", "p_shift", "p_region"), float("nan"))
    values = np.stack([t.loc[cells, replicates].to_numpy(dtype=float) for t in tables])  # [2, cells, replicates]
    values = values - values.mean(axis=1, keepdims=True)  # the level of each model and seed
    means = values.mean(axis=2)
    count = len(replicates)
    # The factor gives the difference of two means of exchanged residuals the variance that new replicates would.
    residuals = (values - means[:, :, None]) * np.sqrt((2 * count - 1) / (2 * count - 2))
    pool = residuals.transpose(1, 0, 2).reshape(len(cells), 2 * count)
    rng = np.random.default_rng(seed)
    exchanged = rng.permuted(np.broadcast_to(pool, (permutations, *pool.shape)), axis=2)
    shared = means.mean(axis=0)
    # [cells, 1 + permutations] for each model; the first column is what was observed
    first = np.column_stack([means[0], (shared + exchanged[:, :, :count].mean(axis=2)).T])
    second = np.column_stack([means[1], (shared + exchanged[:, :, count:].mean(axis=2)).T])
    refits = [_Refit(r, cells, logarithmic) for r in (a, b)]
    inside, optimum = zip(refits[0].redraw(first), refits[1].redraw(second), strict=True)
    statistics = {
        "p_shape": ((first - second) ** 2).sum(axis=0),
        "p_shift": np.linalg.norm(refits[0].u[optimum[0]] - refits[1].u[optimum[1]], axis=1),
        "p_region": 1 - _jaccard(*inside),
    }
    # What differs by rounding only is equal, and counts as as extreme as the observed.
    return {p: float((1 + (s[1:] >= s[0] - 1e-12).sum()) / (1 + permutations)) for p, s in statistics.items()}


def _table(runs: pd.DataFrame, model: str, metric: str, logarithmic: bool) -> pd.DataFrame:
    """Cell × replicate values of the cells whose every replicate completed."""
    grid = runs[(runs["arm"] == "grid") & (runs["model"] == model) & (runs["status"] == "completed")]
    table = grid.pivot_table(index="config_index", columns="replicate", values=metric).dropna()
    return table.apply(np.log) if logarithmic else table


class _Refit:
    """A region's surface for other values of its cells. The kernel stays, so the surface is linear in the values."""

    def __init__(self, region: Region, cells: pd.Index[Any], logarithmic: bool) -> None:
        surface = region.surface
        low, high = surface.box.T
        self.u = region._sample[0][:_REFIT_POINTS]
        all_cells = region.cells.set_index("cell")
        chosen = all_cells.index.isin(cells)
        points = np.vstack([all_cells.loc[chosen, list(surface.names)], low + self.u * (high - low)])
        self._matrix = surface.smoother(points)[:, chosen]
        mean = all_cells.loc[chosen, "mean"].to_numpy(dtype=float)
        self._level = float(np.log(mean).mean() if logarithmic else mean.mean())
        self._margin, self._logarithmic, self._cells = region.margin, logarithmic, int(chosen.sum())

    def redraw(self, centred: Floats) -> tuple[Any, Any]:
        """Inside or not [points, N] and the place of the optimum [N] for cells' values ``centred`` [cells, N]."""
        values = self._matrix @ centred + self._level
        values = np.exp(values) if self._logarithmic else values
        values, best = values[self._cells :], values[: self._cells].min(axis=0)
        return values <= best + self._margin, values.argmin(axis=0)
