from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable
from analysis.statistics.equal_compute import at_equal_compute, compute_curve, expected_best
from analysis.study import Study
from tests.analysis.synthetic import Truth, make_runs


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8])
def test_expected_best_is_the_mean_over_all_draws(m: int) -> None:
    """Choose by one column, report another: enumerated over every subset of m of the eight runs."""
    rng = np.random.default_rng(0)
    select, report = rng.normal(size=(2, 8))
    every = [report[min(subset, key=lambda i: select[i])] for subset in combinations(range(8), m)]
    assert expected_best(select, report, m) == pytest.approx(np.mean(every))


def test_expected_best_between_two_numbers_of_draws_and_beyond_the_runs() -> None:
    select = report = np.arange(1.0, 11.0)
    two, three = expected_best(select, report, 2), expected_best(select, report, 3)
    assert expected_best(select, report, 2.25) == pytest.approx(0.75 * two + 0.25 * three)
    assert expected_best(select, report, 1) == pytest.approx(5.5)
    assert expected_best(select, report, 10) == 1.0
    assert np.isnan(expected_best(select, report, 11))
    stacked = expected_best(np.stack([select, -select]), np.stack([report, report]), 10)
    np.testing.assert_array_equal(stacked, [1.0, 10.0])


def test_the_selection_never_reads_the_reported_column() -> None:
    select, report = np.array([0.1, 0.2, 0.3]), np.array([5.0, 1.0, 0.0])
    assert expected_best(select, report, 3) == 5.0


def test_coverage_of_the_expected_best_of_uniform_losses() -> None:
    """Uniform losses on [0, 1]: the expected best of m is 1 / (m + 1)."""
    rng = np.random.default_rng(0)
    covered: dict[int, list[bool]] = {1: [], 2: [], 4: []}
    runs = make_runs(configurations=64, arms=("initial", "online", "rerun"))
    for k in range(16):
        runs["t2_loss"] = runs["test_loss"] = rng.random(len(runs))
        curve = compute_curve(runs, "mlp-64", seed=k)
        assert isinstance(curve, pd.DataFrame)
        for m in covered:  # three methods are three samples
            rows = curve[curve["draws"] == m]
            covered[m] += ((rows["low"] <= 1 / (m + 1)) & (rows["high"] >= 1 / (m + 1))).tolist()
    for m, hits in covered.items():
        assert np.mean(hits) >= 0.83, m


def test_the_curve_counts_compute_in_fixed_trainings(study: Study) -> None:
    curve = compute_curve(study.runs, "mlp-64")
    assert isinstance(curve, pd.DataFrame)
    by_method = {m: part.reset_index(drop=True) for m, part in curve.groupby("method")}
    assert set(by_method) == {"random search", "online", "online + rerun"}
    np.testing.assert_array_equal(by_method["random search"]["trainings"], by_method["random search"]["draws"])
    assert by_method["online"]["trainings"][0] == pytest.approx(1.12, abs=0.03)
    assert by_method["online + rerun"]["trainings"][0] == pytest.approx(2.12, abs=0.05)
    assert curve["draws"].max() == 12  # half of the configurations
    assert by_method["random search"]["expected"].is_monotonic_decreasing
    first = by_method["random search"].iloc[0]
    initial = study.runs.query("arm == 'initial' and model == 'mlp-64'")["test_loss"]
    assert first["expected"] == pytest.approx(initial.mean())


def test_at_equal_compute_t1t2_wins_where_it_reaches_the_optimum_and_loses_where_it_stays() -> None:
    good = at_equal_compute(make_runs(Truth(stay=0.0), configurations=64), "mlp-64")
    assert isinstance(good, pd.DataFrame)
    assert good["method"].tolist() == ["online", "online + rerun"]
    assert (good["high"] < 0).all()
    np.testing.assert_allclose(good["difference"], good["expected"] - good["random"])
    stays = at_equal_compute(make_runs(Truth(stay=1.0), configurations=64), "mlp-64")
    assert isinstance(stays, pd.DataFrame)
    assert stays["low"][1] > 0  # two trainings bought one random run


def test_diverged_runs_are_chosen_last_and_count_as_the_worst() -> None:
    runs = make_runs(configurations=4)
    index = runs.index[runs["arm"] == "initial"]
    runs.loc[index[:2], ["t2_loss", "test_loss"]] = np.nan
    runs.loc[index[:2], "status"] = "diverged"
    worst = runs.loc[runs["arm"] != "grid", "test_loss"].max()
    expected = (2 * worst + runs.loc[index[2:], "test_loss"].sum()) / 4
    curve = compute_curve(runs, "mlp-64")
    assert isinstance(curve, pd.DataFrame)
    assert curve["expected"][0] == pytest.approx(expected)


def test_the_seed_decides_the_interval(study: Study) -> None:
    first, again, other = (at_equal_compute(study.runs, "mlp-64", seed=s) for s in (1, 1, 2))
    assert isinstance(first, pd.DataFrame)
    assert isinstance(again, pd.DataFrame)
    assert isinstance(other, pd.DataFrame)
    pd.testing.assert_frame_equal(first, again)
    assert not first["low"].equals(other["low"])


def test_what_cannot_be_computed_says_why() -> None:
    for runs, words in (
        (make_runs(arms=("initial", "online")), "in the arm rerun"),
        (make_runs(configurations=1), "fewer than two configurations"),
    ):
        for function in (compute_curve, at_equal_compute):
            found = function(runs, "mlp-64")
            assert isinstance(found, NotComputable)
            assert words in found.reason
