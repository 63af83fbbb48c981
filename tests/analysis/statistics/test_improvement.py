from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable
from analysis.statistics.improvement import (
    OUTCOMES,
    BestCellComparison,
    against_best_cell,
    good_threshold,
    slides_hold,
    split,
    split_curve,
)
from analysis.statistics.region import Region, find_region
from tests.analysis.synthetic import BOX, Truth, make_runs

CENTRED = Truth(optimum={"mlp-64": (0.5, 0.5)})


def region_of(runs: pd.DataFrame) -> Region:
    region = find_region(runs, "mlp-64", dict(BOX))
    assert isinstance(region, Region)
    return region


def hand_made() -> pd.DataFrame:
    """Ten configurations: 4 good→good, 3 bad→good, 2 bad→bad (one of them diverged before), 1 good→bad at 0.5."""
    before = [0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.9, 0.9, np.nan, 0.4]
    after = [0.1, 0.2, 0.3, 0.5, 0.1, 0.1, 0.5, 0.6, 0.8, 0.51]
    rows = [(k, arm, value) for k in range(10) for arm, value in (("initial", before[k]), ("rerun", after[k]))]
    frame = pd.DataFrame(rows, columns=["config_index", "arm", "t2_loss"])
    status = np.where(frame["t2_loss"].isna(), "diverged", "completed")
    return frame.assign(model="mlp-64", replicate=0, status=status)


def test_the_four_way_split() -> None:
    frame = split(hand_made(), "mlp-64", 0.5)
    assert isinstance(frame, pd.DataFrame)
    assert tuple(frame["outcome"]) == OUTCOMES
    assert frame["count"].tolist() == [4, 3, 2, 1]
    assert (frame["n"] == 10).all()
    np.testing.assert_allclose(frame["share"], [0.4, 0.3, 0.2, 0.1])
    assert ((frame["low"] < frame["share"]) & (frame["share"] < frame["high"])).all()


def test_failed_runs_have_no_result_and_do_not_count() -> None:
    runs = hand_made()
    runs.loc[0, "status"] = "failed"
    frame = split(runs, "mlp-64", 0.5)
    assert isinstance(frame, pd.DataFrame)
    assert frame["n"].tolist() == [9] * 4
    assert frame["count"].tolist() == [3, 3, 2, 1]


