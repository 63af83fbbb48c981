from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable
from analysis.statistics.model_sizes import compare_models
from analysis.statistics.region import Region, find_region
from tests.analysis.synthetic import BOX, Truth, make_runs

MODELS = ("mlp-64", "mlp-128")
SAME = Truth(optimum={"mlp-64": (0.5, 0.5), "mlp-128": (0.5, 0.5)}, stay=0.0)
APART = Truth(optimum={"mlp-64": (0.5, 0.5), "mlp-128": (0.5, 0.75)}, stay=0.0)


def compared(truth: Truth, seed: int = 0, analysis_seed: int = 0, permutations: int = 199) -> pd.DataFrame:
    runs = make_runs(truth, models=MODELS, seed=seed)
    found = compare_models(runs, regions_of(runs), seed=analysis_seed, permutations=permutations)
    assert isinstance(found, pd.DataFrame)
    return found


def regions_of(runs: pd.DataFrame) -> list[Region]:
    regions = [find_region(runs, model, dict(BOX)) for model in dict.fromkeys(runs["model"])]
    return [r for r in regions if isinstance(r, Region)]


def test_regions_that_are_apart_are_found_apart() -> None:
    row = compared(APART).iloc[0]
    assert (row["first"], row["second"]) == MODELS
    assert row["jaccard"] == 0.0
    assert row["shift_input_noise_std"] == pytest.approx(0.25, abs=0.04)
    assert row["shift_input_noise_std_low"] <= 0.25 <= row["shift_input_noise_std_high"]
    assert row["shift_log10_l2_low"] <= 0.0 <= row["shift_log10_l2_high"]
    assert row["shift"] == pytest.approx(np.hypot(row["shift_input_noise_std"], row["shift_log10_l2"]))
    assert row["end_shift_input_noise_std_low"] <= 0.25 <= row["end_shift_input_noise_std_high"]
    assert row["end_shift_log10_l2_low"] <= 0.0 <= row["end_shift_log10_l2_high"]
    assert row["n_ends"] == 24
    assert row["p_shape"] == row["p_shift"] == row["p_region"] == pytest.approx(1 / 200)


def test_equal_regions_overlap_and_are_not_told_apart() -> None:
    frame = pd.concat([compared(SAME, seed=k) for k in range(4)])
    assert frame["jaccard"].median() > 0.5
    assert (frame["shift_input_noise_std_low"] <= 0).sum() >= 3
    for p in ("p_shape", "p_shift", "p_region"):
        assert (frame[p] > 0.05).sum() >= 3


def test_a_model_that_is_better_everywhere_has_the_same_region() -> None:
    runs = make_runs(SAME, models=MODELS)
    better = runs["model"] == "mlp-128"
    runs.loc[better, "t2_loss"] *= 0.6
    frame = compare_models(runs, regions_of(runs), permutations=199)
    assert isinstance(frame, pd.DataFrame)
    assert frame["p_shape"].item() > 0.05
    assert frame["jaccard"].item() > 0.4


@pytest.mark.slow
def test_the_permutation_tests_keep_their_level() -> None:
    """Where the models are the same, 5 % of the studies may say that they differ."""
    frame = pd.concat([compared(SAME, seed=k, permutations=99) for k in range(60)])
    for p in ("p_shape", "p_shift", "p_region"):
        assert (frame[p] <= 0.05).mean() <= 0.12
        assert (frame[p] <= 0.5).mean() >= 0.25  # nor are they blind


def test_the_seed_decides_the_permutations() -> None:
    first, again, other = (compared(SAME, seed=7, analysis_seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    columns = ["p_shape", "p_shift", "p_region", "jaccard_low", "end_shift_log10_l2_low"]
    assert not np.isclose(first[columns].to_numpy(), other[columns].to_numpy()).any(axis=0)[3:].any()
    assert not first[columns[:3]].equals(other[columns[:3]])


def test_three_models_are_three_pairs_with_adjusted_p_values() -> None:
    truth = Truth(optimum={"mlp-64": (0.5, 0.5), "mlp-128": (0.5, 0.75), "mlp-256": (0.5, 0.5)})
    runs = make_runs(truth, models=("mlp-64", "mlp-128", "mlp-256"))
    frame = compare_models(runs, regions_of(runs), permutations=99)
    assert isinstance(frame, pd.DataFrame)
    assert list(zip(frame["first"], frame["second"], strict=True)) == [
        ("mlp-64", "mlp-128"),
        ("mlp-64", "mlp-256"),
        ("mlp-128", "mlp-256"),
    ]
    assert frame["p_shape"][0] == pytest.approx(0.03)  # the smallest of three, 0.01, times three


def test_what_cannot_be_computed_says_why() -> None:
    runs = make_runs()
    alone = compare_models(runs, regions_of(runs))
    assert isinstance(alone, NotComputable)
    assert "1 model with a region" in alone.reason
    single = make_runs(SAME, models=MODELS, grid_replicates=1)
    frame = compare_models(single, regions_of(single))
    assert isinstance(frame, pd.DataFrame)
    assert np.isnan(frame["p_shape"].item())
    assert np.isfinite(frame["jaccard"].item())
