from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable, boxes, hyperparameters, tie_layers
from analysis.statistics.contraction import clamped
from analysis.statistics.surface import Surface, directions, fit_surface, grid_cells
from analysis.study import load_study
from tests.analysis.synthetic import BOX, Truth, make_runs, write_study

LOW, WIDTH = np.array([-5.5, 0.0]), np.array([3.0, 0.8])


def surface_of(runs: pd.DataFrame, metric: str = "t2_loss") -> Surface:
    surface = fit_surface(runs, "mlp-64", dict(BOX), metric)
    assert isinstance(surface, Surface)
    return surface


def test_the_surface_is_the_truth_to_within_seed_noise() -> None:
    truth = Truth()
    surface = surface_of(make_runs(truth, arms=("grid",), grid=(6, 6)))
    u = np.random.default_rng(0).random((500, 2))
    error = surface.predict(LOW + u * WIDTH) - truth.loss(u, "mlp-64")
    assert np.sqrt(np.mean(error**2)) < truth.seed_noise
    assert np.isnan(surface.predict(np.array([[np.nan, 0.3]]))[0])


def test_seed_noise_comes_from_the_replicates() -> None:
    truth = Truth(shared_noise=0.003, own_noise=0.004)
    surfaces = [surface_of(make_runs(truth, arms=("grid",), grid=(4, 4), grid_replicates=4, seed=k)) for k in range(12)]
    assert np.mean([s.paired_noise for s in surfaces]) == pytest.approx(0.004, rel=0.12)
    # The part that all cells of a seed share is known only from four seeds a study, so it is rougher.
    assert np.mean([s.seed_noise for s in surfaces]) == pytest.approx(0.005, rel=0.15)
    assert surfaces[0].noise_from == "replicates"


def test_one_replicate_leaves_the_noise_to_the_surface() -> None:
    truth = Truth(shared_noise=0.0, own_noise=0.004)
    surface = surface_of(make_runs(truth, arms=("grid",), grid=(8, 8), grid_replicates=1))
    assert surface.noise_from == "surface"
    assert 0.001 < surface.seed_noise < 0.012


def test_a_cell_that_diverges_is_not_taken_for_good() -> None:
    runs = make_runs(Truth(), arms=("grid",))
    cell = runs["config_index"] == 12  # the middle of the grid, beside the optimum
    assert cell.sum() == 3
    runs.loc[cell, ["t2_loss", "test_loss"]] = np.nan
    runs.loc[cell, "status"] = "diverged"
    surface = surface_of(runs)
    middle = LOW + np.array([[0.5, 0.5]]) * WIDTH
    assert surface.predict(middle)[0] > 3 * surface_of(make_runs(Truth(), arms=("grid",))).predict(middle)[0]
    assert surface.cells.loc[surface.cells["cell"] == 12, "diverged"].item() == 3


def test_sensitive_and_flat_directions_of_a_tilted_valley() -> None:
    runs = make_runs(Truth(), arms=("grid",), grid=(7, 7))
    u = (runs[["log10_l2_initial", "input_noise_std_initial"]].to_numpy() - LOW) / WIDTH - 0.5
    sensitive, flat = np.array([3.0, 4.0]) / 5, np.array([4.0, -3.0]) / 5
    runs["t2_loss"] = np.exp(2.0 * (u @ sensitive) ** 2 + 0.1 * (u @ flat) ** 2)
    frame = directions(surface_of(runs))
    np.testing.assert_allclose(frame.loc[0, ["log10_l2", "input_noise_std"]].to_numpy(float), sensitive, atol=0.03)
    np.testing.assert_allclose(
        np.abs(frame.loc[1, ["log10_l2", "input_noise_std"]].to_numpy(float)), np.abs(flat), atol=0.03
    )
    np.testing.assert_allclose(frame["curvature"], [4.0, 0.2], rtol=0.25, atol=0.1)


def test_drawn_surfaces_scatter_around_the_surface_and_follow_the_seed() -> None:
    surface = surface_of(make_runs(Truth(), arms=("grid",)))
    points = LOW + np.random.default_rng(1).random((40, 2)) * WIDTH
    draws = surface.draw(points, 400, seed=3)
    np.testing.assert_allclose(draws.mean(axis=1), surface.predict(points), rtol=0.01)
    np.testing.assert_array_equal(draws, surface.draw(points, 400, seed=3))
    assert not np.array_equal(draws, surface.draw(points, 400, seed=4))


