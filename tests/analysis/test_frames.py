"""Views of the runs table: hyperparameters tied over layers, their boxes, and the arms side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.frames import NotComputable, boxes, hyperparameters, layers, missing_arms, one_arm, pairs, tie_layers


def runs(**columns: list[object]) -> pd.DataFrame:
    """Runs of one model, a configuration after the other: first ``online``, then ``initial``."""
    count = len(next(iter(columns.values())))
    given = {
        "run_id": [f"run-{i}" for i in range(count)],
        "model": ["mlp-8"] * count,
        "arm": ["online" if i % 2 == 0 else "initial" for i in range(count)],
        "config_index": [i // 2 for i in range(count)],
        "replicate": [0] * count,
        "status": ["completed"] * count,
    }
    return pd.DataFrame(given | columns)


def test_hyperparameters_are_the_stems_that_have_both_ends() -> None:
    frame = runs(log10_l2_initial=[-3.0], log10_l2_final=[-4.0], t2_loss=[0.5], seed_initial=[1.0])

    assert hyperparameters(frame) == ["log10_l2"]


def test_layers_and_groups_belong_to_their_hyperparameter() -> None:
    columns = ["log10_l2_layer1", "log10_l2_others", "input_noise_std", "hidden_noise_std_layer2"]

    assert layers(columns) == {
        "log10_l2": ["log10_l2_layer1", "log10_l2_others"],
        "input_noise_std": ["input_noise_std"],
        "hidden_noise_std": ["hidden_noise_std_layer2"],
    }


def test_layers_are_tied_by_the_mean_over_those_that_a_model_has() -> None:
    frame = runs(
        log10_l2_layer1_initial=[-2.0, -2.0], log10_l2_layer1_final=[-3.0, -3.0],
        log10_l2_layer2_initial=[-4.0, np.nan], log10_l2_layer2_final=[-5.0, np.nan],
        input_noise_std_initial=[0.1, 0.2], input_noise_std_final=[0.3, 0.4],
    )  # fmt: skip

    tied = tie_layers(frame)

    assert hyperparameters(tied) == ["log10_l2", "input_noise_std"]
    assert tied["log10_l2_initial"].tolist() == [-3.0, -2.0]
    assert tied["log10_l2_final"].tolist() == [-4.0, -3.0]
    assert tie_layers(tied) is tied


def test_a_box_is_the_specs_or_else_the_extent_of_the_starts() -> None:
    frame = runs(
        log10_l2_initial=[-5.0, -3.0], log10_l2_final=[-4.0, -3.0], noise_initial=[0.2, 0.2], noise_final=[0.1, 0.2]
    )

    assert boxes(frame) == {"log10_l2": (-5.0, -3.0)}, "what cannot vary has no box"
    spec = {"hyperparameters": {"log10_l2": {"low": -6, "high": -2}, "custom": {"m:noise": {"low": 0.0, "high": 1.0}}}}
    assert boxes(frame, spec) == {"log10_l2": (-6.0, -2.0), "noise": (0.0, 1.0)}


def test_pairs_have_one_row_for_each_configuration_that_has_both_arms() -> None:
    frame = runs(
        t2_loss=[0.1, 0.2, 0.3, 0.4, 0.5], status=["completed", "completed", "failed", "completed", "diverged"]
    )

    paired = pairs(frame, "initial", "online")

    assert paired[["config_index", "t2_loss_initial", "t2_loss_online"]].values.tolist() == [[0, 0.2, 0.1]]
    assert pairs(frame, "initial", "online", model="another").empty


@pytest.mark.parametrize(("completed", "kept"), [(False, [0.1, 0.5]), (True, [0.1])])
def test_one_arm_leaves_out_what_has_no_result_and_is_ordered_by_configuration(
    completed: bool, kept: list[float]
) -> None:
    frame = runs(
        t2_loss=[0.1, 0.2, 0.3, 0.4, 0.5], status=["completed", "completed", "failed", "completed", "diverged"]
    )

    chosen = one_arm(frame.iloc[::-1], "mlp-8", "online", completed=completed)

    assert chosen["t2_loss"].tolist() == kept


def test_missing_arms_are_named() -> None:
    frame = runs(t2_loss=[0.1, 0.2])

    assert missing_arms(frame, "initial", "online") is None
    missing = missing_arms(frame, "online", "rerun", "grid", model="mlp-8")
    assert missing == NotComputable("no completed run of model mlp-8 in the arms rerun and grid")
