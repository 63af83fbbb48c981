"""Confidence intervals: Wilson's for shares, the bootstrap for everything else, always from an explicit seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.frames import Floats

RESAMPLES = 2000
LARGEST_RESAMPLE = 5000  # observations in one resample; beyond it the m-out-of-n bootstrap
LARGEST_RESAMPLES = 1000  # of that many observations each
LARGEST_BCA = 500  # above, the percentile interval: the corrections vanish as 1/n and their jackknife costs n²


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value, its confidence interval [low, high] (NaN where there is none), and the number of observations."""

    value: float
    low: float
    high: float
    n: int


def unknown(n: int = 0) -> Estimate:
    """An estimate that cannot be computed from ``n`` observations: NaN, without an interval."""
    return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), n=n)


def middle(value: float, draws: Floats, n: int) -> Estimate:
    """``value`` with the interval that holds the middle 95 % of ``draws``."""
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    return Estimate(value=value, low=low, high=high, n=n)


def ratio(above: Floats, below: Floats) -> Floats:
    """``above`` over ``below``, and NaN where ``below`` is not positive."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0))


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """The share ``successes`` / ``n`` with its Wilson (1927) score interval; NaN where n = 0."""
    if n == 0:
        return unknown()
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    # Exactly 0 and 1 at the ends, where rounding leaves 1e-17.
    return Estimate(
        value=successes / n, low=float(low) if successes > 0 else 0.0, high=float(high) if successes < n else 1.0, n=n
    )


def bootstrap(
    samples: Floats | Sequence[Floats],
    statistic: Callable[..., Any],
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """``statistic`` of one sample, or of several whose rows belong together, with its bootstrap interval.

    The statistic takes the arrays and ``axis``, and reduces along it. Rows are resampled together. Up to 500 rows the
    interval is bias-corrected and accelerated (Efron 1987, :func:`scipy.stats.bootstrap`), up to 5,000 it is the
    percentile interval; above, each resample takes m = 5,000 of the n rows and the deviations are shrunk by √(m/n) (the
    m-out-of-n bootstrap, Bickel, Götze and van Zwet 1997), so that a million runs cost no more than 5,000. The interval
    is NaN below two rows, and has no width where the statistic is the same in every resample.
    """
    data = [np.asarray(s, dtype=float) for s in ([samples] if isinstance(samples, np.ndarray) else samples)]
    n = len(data[0])
    if n == 0:
        return unknown()
    value = float(statistic(*data, axis=-1))
    if n < 2:
        return replace(unknown(n), value=value)
    if n > LARGEST_RESAMPLE:
        draws = _m_out_of_n(data, statistic, seed, min(resamples, LARGEST_RESAMPLES))
        shrink = np.sqrt(LARGEST_RESAMPLE / n)
        low, high = value + shrink * (np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2]) - value)
        return Estimate(value=value, low=float(low), high=float(high), n=n)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of degenerate samples, which are handled below
        result = stats.bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=level,
            batch=max(1, 2_000_000 // n),
            method="BCa" if n <= LARGEST_BCA else "percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = result.confidence_interval
    draws = np.asarray(result.bootstrap_distribution)
    draws = draws[np.isfinite(draws)]
    if not (np.isfinite(low) and np.isfinite(high)) and draws.size and np.isfinite(value):
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def _m_out_of_n(data: list[Floats], statistic: Callable[..., Any], seed: int, resamples: int) -> Floats:
    rng = np.random.default_rng(seed)
    draws = []
    for begin in range(0, resamples, 200):
        index = rng.integers(len(data[0]), size=(min(200, resamples - begin), LARGEST_RESAMPLE))
        draws.append(np.asarray(statistic(*(d[index] for d in data), axis=-1), dtype=float))
    return np.concatenate(draws)
