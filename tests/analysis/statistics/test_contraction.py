from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable
from analysis.statistics.contraction import clamped, contraction_ratios, distance_over_steps
from analysis.statistics.region import Region, find_region
from analysis.study import Study, load_study
from tests.analysis.synthetic import BOX, Truth, make_runs, write_study

MOVED = Truth(stay=0.0, end_spread=0.05)
RATIO = 0.05 * np.sqrt(12)  # the spread of the ends over that of a uniform start


def test_contraction_of_each_hyperparameter_and_direction() -> None:
    runs = make_runs(MOVED, configurations=2000)
    region = find_region(runs, "mlp-64", dict(BOX))
    assert isinstance(region, Region)
    frame = contraction_ratios(runs, "mlp-64", dict(BOX), region.surface)
    assert isinstance(frame, pd.DataFrame)
    assert frame["along"].tolist() == ["log10_l2", "input_noise_std", "direction 1", "direction 2"]
    np.testing.assert_allclose(frame["std_ratio"], RATIO, rtol=0.06)
    normal_iqr = 1.349 * 0.05 / 0.5
    np.testing.assert_allclose(frame["iqr_ratio"], normal_iqr, rtol=0.1)
    assert (frame["std_ratio_low"] < RATIO).all()
    assert (frame["std_ratio_high"] > RATIO).all()


def test_a_flat_direction_that_does_not_contract_is_seen() -> None:
    runs = make_runs(MOVED, configurations=200)
    runs["log10_l2_final"] = runs["log10_l2_initial"]  # λ stays, n0 contracts
    region = find_region(runs, "mlp-64", dict(BOX))
    assert isinstance(region, Region)
    frame = contraction_ratios(runs, "mlp-64", dict(BOX), region.surface)
    assert isinstance(frame, pd.DataFrame)
    ratio = frame.set_index("along")["std_ratio"]
    assert ratio["log10_l2"] == pytest.approx(1.0)
    assert ratio["direction 1"] < 0.3  # sensitive: n0
    assert ratio["direction 2"] > 0.95  # flat: λ


def test_coverage_of_the_contraction() -> None:
    covered = []
    for k in range(50):
        frame = contraction_ratios(make_runs(MOVED, configurations=48, arms=("online",), seed=k), "mlp-64", dict(BOX))
        assert isinstance(frame, pd.DataFrame)
        covered += [
            low <= RATIO <= high for low, high in zip(frame["std_ratio_low"], frame["std_ratio_high"], strict=True)
        ]
    assert np.mean(covered) >= 0.86


def test_the_seed_decides_the_interval(study: Study) -> None:
    first, again, other = (contraction_ratios(study.runs, "mlp-64", study.boxes, seed=s) for s in (1, 1, 2))
    assert isinstance(first, pd.DataFrame)
    assert isinstance(again, pd.DataFrame)
    assert isinstance(other, pd.DataFrame)
    pd.testing.assert_frame_equal(first, again)
    assert not first["std_ratio_low"].equals(other["std_ratio_low"])


def test_ends_at_a_bound_are_counted_inside_and_outside_the_region() -> None:
    at_edge = Truth(optimum={"mlp-64": (0.5, 1.0)}, stay=0.0)  # the optimum lies on the upper bound of n0
    runs = make_runs(at_edge, configurations=40)
    region = find_region(runs, "mlp-64", dict(BOX))
    online = runs.index[runs["arm"] == "online"]
    runs.loc[online, "input_noise_std_final"] = 0.5
    runs.loc[online, "log10_l2_final"] = -4.0
    runs.loc[online[:10], "input_noise_std_final"] = np.float64(np.float32(0.8))  # as a float32 run records its bound
    runs.loc[online[10:14], "input_noise_std_final"] = 0.0
    assert isinstance(region, Region)
    frame = clamped(runs, "mlp-64", dict(BOX), region)
    assert isinstance(frame, pd.DataFrame)
    counts = frame.set_index(["hyperparameter", "side"])
    assert counts["count"].to_dict() == {
        ("log10_l2", "low"): 0,
        ("log10_l2", "high"): 0,
        ("input_noise_std", "low"): 4,
        ("input_noise_std", "high"): 10,
    }
    assert counts.loc[("input_noise_std", "high"), "outside_region"] == 0
    assert counts.loc[("input_noise_std", "low"), "outside_region"] == 4
    assert counts.loc[("input_noise_std", "high"), "share"] == 0.25


def test_every_layer_is_looked_at(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", models=("mlp-64",), layers=2))
    frame = clamped(study.runs, "mlp-64", study.boxes)
    assert isinstance(frame, pd.DataFrame)
    assert frame["hyperparameter"].unique().tolist() == ["log10_l2_layer1", "log10_l2_layer2", "input_noise_std"]


@pytest.mark.parametrize("layers", [0, 2])
def test_the_binned_distance_is_the_distance(tmp_path: Path, layers: int) -> None:
    study = load_study(write_study(tmp_path / "it's", models=("mlp-64",), configurations=60, layers=layers))
    region = find_region(study.runs, "mlp-64", study.boxes)
    assert isinstance(region, Region)
    frame = distance_over_steps(study, region)
    assert isinstance(frame, pd.DataFrame)
    assert frame["step"].tolist() == [100 * k for k in range(11)]
    assert (frame["n"] == 60).all()
    assert frame["mean"][:6].is_monotonic_decreasing
    steps = study.trajectories.query("arm == 'online'").sort_values(["step", "run_id"])
    if layers:
        steps = steps.assign(log10_l2=steps[["log10_l2_layer1", "log10_l2_layer2"]].mean(axis=1))
    exact = steps.assign(d=region.distance(steps[["log10_l2", "input_noise_std"]].to_numpy())).groupby("step")["d"]
    np.testing.assert_allclose(frame["mean"][1:], exact.mean(), atol=0.005)
    np.testing.assert_allclose(frame["median"][1:], exact.median(), atol=0.01)
    np.testing.assert_allclose(frame["share_inside"][1:], exact.agg(lambda d: (d == 0).mean()), atol=0.04)


def test_what_cannot_be_computed_says_why() -> None:
    boxes = dict(BOX)
    one = make_runs(configurations=1)
    reasons = [
        contraction_ratios(one, "mlp-64", boxes),
        clamped(make_runs(arms=("initial",)), "mlp-64", boxes),
        contraction_ratios(make_runs(Truth(diverged=1.0)), "mlp-64", boxes),
        contraction_ratios(make_runs(), "mlp-64", {}),
        clamped(make_runs(), "mlp-64", {}),
    ]
    for found, words in zip(
        reasons,
        [
            "a spread needs two",
            "no completed run of model mlp-64 in the arm online",
            "no completed run",
            "no hyperparameter of model mlp-64 varies",
            "has a box",
        ],
        strict=True,
    ):
        assert isinstance(found, NotComputable)
        assert words in found.reason


def test_equal_starts_have_no_ratio() -> None:
    runs = make_runs(MOVED).assign(log10_l2_initial=-4.0)
    frame = contraction_ratios(runs, "mlp-64", dict(BOX))
    assert isinstance(frame, pd.DataFrame)
    assert np.isnan(frame["std_ratio"][0])
    assert frame["std_ratio"][1] < 0.4
