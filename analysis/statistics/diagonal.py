"""Two arms of the same configurations against each other: paired differences, equivalence and agreement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.weightstats import ttost_paired

from analysis.frames import IDENTITY, Floats, NotComputable, missing_arms, pairs
from analysis.statistics.intervals import Estimate, bootstrap, ratio


@dataclass(frozen=True, kw_only=True)
class Diagonal:
    """``second`` against ``first`` of the same configurations; differences are second minus first.

    ``margin`` is the equivalence margin and the width of a tie, None where it is not known; better means that second is
    lower by more than it. ``equivalent``: the two one-sided tests (Schuirmann 1987) reject a mean difference of at
    least the margin in either direction at 5 %. ``concordance`` is Lin's (1989) coefficient, ``limits_of_agreement``
    those of Bland and Altman (1986): the mean difference ± 1.96 standard deviations.
    """

    first: str
    second: str
    metric: str
    n: int
    diverged: int  # configurations left out because either run diverged
    mean_difference: Estimate
    median_difference: Estimate
    standard_deviation: float  # of the differences
    margin: float | None
    better: int
    tied: int
    worse: int
    tost_p: float | None
    equivalent: bool | None
    concordance: Estimate
    pearson: float
    limits_of_agreement: tuple[float, float]


def lin_concordance(x: Floats, y: Floats, axis: int = -1) -> Floats:
    """Lin's concordance correlation 2·s_xy / (s_x² + s_y² + (mean x - mean y)²), with 1/n moments as in Lin (1989)."""
    mx, my = x.mean(axis=axis, keepdims=True), y.mean(axis=axis, keepdims=True)
    covariance = ((x - mx) * (y - my)).mean(axis=axis)
    return ratio(2 * covariance, x.var(axis=axis) + y.var(axis=axis) + ((mx - my) ** 2).squeeze(axis=axis))


def bland_altman(
    runs: pd.DataFrame,
    first: str = "online",
    second: str = "rerun",
    metric: str = "test_loss",
    model: str | None = None,
) -> pd.DataFrame:
    """One row for each configuration whose two runs completed: model, config_index, replicate, mean, difference."""
    both = pairs(runs, first, second, model)
    a, b = both[f"{metric}_{first}"], both[f"{metric}_{second}"]
    return both[IDENTITY].assign(mean=(a + b) / 2, difference=b - a).dropna().reset_index(drop=True)


def compare_arms(
    runs: pd.DataFrame,
    first: str = "online",
    second: str = "rerun",
    metric: str = "test_loss",
    model: str | None = None,
    margin: float | None = None,
    *,
    seed: int = 0,
) -> Diagonal | NotComputable:
    """Paired comparison of two arms by ``metric``; ``margin`` is usually the seed noise of the grid's replicates."""
    absent = missing_arms(runs, first, second, model=model)
    if absent:
        return absent
    both = pairs(runs, first, second, model)
    complete = both[[f"{metric}_{first}", f"{metric}_{second}"]].notna().all(axis=1)
    x, y = (both.loc[complete, f"{metric}_{arm}"].to_numpy(dtype=float) for arm in (first, second))
    n = len(x)
    if n < 2:
        return NotComputable(
            f"{n} configuration{'s' * (n != 1)} with both {first} and {second} completed: a paired comparison needs two"
        )
    difference = y - x
    spread = float(difference.std(ddof=1))
    mean = bootstrap(difference, np.mean, seed=seed)
    tie = margin or 0.0
    tost = None
    if margin is not None and margin > 0:
        tost = float(ttost_paired(y, x, -margin, margin)[0]) if spread > 0 else float(abs(mean.value) >= margin)
    correlates = float(x.std()) > 0 and float(y.std()) > 0
    return Diagonal(
        first=first,
        second=second,
        metric=metric,
        n=n,
        diverged=int((~complete).sum()),
        mean_difference=mean,
        median_difference=bootstrap(difference, np.median, seed=seed),
        standard_deviation=spread,
        margin=margin,
        better=int((difference < -tie).sum()),
        tied=int((np.abs(difference) <= tie).sum()),
        worse=int((difference > tie).sum()),
        tost_p=tost,
        equivalent=None if tost is None else tost < 0.05,
        concordance=bootstrap((x, y), lin_concordance, seed=seed),
        pearson=float(np.corrcoef(x, y)[0, 1]) if correlates else float("nan"),
        limits_of_agreement=(mean.value - 1.96 * spread, mean.value + 1.96 * spread),
    )