def test_the_curve_passes_through_the_table_and_ends_with_everything_good() -> None:
    runs = hand_made()
    curve = split_curve(runs, "mlp-64", best=0.25, thresholds=[0.05, 0.5, 10.0])
    assert isinstance(curve, pd.DataFrame)
    np.testing.assert_allclose(curve["margin"], [-0.8, 1.0, 39.0])
    np.testing.assert_allclose(curve[list(OUTCOMES)].sum(axis=1), 1.0)
    np.testing.assert_allclose(curve.loc[1, list(OUTCOMES)].to_numpy(float), [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(curve.loc[2, list(OUTCOMES)].to_numpy(float), [0.9, 0.1, 0.0, 0.0])  # diverged stays bad
    by_margin = split_curve(runs, "mlp-64", best=0.1)
    assert isinstance(by_margin, pd.DataFrame)
    assert by_margin["margin"].min() == 0.0
    assert by_margin["margin"].max() == pytest.approx(4.0)
    without_grid = split_curve(runs, "mlp-64")
    assert isinstance(without_grid, pd.DataFrame)
    assert without_grid["threshold"].max() == 0.9


def test_thresholds_at_which_the_slides_shares_hold_are_those_whose_intervals_contain_both() -> None:
    shares = {"good→good": [0.1, 0.58, 0.62, 0.58], "bad→good": [0.2, 0.20, 0.18, 0.50]}
    curve = pd.DataFrame({"margin": [0.1, 0.2, 0.3, 0.4]})
    for name, values in shares.items():
        curve[name] = values
        curve[f"{name}_low"], curve[f"{name}_high"] = curve[name] - 0.05, curve[name] + 0.05
    assert slides_hold(curve)["margin"].tolist() == [0.2, 0.3]


def test_good_is_within_a_tenth_or_two_seed_noises_of_the_best_cell() -> None:
    quiet = good_threshold(region_of(make_runs(CENTRED)))
    assert quiet.value == pytest.approx(1.1 * quiet.best)
    noisy = region_of(make_runs(dataclasses.replace(CENTRED, own_noise=0.02)))
    threshold = good_threshold(noisy)
    assert threshold.margin == pytest.approx(2 * noisy.seed_noise)
    assert "10%" in threshold.definition


def test_the_threshold_does_not_see_the_configurations() -> None:
    runs = make_runs(CENTRED)
    before = good_threshold(region_of(runs))
    runs.loc[runs["arm"] != "grid", ["t2_loss", "test_loss"]] *= 3
    assert good_threshold(region_of(runs)) == before


def test_the_split_of_a_synthetic_study_is_that_of_its_law() -> None:
    runs = make_runs(dataclasses.replace(CENTRED, stay=0.0, end_spread=0.02), configurations=500)
    threshold = good_threshold(region_of(runs)).value
    frame = split(runs, "mlp-64", threshold)
    assert isinstance(frame, pd.DataFrame)
    u = np.random.default_rng(0).random((100_000, 2))
    noise = np.random.default_rng(1).normal(0, CENTRED.seed_noise, 100_000)
    good = np.mean(CENTRED.loss(u, "mlp-64") + noise <= threshold)
    low, high = (frame.set_index("outcome")[end] for end in ("low", "high"))
    assert low["good→good"] <= good <= high["good→good"]
    assert low["bad→good"] <= 1 - good <= high["bad→good"]


def test_online_against_the_best_cell_is_its_bias_and_its_scatter() -> None:
    truth = dataclasses.replace(CENTRED, stay=0.0, end_spread=0.03, online_bias=0.01)
    expected = 0.01 + 0.03**2 * sum(truth.curvature)  # E Σ c_i (u_i - u*_i)²
    compared = []
    for k in range(15):
        runs = make_runs(truth, configurations=40, arms=("online", "grid"), grid_replicates=4, seed=k)
        found = against_best_cell(runs, region_of(runs))
        assert isinstance(found, BestCellComparison)
        assert found.best_n == 4
        compared.append(found)
    assert np.mean([found.difference.low <= expected <= found.difference.high for found in compared]) >= 0.8
    assert not compared[-1].no_worse
    runs = make_runs(dataclasses.replace(truth, online_bias=-0.01), configurations=40)
    better = against_best_cell(runs, region_of(runs))
    assert isinstance(better, BestCellComparison)
    assert better.no_worse


def test_the_best_cell_is_chosen_on_t2() -> None:
    runs = make_runs(CENTRED)
    region = region_of(runs)
    grid = runs["arm"] == "grid"
    runs.loc[grid & (runs["config_index"] == 0), "test_loss"] = 0.0  # a far cell, best by the test loss
    found = against_best_cell(runs, region_of(runs))
    assert isinstance(found, BestCellComparison)
    cell = (runs["log10_l2_initial"] == -4.0) & (runs["input_noise_std_initial"] == 0.4)
    assert region.best == {"log10_l2": -4.0, "input_noise_std": 0.4}
    assert found.best == pytest.approx(runs.loc[grid & cell, "test_loss"].mean())


def test_what_cannot_be_computed_says_why() -> None:
    runs = make_runs(arms=("online", "grid"))
    found = split(runs, "mlp-64", 0.5), split_curve(runs, "mlp-64")
    for part in found:
        assert isinstance(part, NotComputable)
        assert "initial and rerun" in part.reason
    single = make_runs(CENTRED, grid_replicates=1)
    alone = against_best_cell(single, region_of(single))
    assert isinstance(alone, NotComputable)
    assert "one replicate" in alone.reason
