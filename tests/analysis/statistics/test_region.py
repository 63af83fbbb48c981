from __future__ import annotations

import numpy as np
import pytest

from analysis.frames import NotComputable
from analysis.statistics.region import Region, find_region, stricter
from analysis.study import Study
from tests.analysis.statistics.regions import CENTRED, ellipse, region_of
from tests.analysis.synthetic import BOX, Truth, make_runs

LOW, WIDTH = np.array([-5.5, 0.0]), np.array([3.0, 0.8])


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


def test_its_extents_are_the_ends_of_the_ellipse() -> None:
    region = region_of(make_runs(CENTRED, grid=(9, 9), grid_replicates=5))
    low, high = region.extents()["input_noise_std"]
    reach = 0.8 * np.sqrt(region.margin / CENTRED.curvature[1])
    assert (low, high) == pytest.approx((0.4 - reach, 0.4 + reach), abs=0.02)
