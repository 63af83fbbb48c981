from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.frames import NotComputable, positions
from analysis.statistics.region import (
    Region,
    concentration,
    find_region,
    region_points,
    region_shares,
    region_stability,
    stricter,
)
from analysis.study import Study
from tests.analysis.synthetic import BOX, Truth, make_runs

LOW, WIDTH = np.array([-5.5, 0.0]), np.array([3.0, 0.8])
CENTRED = Truth(optimum={"mlp-64": (0.5, 0.5)})  # the optimum is a cell of a 5 × 5 grid


def region_of(runs: pd.DataFrame, metric: str = "t2_loss") -> Region:
    region = find_region(runs, "mlp-64", dict(BOX), metric)
    assert isinstance(region, Region)
    return region


def ellipse(region: Region, truth: Truth) -> float:
    """The area of {Σ c_i (u_i - u*_i)² ≤ margin} in box units."""
    return float(np.pi * region.margin / np.sqrt(np.prod(truth.curvature)))


def test_the_region_is_the_ellipse_of_the_margin() -> None:
    region = region_of(make_runs(CENTRED, grid=(9, 9), grid_replicates=5))
    assert region.best == {"log10_l2": -4.0, "input_noise_std": 0.4}
    assert region.margin == pytest.approx(region.seed_noise * (1 + 1 / np.sqrt(5)))
    assert region.volume == pytest.approx(ellipse(region, CENTRED), rel=0.2)
    assert region.optimum["log10_l2"] == pytest.approx(-4.0, abs=0.3)  # the flat direction
    assert region.optimum["input_noise_std"] == pytest.approx(0.4, abs=0.05)
    assert region.discriminates
    # Its ends along the sensitive axis, just inside and just outside.
    reach = np.sqrt(region.margin / CENTRED.curvature[1])
    points = LOW + np.array([[0.5, 0.5 + 0.7 * reach], [0.5, 0.5 + 1.4 * reach], [np.nan, 0.5]]) * WIDTH
    np.testing.assert_array_equal(region.contains(points), [True, False, False])
    distance = region.distance(points)
    assert distance[0] == 0.0
    assert distance[1] == pytest.approx(0.4 * reach, abs=0.02)
    assert np.isnan(distance[2])


def test_the_region_ends_at_the_box() -> None:
    at_edge = Truth(optimum={"mlp-64": (0.5, 1.0)})
    region = region_of(make_runs(at_edge, grid_replicates=5))
    points = np.array([[-4.0, 0.8], [-4.0, np.float64(np.float32(0.8))], [-4.0, 0.81]])
    np.testing.assert_array_equal(region.contains(points), [True, True, False])
    distance = region.distance(points)
    assert distance[1] == 0.0
    assert 0.01 <= distance[2] <= 0.04


def test_a_flat_surface_has_a_region_that_does_not_discriminate() -> None:
    region = region_of(make_runs(Truth(curvature=(0.001, 0.002))))
    assert region.volume > 0.9
    assert not region.discriminates


def test_a_coarse_grid_widens_the_region_and_the_stricter_one_is_not_widened() -> None:
    between = Truth(optimum={"mlp-64": (0.5, 0.62)})  # half a cell beside the grid
    region = region_of(make_runs(between, grid_replicates=5))
    strict = stricter(region)
    assert region.volume > 2 * ellipse(region, between)
    assert strict.volume == pytest.approx(ellipse(strict, between), rel=0.35)
    assert strict.optimum == region.optimum


def test_shares_of_starts_and_ends() -> None:
    truth = dataclasses.replace(CENTRED, stay=0.2, end_spread=0.02, diverged=0.0)
    runs = make_runs(truth, configurations=400, grid_replicates=5)
    region = region_of(runs)
    shares = region_shares(runs, region)
    assert not isinstance(shares, NotComputable)
    assert shares.n == 400
    assert shares.start.low <= region.volume <= shares.start.high
    expected = 0.8 * 0.98 + 0.2 * region.volume  # nearly all that move end inside
    assert shares.end.low <= expected <= shares.end.high
    assert shares.end_to_volume.value == pytest.approx(shares.end.value / region.volume)
    assert shares.end_to_start.value == pytest.approx(shares.end.value / shares.start.value)
    assert shares.entered > 250
    assert shares.left <= 20
    assert shares.p_value < 1e-6
    points = region_points(runs, region)
    assert points["end_inside"].mean() == shares.end.value
    assert shares.entered - shares.left == points["end_inside"].sum() - points["start_inside"].sum()


