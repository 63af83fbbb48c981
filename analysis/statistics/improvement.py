"""The improvement split: which configurations are good before and after their hyperparameters were tuned.

Good is defined by the grid alone (:func:`good_threshold`), before any configuration is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.frames import Floats, NotComputable, missing_arms, one_arm, pairs
from analysis.statistics.intervals import Estimate, bootstrap, wilson
from analysis.statistics.records import Row, bounded, framed
from analysis.statistics.region import Region

SLIDES_SHARES = {"good→good": 0.58, "bad→good": 0.20}  # in the slides, which do not give their threshold of good
OUTCOMES = ("good→good", "bad→good", "bad→bad", "good→bad")
RELATIVE_MARGIN = 0.10
NOISE_MARGIN = 2.0
_LARGEST_MARGIN = 4.0  # of the curve: five times the best cell's loss
_CURVE_POINTS = 81


@dataclass(frozen=True, kw_only=True)
class GoodThreshold:
    """A run is good when its metric is at most ``value`` = ``best`` + ``margin``."""

    metric: str
    best: float  # the surface at the best grid cell
    margin: float
    value: float
    definition: str = field(
        default=f"good: at most the best grid cell's smoothed mean plus the larger of {RELATIVE_MARGIN:.0%} of it and "
        f"{NOISE_MARGIN:g} times the seed noise",
        repr=False,
    )


def good_threshold(region: Region) -> GoodThreshold:
    """The threshold of good for the region's metric and model.

    A tenth is a difference that a user would act on. The margin of two standard deviations between seeds keeps a run at
    the optimum itself from counting as bad by chance.
    """
    margin = max(RELATIVE_MARGIN * abs(region.best_value), NOISE_MARGIN * region.seed_noise)
    return GoodThreshold(metric=region.metric, best=region.best_value, margin=margin, value=region.best_value + margin)


def outcomes(before: Floats, after: Floats, threshold: float) -> NDArray[np.int_]:
    """The place in :data:`OUTCOMES` of each configuration; a diverged run (NaN) is bad."""
    good_before, good_after = before <= threshold, after <= threshold
    return np.select([good_before & good_after, ~good_before & good_after, ~good_before], [0, 1, 2], 3)


@dataclass(frozen=True, kw_only=True)
class SplitShare(Row):
    """How many of ``n`` configurations have one of :data:`OUTCOMES`."""

    bounds_of = "share"

    outcome: str
    count: int
    n: int
    share: Estimate


def split_shares(
    runs: pd.DataFrame, model: str, threshold: float, metric: str = "t2_loss", after: str = "rerun"
) -> tuple[SplitShare, ...] | NotComputable:
    """The four-way split of ``initial`` against ``after`` (``rerun`` or ``online``): one for each of OUTCOMES."""
    absent = missing_arms(runs, "initial", after, model=model)
    if absent:
        return absent
    both = pairs(runs, "initial", after, model)
    if both.empty:
        return NotComputable(f"no configuration of model {model} has both arms initial and {after}")
    kind = outcomes(both[f"{metric}_initial"].to_numpy(), both[f"{metric}_{after}"].to_numpy(), threshold)
    return tuple(
        SplitShare(outcome=outcome, count=count, n=len(both), share=wilson(count, len(both)))
        for outcome, count in zip(OUTCOMES, np.bincount(kind, minlength=4).tolist(), strict=True)
    )


split = framed(split_shares)


def split_curve(
    runs: pd.DataFrame,
    model: str,
    best: float | None = None,
    metric: str = "t2_loss",
    after: str = "rerun",
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame | NotComputable:
    """The split as a function of the threshold: it shows at which thresholds, if any, given shares would hold.

    ``thresholds`` default to margins from 0 to 400 % above ``best`` (the best cell), finer near 0; without a best cell,
    to the quantiles of what was observed. Columns: threshold, margin (threshold / best - 1, NaN without best), and for
    each outcome its name with →, and the same followed by _low and _high (Wilson).
    """
    absent = missing_arms(runs, "initial", after, model=model)
    if absent:
        return absent
    both = pairs(runs, "initial", after, model)
    before, final = both[f"{metric}_initial"].to_numpy(), both[f"{metric}_{after}"].to_numpy()
    observed = np.concatenate([before, final])
    observed = observed[np.isfinite(observed)]
    if not observed.size:
        return NotComputable(f"no configuration of model {model} has both arms initial and {after} completed")
    if thresholds is None:
        grid = (
            best * (1 + _LARGEST_MARGIN * np.linspace(0, 1, _CURVE_POINTS) ** 2)
            if best is not None and best > 0
            else np.unique(np.quantile(observed, np.linspace(0, 1, _CURVE_POINTS)))
        )
    else:
        grid = np.asarray(thresholds, dtype=float)
    rows = []
    for threshold in grid:
        counts = np.bincount(outcomes(before, final, threshold), minlength=4)
        row = {"threshold": float(threshold), "margin": float(threshold / best - 1) if best else float("nan")}
        for outcome, count in zip(OUTCOMES, counts.tolist(), strict=True):
            share = wilson(count, len(both))
            row |= bounded(outcome, share)
        rows.append(row)
    return pd.DataFrame(rows)


def slides_hold(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`split_curve` whose intervals contain both of the slides' shares, 58 % and 20 %."""
    inside = [(curve[f"{o}_low"] <= share) & (share <= curve[f"{o}_high"]) for o, share in SLIDES_SHARES.items()]
    return curve[inside[0] & inside[1]].reset_index(drop=True)


@dataclass(frozen=True, kw_only=True)
class BestCellComparison:
    """One arm's completed runs against the best fixed cell, which is chosen on the region's metric (T2 loss)."""

    arm: str
    metric: str
    best: float  # mean of the best cell's replicates
    best_n: int
    difference: Estimate  # mean of the arm minus best
    margin: float  # the seed noise of the metric
    no_worse: bool  # the upper end of the difference's interval is at most the margin
    mean_no_worse: bool  # the difference itself is


def against_best_cell(
    runs: pd.DataFrame, region: Region, metric: str = "test_loss", arm: str = "online", *, seed: int = 0
) -> BestCellComparison | NotComputable:
    """How far an arm's mean metric is above the best fixed cell's; diverged runs are left out.

    The interval holds the noise of the arm's runs and, added in quadrature, of the cell's mean.
    """
    absent = missing_arms(runs, arm, model=region.model)
    if absent:
        return absent
    grid = one_arm(runs, region.model, "grid", completed=True)
    at_best = grid.loc[grid["config_index"] == region.best_index, metric].to_numpy(dtype=float)
    values = one_arm(runs, region.model, arm, completed=True)[metric].to_numpy(dtype=float)
    variances = grid.groupby("config_index")[metric].var().dropna()  # of one replicate there is none
    noise = float(np.sqrt(variances.median()))
    if not np.isfinite(noise):
        return NotComputable(f"one replicate for each grid cell of model {region.model}: no seed noise for {metric}")
    mean = bootstrap(values, np.mean, seed=seed)
    best, se = float(at_best.mean()), 1.96 * noise / float(np.sqrt(len(at_best)))
    difference = mean.value - best
    interval = Estimate(
        value=difference,
        low=difference - float(np.hypot(mean.value - mean.low, se)),
        high=difference + float(np.hypot(mean.high - mean.value, se)),
        n=len(values),
    )
    return BestCellComparison(
        arm=arm,
        metric=metric,
        best=best,
        best_n=len(at_best),
        difference=interval,
        margin=noise,
        no_worse=bool(interval.high <= noise),
        mean_no_worse=bool(difference <= noise),
    )
