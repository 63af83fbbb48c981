from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.frames import NotComputable, positions
from analysis.statistics.region_shares import concentration, region_points, region_shares, region_stability
from analysis.study import Study
from tests.analysis.statistics.regions import CENTRED, ellipse, region_of
from tests.analysis.synthetic import make_runs


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
    assert curve.loc[[1.0]].to_numpy().tolist() == [[1.0, 1.0]]


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