def test_a_run_that_diverges_ends_outside_and_a_failed_one_does_not_count(study: Study) -> None:
    runs = study.runs.copy()
    region = region_of(runs)
    online = runs.index[(runs["arm"] == "online") & (runs["model"] == "mlp-64")]
    runs.loc[online[:12], "status"] = "diverged"
    runs.loc[online[12:15], "status"] = "failed"
    runs.loc[online[15:], ["log10_l2_final", "input_noise_std_final"]] = [-4.0, 0.4]
    shares = region_shares(runs, region)
    assert not isinstance(shares, NotComputable)
    assert shares.n == 21
    assert shares.end.value == pytest.approx(9 / 21)


def test_a_method_that_does_not_move_is_not_credited() -> None:
    runs = make_runs(dataclasses.replace(CENTRED, stay=1.0), configurations=300)
    shares = region_shares(runs, region_of(runs))
    assert not isinstance(shares, NotComputable)
    assert shares.start == shares.end
    assert shares.end_to_volume.low <= 1.0 <= shares.end_to_volume.high
    assert shares.p_value == 1.0
    curve = concentration(runs, region_of(runs))
    np.testing.assert_array_equal(curve["start"], curve["end"])
    assert np.abs(curve["start"] - curve["volume"]).max() < 0.09  # the diagonal: chance


def test_concentration_needs_no_threshold() -> None:
    runs = make_runs(dataclasses.replace(CENTRED, stay=0.0, end_spread=0.03), configurations=300)
    curve = concentration(runs, region_of(runs)).set_index("volume")
    assert curve["end"].loc[0.1] > 0.95
    assert curve["start"].loc[0.1] == pytest.approx(0.1, abs=0.06)
    assert curve.loc[1.0].tolist() == [1.0, 1.0]


def test_coverage_of_the_share_of_ends() -> None:
    """The interval holds the law's own share in about 95 % of the studies with the same grid."""
    truth = dataclasses.replace(CENTRED, stay=0.3)
    region = region_of(make_runs(truth))
    many = make_runs(truth, configurations=20_000, arms=("online",), seed=99)
    expected = region.contains(positions(many, region.surface.names, "final")).mean()
    covered = []
    for k in range(60):
        shares = region_shares(make_runs(truth, configurations=64, arms=("online",), seed=k), region)
        assert not isinstance(shares, NotComputable)
        covered.append(shares.end.low <= expected <= shares.end.high)
    assert np.mean(covered) >= 0.87


@pytest.mark.slow
def test_coverage_of_the_volume_over_redrawn_surfaces() -> None:
    covered = []
    for k in range(40):
        runs = make_runs(CENTRED, grid_replicates=3, seed=k)
        region = region_of(runs)
        stability = region_stability(runs, region)
        covered.append(stability.volume.low <= ellipse(region, CENTRED) <= stability.volume.high)
    assert np.mean(covered) >= 0.8


def test_redrawn_surfaces_follow_the_seed(study: Study) -> None:
    region = region_of(study.runs)
    first = region_stability(study.runs, region, seed=1, draws=50)
    assert first == region_stability(study.runs, region, seed=1, draws=50)
    assert first != region_stability(study.runs, region, seed=2, draws=50)
    assert first.volume.low <= region.volume <= first.volume.high


def test_regions_of_test_metrics_stand_beside_it(study: Study) -> None:
    """The test loss of the synthetic study is its T2 loss and a constant."""
    t2, test = region_of(study.runs), region_of(study.runs, "test_loss")
    assert test.best_value - t2.best_value == pytest.approx(0.02, abs=0.005)
    # Changing test values changes nothing that the T2 region says.
    spoilt = study.runs.assign(test_loss=1.0, test_error=0.5)
    assert region_of(spoilt).threshold == t2.threshold
    assert region_of(spoilt).volume == t2.volume


def test_no_region_where_every_cell_diverged_in_part() -> None:
    runs = make_runs(arms=("grid",))
    runs.loc[runs["replicate"] == 0, "status"] = "diverged"
    found = find_region(runs, "mlp-64", dict(BOX))
    assert isinstance(found, NotComputable)
    assert "every grid cell" in found.reason


@pytest.mark.parametrize("dims", [1, 3])
def test_boxes_of_other_dimensions(dims: int) -> None:
    box = {f"h{i}": (0.0, 2.0) for i in range(dims)}
    truth = Truth(optimum={"mlp-64": (0.5,) * dims}, curvature=(1.0,) * dims)
    runs = make_runs(truth, box=box, grid=(5,) * dims)
    region = find_region(runs, "mlp-64", box)
    assert isinstance(region, Region)
    radius = np.sqrt(region.margin)
    expected = {1: 2 * radius, 3: 4 / 3 * np.pi * radius**3}[dims]
    assert region.volume == pytest.approx(expected, rel=0.35)
