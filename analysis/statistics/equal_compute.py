"""Is tuning worth its time? T1-T2 against random search that may spend the same compute.

Compute is counted in trainings with fixed hyperparameters, from the measured times. Every choice is made on the T2
loss; the test loss of the chosen run is only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Floats, NotComputable, missing_arms, side_by_side
from analysis.statistics.intervals import Estimate, bootstrap
from analysis.statistics.records import Row, bounded, framed

_DRAWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MANY = 1000  # above so many configurations fewer resamples suffice
RANDOM, ONLINE, BOTH = "random search", "online", "online + rerun"


def expected_best(select: Floats, report: Floats, m: float, axis: int = -1) -> Floats:
    """Expected ``report`` of the draw with the lowest ``select`` among ``m`` of the n runs, without replacement.

    The unbiased order-statistic estimator: the i-th best of n is the best of m draws with probability
    C(n - i, m - 1) / C(n, m) (Tang et al. 2020 on Dodge et al. 2019, whose draws are with replacement and biased). A
    fractional m interpolates between its neighbours. Works along the last axis; NaN where m > n.
    """
    select, report = np.asarray(select, dtype=float), np.asarray(report, dtype=float)
    assert axis in (-1, select.ndim - 1)
    n = select.shape[-1]
    whole = int(np.floor(m))
    if m > n or m < 1:
        return np.full(select.shape[:-1], np.nan)
    ordered = np.take_along_axis(report, np.argsort(select, axis=-1, kind="stable"), axis=-1)
    weights = _best_of(n, whole)
    if m > whole:
        weights = (whole + 1 - m) * weights + (m - whole) * _best_of(n, whole + 1)
    return np.asarray(ordered @ weights)


def _best_of(n: int, m: int) -> Floats:
    i = np.arange(1, n)
    ratios = np.maximum(n - i - m + 1, 0) / (n - i)  # of C(n - i - 1, m - 1) to C(n - i, m - 1)
    return np.asarray(m / n * np.concatenate([[1.0], np.cumprod(ratios)]))


def _arms(runs: pd.DataFrame, model: str, metric: str) -> pd.DataFrame | NotComputable:
    """One row a configuration that has all three arms; a diverged run is chosen last and counts as the worst run."""
    arms = ("initial", "online", "rerun")
    absent = missing_arms(runs, *arms, model=model)
    if absent:
        return absent
    wide = side_by_side(runs, arms, model)
    if len(wide) < 2:
        return NotComputable(f"fewer than two configurations of model {model} have all of initial, online and rerun")
    worst = np.nanmax(wide[[f"{metric}_{arm}" for arm in arms]].to_numpy(dtype=float))
    for arm in arms:
        wide[f"{metric}_{arm}"] = wide[f"{metric}_{arm}"].fillna(worst)
        wide[f"t2_loss_{arm}"] = wide[f"t2_loss_{arm}"].fillna(np.inf)
    return wide


def _costs(wide: pd.DataFrame, *, seed: int) -> dict[str, Estimate]:
    """The mean cost of each of T1-T2's two methods in fixed trainings."""
    fixed, online, rerun = (wide[f"train_time_s_{a}"].to_numpy(dtype=float) for a in ("initial", "online", "rerun"))
    return {
        ONLINE: bootstrap((online, fixed), _ratio, seed=seed),
        BOTH: bootstrap((online + rerun, fixed), _ratio, seed=seed),
    }


def _ratio(above: Floats, below: Floats, axis: int = -1) -> Floats:
    return np.asarray(above.mean(axis=axis) / below.mean(axis=axis))


def compute_curve(
    runs: pd.DataFrame, model: str, metric: str = "test_loss", *, seed: int = 0
) -> pd.DataFrame | NotComputable:
    """Expected best ``metric`` over compute, chosen on the T2 loss, for random search and for T1-T2 from random starts.

    Columns: method (``random search``: fixed random hyperparameters; ``online``: T1-T2; ``online + rerun``: T1-T2 and
    a training with its final values), draws, trainings (draws times the method's measured cost), expected with low and
    high (bootstrap over configurations). Draws go up to half of the configurations.
    """
    wide = _arms(runs, model, metric)
    if isinstance(wide, NotComputable):
        return wide
    cost = _costs(wide, seed=seed)
    resamples = 2000 if len(wide) <= _MANY else 300
    rows: list[dict[str, Any]] = []
    for method, arm in ((RANDOM, "initial"), (ONLINE, "online"), (BOTH, "rerun")):
        select, report = (wide[f"{c}_{arm}"].to_numpy(dtype=float) for c in ("t2_loss", metric))
        price = cost[method].value if method in cost else 1.0
        for m in _DRAWS:
            if m == 1 or 2 * m <= len(wide):
                best = bootstrap((select, report), partial(expected_best, m=m), seed=seed, resamples=resamples)
                row = {"method": method, "draws": m, "trainings": m * price}
                rows.append(row | bounded("expected", best, prefix=""))
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class EqualCompute(Row):
    """One start of T1-T2 against random search that may spend the same compute."""

    bounds_of = "difference"

    method: str  # ``online``, or ``online + rerun``
    cost: Estimate  # in trainings with fixed hyperparameters
    expected: float  # the method's mean metric
    random: float  # the expected best of ``cost`` random runs, chosen on T2
    difference: Estimate  # expected - random, bootstrap over configurations jointly; negative: T1-T2 wins
    n: int


def equal_compute(
    runs: pd.DataFrame, model: str, metric: str = "test_loss", *, seed: int = 0
) -> tuple[EqualCompute, ...] | NotComputable:
    """One start of T1-T2, without and with its rerun, against random search for the same measured compute."""
    wide = _arms(runs, model, metric)
    if isinstance(wide, NotComputable):
        return wide
    rows = []
    select, report = (wide[f"{c}_initial"].to_numpy(dtype=float) for c in ("t2_loss", metric))
    for (method, cost), arm in zip(_costs(wide, seed=seed).items(), ("online", "rerun"), strict=True):
        price = max(1.0, cost.value)  # a measured cost below one training still pays for one
        mine = wide[f"{metric}_{arm}"].to_numpy(dtype=float)
        rows.append(
            EqualCompute(
                method=method,
                cost=cost,
                expected=float(mine.mean()),
                random=float(expected_best(select, report, price)),
                difference=bootstrap((select, report, mine), partial(_gap, m=price), seed=seed),
                n=len(wide),
            )
        )
    return tuple(rows)


at_equal_compute = framed(equal_compute)


def _gap(select: Floats, report: Floats, mine: Floats, axis: int = -1, *, m: float) -> Floats:
    return np.asarray(mine.mean(axis=axis) - expected_best(select, report, m))
