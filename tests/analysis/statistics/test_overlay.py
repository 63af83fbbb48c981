from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.frames import NotComputable
from analysis.statistics.intervals import wilson
from analysis.statistics.overlay import best_run, lie_inside, overlays, runs_beside
from analysis.statistics.region import Region, find_region
from analysis.study import Study
from tests.analysis.searches import Place, search_runs

INSIDE, OUTSIDE, BEYOND = (-3.7, 0.4), (-3.7, 0.02), (-3.7, 1.5)  # the optimum is at (-3.7, 0.4), the box ends at 0.8
PLACES: list[Place] = [
    (*INSIDE, "completed", 0.21),
    (*OUTSIDE, "completed", 0.5),
    (*INSIDE, "stopped", 0.1),
    (*INSIDE, "diverged", math.nan),
    (*BEYOND, "stopped", 0.9),
    (*INSIDE, "failed", math.nan),
]


@pytest.fixture(scope="module")
def region(study: Study) -> Region:
    found = find_region(study.runs, "mlp-64", study.boxes)
    assert isinstance(found, Region)
    return found


def test_the_share_inside_and_the_best_run(region: Region) -> None:
    rows = overlays(search_runs(PLACES), region, study="theirs")
    assert not isinstance(rows, NotComputable)
    [row] = rows
    assert (row.study, row.arm, row.n, row.stopped, row.diverged) == ("theirs", "imported", 5, 2, 1)
    assert row.inside == wilson(2, 5)  # the one that completed and the one that was stopped
    assert row.volume == region.volume
    assert (row.best_t2_loss, row.best_test_loss, row.best_distance) == (0.21, 1.21, 0.0)
    assert row.expected_t2_loss == region.surface.predict(np.array([INSIDE]))[0]


def test_which_runs_lie_inside(region: Region) -> None:
    runs = search_runs(PLACES)
    assert lie_inside(runs, region).tolist() == [True, False, True, False, False, True]
    assert best_run(runs)["run_id"].tolist() == ["trial-0"]  # what was stopped has no end


def test_each_arm_has_a_row(region: Region) -> None:
    runs = search_runs(PLACES[:2]).assign(arm=["tpe", "asha"])
    rows = overlays(runs, region, study="baselines")
    assert not isinstance(rows, NotComputable)
    assert [(row.arm, row.n, row.inside.value) for row in rows] == [("tpe", 1, 1.0), ("asha", 1, 0.0)]


def test_without_a_completed_run_there_is_no_best(region: Region) -> None:
    rows = overlays(search_runs(PLACES[2:]), region, study="theirs")
    assert not isinstance(rows, NotComputable)
    assert all(math.isnan(value) for value in (rows[0].best_t2_loss, rows[0].expected_t2_loss, rows[0].best_distance))


def test_layers_are_tied(region: Region) -> None:
    runs = search_runs(PLACES[:1])
    for end in ("initial", "final"):
        layers = runs.pop(f"log10_l2_{end}")
        runs[f"log10_l2_layer1_{end}"], runs[f"log10_l2_layer2_{end}"] = layers - 0.5, layers + 0.5
    found = runs_beside(runs, region)
    assert not isinstance(found, NotComputable)
    assert found["log10_l2_final"].tolist() == [pytest.approx(-3.7)]
    assert lie_inside(found, region).tolist() == [True]


def test_what_cannot_be_laid_over_says_why(region: Region) -> None:
    other = runs_beside(search_runs(PLACES, model="resnet"), region)
    assert other == NotComputable("no run of model mlp-64 that did not fail; there are runs of resnet")
    without = runs_beside(search_runs(PLACES).drop(columns=["input_noise_std_initial"]), region)
    assert without == NotComputable("its runs have no value of input_noise_std, over which the region is found")
    empty = search_runs(PLACES).assign(input_noise_std_initial=np.nan)
    assert isinstance(overlays(empty, region, study="theirs"), NotComputable)
