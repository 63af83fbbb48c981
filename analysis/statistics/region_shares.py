"""The shares of the online runs that start and end in the optimal region, with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar

from analysis.frames import Floats, NotComputable, missing_arms, one_arm, positions
from analysis.statistics.intervals import Estimate, bootstrap, middle, ratio, wilson
from analysis.statistics.region import Region

_STABILITY_POINTS = 1024  # of the region's sample, where surfaces are redrawn


@dataclass(frozen=True, kw_only=True)
class RegionShares:
    """How many online runs start and end in the region; a run that diverged ends outside.

    ``end_to_volume`` is the share of ends over the region's share of the box (1: no more than ends drawn uniformly),
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
    return RegionShares(
        n=n,
        start=wilson(int(start.sum()), n),
        end=inside,
        volume=volume,
        discriminates=region.discriminates,
        end_to_volume=Estimate(value=inside.value * scale, low=inside.low * scale, high=inside.high * scale, n=n),
        end_to_start=bootstrap((start.astype(float), end.astype(float)), _ratio_of_means, seed=seed),
        entered=entered,
        left=left,
        p_value=1.0 if left + entered == 0 else float(mcnemar(table, exact=True).pvalue),
    )


def _ratio_of_means(start: Floats, end: Floats, axis: int = -1) -> Floats:
    return ratio(end.mean(axis=axis), start.mean(axis=axis))


def concentration(runs: pd.DataFrame, region: Region) -> pd.DataFrame:
    """The shares of starts and of ends in the best ``volume`` of the box, for volumes from 0 to 1.

    No threshold is needed. Ends drawn uniformly from the box give the diagonal. Columns: volume, start, end.
    """
    points = region_points(runs, region)
    volume = np.linspace(0, 1, 201)
    shares = {}
    for name in ("start", "end"):
        ordered = np.sort(points[f"{name}_quantile"].dropna().to_numpy())
        shares[name] = np.searchsorted(ordered, volume, side="right") / max(len(points), 1)
    return pd.DataFrame({"volume": volume, **shares})


@dataclass(frozen=True, kw_only=True)
class RegionStability:
    """How far the volume and the shares vary over surfaces drawn from the posterior given the grid (Surface.draw)."""

    volume: Estimate
    start: Estimate
    end: Estimate


def region_stability(runs: pd.DataFrame, region: Region, *, seed: int = 0, draws: int = 200) -> RegionStability:
    """Intervals of the volume and of the shares inside over ``draws`` surfaces from the posterior; the runs stay.

    Each surface has its own best cell and threshold. Of more than 500 online runs, 500 evenly spaced ones are used.
    """
    online = one_arm(runs, region.model, "online", completed=True)
    online = online.iloc[np.unique(np.linspace(0, len(online) - 1, 500).astype(int))] if len(online) else online
    surface = region.surface
    low, high = surface.box.T
    sample = low + region._sample[0][:_STABILITY_POINTS] * (high - low)
    parts = [
        region.complete_cells,
        sample,
        positions(online, surface.names, "initial"),
        positions(online, surface.names, "final"),
    ]
    values = np.split(surface.draw(np.vstack(parts), draws, seed=seed), np.cumsum([len(p) for p in parts])[:-1])
    threshold = values[0].min(axis=0) + region.margin
    shares = region.volume, *((region.contains(p).mean() if len(p) else np.nan) for p in parts[2:])
    volume, start, end = (
        middle(float(value), (drawn <= threshold).mean(axis=0) if len(drawn) else np.array([np.nan]), len(drawn))
        for value, drawn in zip(shares, values[1:], strict=True)
    )
    return RegionStability(volume=volume, start=start, end=end)
