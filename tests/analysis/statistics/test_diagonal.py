from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.frames import NotComputable
from analysis.statistics.diagonal import Diagonal, bland_altman, compare_arms, lin_concordance
from analysis.study import Study
from tests.analysis.synthetic import Truth, make_runs


def paired(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Online losses ``x`` and rerun losses ``y`` of the same configurations; NaN is a diverged run."""
    sides = [
        pd.DataFrame({"config_index": np.arange(len(v)), "arm": arm, "test_loss": v})
        for arm, v in (("online", x), ("rerun", y))
    ]
    frame = pd.concat(sides, ignore_index=True)
    return frame.assign(model="m", replicate=0, status=np.where(frame["test_loss"].isna(), "diverged", "completed"))


def compared(runs: pd.DataFrame, **options: object) -> Diagonal:
    found = compare_arms(runs, **options)  # type: ignore[arg-type]
    assert isinstance(found, Diagonal)
    return found


def test_lins_concordance() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert lin_concordance(x, x) == pytest.approx(1.0)
    assert lin_concordance(x, -x + 5) == pytest.approx(-1.0)
    # Lin (1989): 2 s_xy / (s_x² + s_y² + (x̄ - ȳ)²), with variance 1.25 and a shift of 1
    assert lin_concordance(x, x + 1) == pytest.approx(2 * 1.25 / (1.25 + 1.25 + 1))
    assert np.corrcoef(x, x + 1)[0, 1] == pytest.approx(1.0)  # which Pearson's r does not see


def test_paired_differences_and_their_counts() -> None:
    x = np.array([1.0, 1.0, 1.0, 1.0, 1.0, np.nan])
    y = np.array([0.8, 0.95, 1.0, 1.05, 1.4, 1.0])
    found = compared(paired(x, y), margin=0.1)
    assert (found.n, found.diverged) == (5, 1)
    assert (found.better, found.tied, found.worse) == (1, 3, 1)
    assert found.mean_difference.value == pytest.approx(0.04)
    assert found.median_difference.value == pytest.approx(0.0)
    spread = np.std(y[:5] - 1, ddof=1)
    assert found.limits_of_agreement == pytest.approx((0.04 - 1.96 * spread, 0.04 + 1.96 * spread))
    assert np.isnan(found.pearson)  # x does not vary
    frame = bland_altman(paired(x, y))
    np.testing.assert_allclose(frame["difference"], y[:5] - 1)
    np.testing.assert_allclose(frame["mean"], (y[:5] + 1) / 2)


def test_equivalence_is_the_two_one_sided_tests() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1, 0.1, 30)
    y = x + rng.normal(0.002, 0.01, 30)
    found = compared(paired(x, y), margin=0.008)
    d = y - x
    se = d.std(ddof=1) / np.sqrt(30)
    expected = max(stats.t.sf((d.mean() + 0.008) / se, 29), stats.t.cdf((d.mean() - 0.008) / se, 29))
    assert found.tost_p == pytest.approx(expected)
    assert found.equivalent == (expected < 0.05)
    assert compared(paired(x, y)).tost_p is None
    assert compared(paired(x, y)).equivalent is None


def test_equivalence_is_claimed_wrongly_in_five_percent_at_most() -> None:
    """The mean difference is exactly the margin: not equivalent, and only 5 % of the studies may say so."""
    rng = np.random.default_rng(0)
    wrong = []
    for _ in range(60):
        x = rng.normal(1, 0.1, 25)
        equivalent = compared(paired(x, x + rng.normal(0.01, 0.02, 25)), margin=0.01).equivalent
        assert equivalent is not None
        wrong.append(equivalent)
    assert np.mean(wrong) <= 0.12


def test_coverage_of_the_mean_difference_and_the_concordance() -> None:
    """Bivariate normal with correlation ρ, unit variances and shift δ: Lin's coefficient is 2ρ / (2 + δ²)."""
    rng = np.random.default_rng(0)
    rho, shift = 0.8, 0.3
    truth = 2 * rho / (2 + shift**2)
    mean, concordance = [], []
    for k in range(60):
        x, e = rng.normal(size=(2, 50))
        y = rho * x + np.sqrt(1 - rho**2) * e + shift
        found = compared(paired(x, y), seed=k)
        mean.append(found.mean_difference.low <= shift <= found.mean_difference.high)
        concordance.append(found.concordance.low <= truth <= found.concordance.high)
    assert np.mean(mean) >= 0.87
    assert np.mean(concordance) >= 0.85


def test_the_seed_decides_the_interval(study: Study) -> None:
    first, again, other = (compared(study.runs, model="mlp-64", seed=s) for s in (1, 1, 2))
    assert first == again
    assert first.mean_difference.value == other.mean_difference.value
    assert first.mean_difference.low != other.mean_difference.low


def test_online_bias_is_found_and_models_are_kept_apart(study: Study) -> None:
    runs = make_runs(Truth(online_bias=0.01), configurations=300)
    found = compared(runs, model="mlp-64", margin=0.005)
    assert found.mean_difference.low <= -0.01 <= found.mean_difference.high
    assert not found.equivalent
    both = compared(study.runs)
    assert both.n == 48
    assert compared(study.runs, model="mlp-64").n == 24
    assert bland_altman(study.runs, model="mlp-64")["model"].eq("mlp-64").all()


def test_the_order_of_the_rows_does_not_matter(study: Study) -> None:
    shuffled = study.runs.sample(frac=1, random_state=0)
    assert compared(shuffled, model="mlp-64") == compared(study.runs, model="mlp-64")


def test_identical_arms_are_equivalent() -> None:
    x = np.linspace(0.2, 0.3, 10)
    found = compared(paired(x, x), margin=0.01)
    assert found.equivalent
    assert found.concordance.value == pytest.approx(1.0)
    assert (found.mean_difference.low, found.mean_difference.high) == (0.0, 0.0)


def test_what_cannot_be_computed_says_why(study: Study) -> None:
    for runs, words in (
        (study.runs.query("arm != 'rerun'"), "no completed run in the arm rerun"),
        (study.runs.query("config_index == 0"), None),
        (study.runs.query("config_index == 0 and model == 'mlp-64'"), "a paired comparison needs two"),
    ):
        found = compare_arms(runs)
        if words is None:
            assert isinstance(found, Diagonal)  # two models, one configuration each
        else:
            assert isinstance(found, NotComputable)
            assert words in found.reason
