from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.intervals import Estimate, bootstrap, wilson


def test_wilson_is_the_score_interval() -> None:
    n, p, z = 64, 48 / 64, 1.959963984540054
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    estimate = wilson(48, 64)
    np.testing.assert_allclose([estimate.value, estimate.low, estimate.high], [p, centre - half, centre + half])
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert wilson(10, 10).low < 1.0
    assert np.isnan(wilson(0, 0).value)


def test_the_seed_decides_the_bootstrap() -> None:
    for n in (30, 700, 6000):  # each of the three kinds of interval
        sample = np.random.default_rng(0).exponential(size=n)
        first, again, other = (bootstrap(sample, np.mean, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first != other
        assert (first.low, first.high) != (other.low, other.high)
        np.testing.assert_allclose([first.low, first.high], [other.low, other.high], rtol=0.05)


def test_the_state_of_numpys_global_generator_does_not_matter() -> None:
    sample = np.arange(20.0)
    np.random.seed(1)  # noqa: NPY002 - what the test is about
    first = bootstrap(sample, np.mean, seed=0)
    np.random.seed(2)  # noqa: NPY002
    assert bootstrap(sample, np.mean, seed=0) == first


@pytest.mark.parametrize(("n", "simulations"), [(24, 300), (700, 150)])
def test_coverage_of_the_mean(n: int, simulations: int) -> None:
    """A skewed law: the interval holds the mean in about 95 % of the samples."""
    rng = np.random.default_rng(0)
    estimates = [bootstrap(rng.exponential(size=n), np.mean, seed=k, resamples=400) for k in range(simulations)]
    covered = np.mean([e.low <= 1.0 <= e.high for e in estimates])
    assert 0.89 <= covered <= 0.985


def test_a_large_sample_gets_the_width_of_the_whole_not_of_the_resample() -> None:
    sample = np.random.default_rng(0).normal(size=100_000)
    estimate = bootstrap(sample, np.mean, seed=0)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / np.sqrt(100_000), rel=0.1)
    assert abs(estimate.value - (estimate.low + estimate.high) / 2) < 2e-4


def test_rows_are_resampled_together() -> None:
    x = np.random.default_rng(0).normal(size=50)
    paired = bootstrap((x, x + 1.0), lambda a, b, axis=-1: (b - a).mean(axis=axis), seed=0)
    assert paired.low == pytest.approx(1.0)
    assert paired.high == pytest.approx(1.0)


def test_degenerate_samples() -> None:
    assert bootstrap(np.full(10, 2.0), np.mean, seed=0) == Estimate(value=2.0, low=2.0, high=2.0, n=10)
    assert np.isnan(bootstrap(np.array([]), np.mean, seed=0).value)
    one = bootstrap(np.array([3.0]), np.mean, seed=0)
    assert one.value == 3.0
    assert np.isnan(one.low)
    assert one.n == 1
