"""How the hyperparameters' spread shrinks, which of them end at a bound, and their distance to the region by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import (
    ROUNDING,
    Boxes,
    Floats,
    NotComputable,
    has_values,
    hyperparameters,
    layers,
    missing_arms,
    one_arm,
    positions,
    scaled,
    tie_layers,
)
from analysis.statistics.intervals import Estimate, bootstrap, ratio, wilson
from analysis.statistics.records import Row, framed
from analysis.statistics.region import Region
from analysis.statistics.surface import Surface, directions
from analysis.study import Study

_BINS = 200  # of each hyperparameter's box, when trajectories are counted in bins: 0.005 of the box
_MOST_STEPS = 100
_DIRECTION = "direction "


@dataclass(frozen=True, kw_only=True)
class Contraction(Row):
    """The spread of the ends over that of the starts, along one hyperparameter or direction; 1 is no contraction.

    Standard deviations (std) and interquartile ranges (iqr) are in box units; the intervals are bootstrapped over runs.
    """

    along: str  # the hyperparameter, or ``direction 1`` (the most sensitive), ``direction 2``, …
    start_std: float
    end_std: float
    std_ratio: Estimate
    start_iqr: float
    end_iqr: float
    iqr_ratio: Estimate
    n: int

    @property
    def is_direction(self) -> bool:
        """Whether this is a direction of the surface, not a hyperparameter."""
        return self.along.startswith(_DIRECTION)


def contractions(
    runs: pd.DataFrame, model: str, boxes: Boxes, surface: Surface | None = None, *, seed: int = 0
) -> tuple[Contraction, ...] | NotComputable:
    """How the spread shrinks along each (tied) hyperparameter, then along each principal direction of ``surface``.

    The directions go from sensitive to flat. Completed online runs only.
    """
    absent = missing_arms(runs, "online", model=model)
    if absent:
        return absent
    online = one_arm(runs, model, "online", completed=True)
    names = [h for h in hyperparameters(online) if h in boxes and has_values(online, h)]
    if not names:
        return NotComputable(f"no hyperparameter of model {model} varies between its starts")
    if len(online) < 2:
        return NotComputable(f"one completed online run of model {model}: a spread needs two")
    box = np.array([boxes[h] for h in names], dtype=float)
    start, end = (scaled(positions(online, names, e), box) for e in ("initial", "final"))
    along: dict[str, Floats] = {h: np.eye(len(names))[i] for i, h in enumerate(names)}
    if surface is not None:
        vectors = directions(surface)
        for place in range(len(vectors)):  # hyperparameters that the grid does not vary have no component
            along[f"{_DIRECTION}{place + 1}"] = np.array([vectors[h][place] if h in vectors else 0.0 for h in names])
    return tuple(_contraction(key, start @ vector, end @ vector, seed) for key, vector in along.items())


def _contraction(along: str, start: Floats, end: Floats, seed: int) -> Contraction:
    return Contraction(
        along=along,
        start_std=float(_std(start, -1)),
        end_std=float(_std(end, -1)),
        std_ratio=bootstrap((start, end), partial(_shrinkage, _std), seed=seed),
        start_iqr=float(_iqr(start, -1)),
        end_iqr=float(_iqr(end, -1)),
        iqr_ratio=bootstrap((start, end), partial(_shrinkage, _iqr), seed=seed),
        n=len(start),
    )


contraction_ratios = framed(contractions)


def _std(x: Floats, axis: int) -> Floats:
    return np.asarray(x.std(axis=axis, ddof=1))


def _iqr(x: Floats, axis: int) -> Floats:
    quartiles = np.quantile(x, [0.25, 0.75], axis=axis)
    return np.asarray(quartiles[1] - quartiles[0])


def _shrinkage(spread: Callable[[Floats, int], Floats], start: Floats, end: Floats, axis: int = -1) -> Floats:
    return ratio(spread(end, axis), spread(start, axis))


@dataclass(frozen=True, kw_only=True)
class Clamp(Row):
    """How many of ``n`` completed online runs end with a hyperparameter at one bound of its box."""

    bounds_of = "share"

    hyperparameter: str  # of each layer or group of parameters
    side: str  # low or high
    bound: float
    count: int
    n: int
    share: Estimate
    outside_region: int | None  # of the count; None without a region. A bound inside the region is no failure


def clamps(
    runs: pd.DataFrame, model: str, boxes: Boxes, region: Region | None = None
) -> tuple[Clamp, ...] | NotComputable:
    """How many runs end at each of the two bounds of each hyperparameter (of each layer or group of it)."""
    absent = missing_arms(runs, "online", model=model)
    if absent:
        return absent
    online = runs[(runs["arm"] == "online") & (runs["model"] == model) & (runs["status"] == "completed")]
    inside = None if region is None else region.contains(positions(tie_layers(online), region.surface.names, "final"))
    rows = []
    for name, columns in layers(hyperparameters(online)).items():
        for column in [c for c in columns if name in boxes and has_values(online, c)]:
            for side, bound in zip(("low", "high"), boxes[name], strict=True):
                width = boxes[name][1] - boxes[name][0]
                at = (online[f"{column}_final"] - bound).abs().to_numpy() <= ROUNDING * width
                rows.append(
                    Clamp(
                        hyperparameter=column,
                        side=side,
                        bound=bound,
                        count=int(at.sum()),
                        n=len(online),
                        share=wilson(int(at.sum()), len(online)),
                        outside_region=None if inside is None else int((at & ~inside).sum()),
                    )
                )
    return tuple(rows) or NotComputable(f"no hyperparameter of model {model} has a box")


clamped = framed(clamps)


def distance_over_steps(study: Study, region: Region) -> pd.DataFrame | NotComputable:
    """The online runs' distance to the region (box units) over the inner steps; step 0 is the starts.

    DuckDB streams the trajectories and counts them in bins of 0.005 of the box, at 100 of the recorded steps at most.
    So a million runs take little more memory than a thousand. Columns: step, n, share_inside, mean, q25, median, q75.
    """
    absent = missing_arms(study.runs, "online", model=region.model)
    if absent:
        return absent
    if not study.has("trajectories"):
        return NotComputable("no recorded steps: the study has no trajectories table")
    names = region.surface.names
    mine = study.runs[study.runs["model"] == region.model]
    members = layers([h for h in hyperparameters(mine) if has_values(mine, h)])
    tied = {h: "(" + " + ".join(f'"{c}"' for c in members[h]) + f") / {len(members[h])}" for h in names}
    place = [
        f"least({_BINS - 1}, greatest(0, floor(({tied[h]} - ({low})) / {high - low} * {_BINS})))::BIGINT"
        for h, (low, high) in zip(names, region.surface.box.tolist(), strict=True)
    ]
    number = " + ".join(f"{p} * {_BINS**i}" for i, p in enumerate(place))  # of the bin, over all hyperparameters
    finite = " AND ".join(f"isfinite({tied[h]})" for h in names)
    model = region.model.replace("'", "''")
    online = f"FROM trajectories WHERE arm = 'online' AND model = '{model}'"
    steps = study.sql(f"SELECT DISTINCT step {online} ORDER BY step")["step"].to_numpy()
    if not len(steps):
        return NotComputable(f"no recorded steps of the online runs of model {region.model}")
    shown = steps[np.unique(np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int))]
    counts = study.sql(
        f"SELECT step, {number} AS bin, count(*) AS n {online} AND {finite} "
        f"AND step IN ({', '.join(map(str, shown))}) GROUP BY ALL ORDER BY ALL"
    )
    bins, inverse = np.unique(counts["bin"].to_numpy(), return_inverse=True)
    low, high = region.surface.box.T
    centre = (bins[:, None] // _BINS ** np.arange(len(names)) % _BINS + 0.5) / _BINS
    counts["distance"] = region.distance(low + centre * (high - low))[inverse]
    starts = region.distance(positions(one_arm(study.runs, region.model, "online"), names, "initial"))
    rows: list[dict[str, Any]] = [{"step": 0, **_weighted(starts, np.ones(len(starts)))}]
    rows += [
        {"step": step, **_weighted(part["distance"].to_numpy(dtype=float), part["n"].to_numpy(dtype=float))}
        for step, part in counts.groupby("step", sort=True)
    ]
    return pd.DataFrame(rows)


def _weighted(distance: Floats, weight: Floats) -> dict[str, float]:
    """The columns of one step, for runs at each ``distance``, as many as its ``weight`` says."""
    order = np.argsort(distance)
    distance, share = distance[order], np.cumsum(weight[order]) / weight.sum()
    q25, median, q75 = (float(distance[min(int(np.searchsorted(share, q)), len(share) - 1)]) for q in (0.25, 0.5, 0.75))
    weight = weight[order]
    return {
        "n": int(weight.sum()),
        "share_inside": float(weight[distance == 0].sum() / weight.sum()),
        "mean": float((distance * weight).sum() / weight.sum()),
        "q25": q25,
        "median": median,
        "q75": q75,
    }