def test_the_smoother_reproduces_the_surface() -> None:
    surface = surface_of(make_runs(Truth(), arms=("grid",)))
    points = LOW + np.random.default_rng(1).random((40, 2)) * WIDTH
    value = np.log(surface.cells["mean"].to_numpy())
    again = np.exp(surface.smoother(points) @ (value - value.mean()) + value.mean())
    np.testing.assert_allclose(again, surface.predict(points), rtol=1e-9)


def test_an_error_rate_of_zero_is_fitted_without_a_logarithm() -> None:
    runs = make_runs(Truth(), arms=("grid",))
    runs["test_error"] = np.maximum(0, runs["t2_loss"] - 0.25)
    surface = surface_of(runs, "test_error")
    assert not surface.logarithmic
    assert surface.predict(LOW + np.array([[0.6, 0.5]]) * WIDTH)[0] < 0.03


def test_what_has_no_surface_says_why() -> None:
    def reason(runs: pd.DataFrame) -> str:
        cells = grid_cells(runs, "mlp-64")
        assert isinstance(cells, NotComputable)
        return cells.reason

    assert "no grid arm for model mlp-64" in reason(make_runs(arms=("initial",)))
    assert "one cell" in reason(make_runs(arms=("grid",), grid=(1, 1)))
    assert "fewer than three cells" in reason(make_runs(Truth(diverged=1.0)))


def test_per_layer_hyperparameters_are_tied_by_their_mean(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", models=("mlp-64",), layers=3))
    assert hyperparameters(study.runs) == ["log10_l2_layer1", "log10_l2_layer2", "log10_l2_layer3", "input_noise_std"]
    tied = tie_layers(study.runs)
    assert hyperparameters(tied) == ["log10_l2", "input_noise_std"]
    np.testing.assert_allclose(
        tied["log10_l2_final"], study.runs[[f"log10_l2_layer{k}_final" for k in (1, 2, 3)]].mean(axis=1)
    )
    assert study.boxes == dict(BOX)
    surface = surface_of(study.runs)
    assert surface.names == ("log10_l2", "input_noise_std")


def test_groups_of_parameters_are_tied_like_layers() -> None:
    runs = make_runs(arms=("grid",))
    for end in ("initial", "final"):
        value = runs.pop(f"log10_l2_{end}")
        runs.insert(4, f"log10_l2_weights_{end}", value - 0.5)
        runs.insert(5, f"log10_l2_biases_{end}", value + 0.5)
    assert hyperparameters(tie_layers(runs)) == ["log10_l2", "input_noise_std"]
    assert boxes(runs, {"hyperparameters": {"log10_l2": {"low": -5.5, "high": -2.5}}})["log10_l2"] == (-5.5, -2.5)
    assert surface_of(runs).predict(np.array([[-4.0, 0.3]])) == pytest.approx(
        surface_of(make_runs(arms=("grid",))).predict(np.array([[-4.0, 0.3]]))
    )


def test_a_shallow_model_is_tied_over_the_layers_that_it_has(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", layers=3))
    runs = study.runs.copy()
    shallow = runs["model"] == "mlp-64"
    runs.loc[shallow, ["log10_l2_layer3_initial", "log10_l2_layer3_final"]] = np.nan  # as the service writes it
    tied = tie_layers(runs)
    assert tied["log10_l2_initial"].notna().all()
    np.testing.assert_allclose(
        tied.loc[shallow, "log10_l2_final"],
        study.runs.loc[shallow, ["log10_l2_layer1_final", "log10_l2_layer2_final"]].mean(axis=1),
    )
    assert surface_of(runs).names == ("log10_l2", "input_noise_std")
    frame = clamped(runs, "mlp-64", study.boxes)
    assert isinstance(frame, pd.DataFrame)
    assert frame["hyperparameter"].unique().tolist() == ["log10_l2_layer1", "log10_l2_layer2", "input_noise_std"]


def test_the_box_is_the_specs_else_the_grids_extent() -> None:
    runs = make_runs()
    assert boxes(runs) == dict(BOX)
    spec = {
        "hyperparameters": {
            "log10_l2": {"low": -6, "high": -2},
            "label_smoothing": None,
            "clamp": True,
            "custom": {"mine:input_noise_std": {"low": 0, "high": 1}},
        }
    }
    assert boxes(runs, spec) == {"log10_l2": (-6.0, -2.0), "input_noise_std": (0.0, 1.0)}
    constant = runs.assign(log10_l2_initial=-4.0, log10_l2_final=-4.0)
    assert list(boxes(constant)) == ["input_noise_std"]
    assert list(boxes(runs, {"hyperparameters": {"log10_l2": {"low": -3, "high": -3}}})) == ["input_noise_std"]
