"""A configuration's data and network as tensors, and the boxes of its hyperparameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from tests.trainers.images import image_config, image_split, small_cnn
from tests.trainers.problems import ALL_KINDS, random_split, small_config
from trainers import boxes
from trainers.config import EstimatorName, HyperparameterConfig, ModelConfig, Range
from trainers.hypergradients import ESTIMATORS
from trainers.networks.module.group import Group
from trainers.networks.module.network import StackedModule
from trainers.networks.perceptron.network import StackedMLP
from trainers.problem import build_problem

CUSTOM = HyperparameterConfig(custom={"tests.trainers.regularisers:contrast": Range(0.0, 0.5)})


@pytest.mark.parametrize(("dtype", "wanted"), [("float32", torch.float32), ("float64", torch.float64)])
def test_the_parts_of_the_split_are_tensors_of_the_trainings_type(
    dtype: Literal["float32", "float64"], wanted: torch.dtype
) -> None:
    split = random_split(3)
    problem = build_problem(replace(small_config(), dtype=dtype), split)
    for (x, y), inputs, labels in (
        (problem.t1, split.t1_x, split.t1_y),
        (problem.t2, split.t2_x, split.t2_y),
        (problem.test, split.test_x, split.test_y),
    ):
        assert (x.dtype, y.dtype) == (wanted, torch.int64)
        np.testing.assert_array_equal(x.numpy(), inputs)
        np.testing.assert_array_equal(y.numpy(), labels)
    assert (problem.classes, problem.data_hash) == (3, "random-3")


@pytest.mark.parametrize(
    ("model", "kinds", "network", "shape"),
    [
        (ModelConfig(hidden=(5,)), None, StackedMLP, (16,)),
        (ModelConfig(hidden=(5,)), CUSTOM, StackedModule, (1, 4, 4)),
        (small_cnn(), None, StackedModule, (1, 4, 4)),
    ],
)
def test_a_perceptron_is_in_closed_form_unless_a_regulariser_of_the_users_needs_images(
    model: ModelConfig,
    kinds: HyperparameterConfig | None,
    network: type[StackedMLP | StackedModule],
    shape: tuple[int, ...],
) -> None:
    problem = build_problem(image_config(model, kinds), image_split())
    assert isinstance(problem.network, network)
    assert problem.t1[0].shape == (24, *shape)
    assert problem.layout == problem.network.layout


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_module_is_tried_with_the_derivatives_that_the_estimator_needs(
    estimator: EstimatorName, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(Group, "tangent", lambda *_, **__: tried.append(estimator))
    build_problem(image_config(small_cnn(), outer={"estimator": estimator}), image_split())
    assert bool(tried) == ESTIMATORS[estimator].needs_tangents


def test_the_boxes_of_a_perceptron_are_known_without_its_data() -> None:
    config = small_config((3, 2), hyperparameters=ALL_KINDS)
    nowhere = replace(config, data=replace(config.data, name="no_such_module:no_such_data"))
    assert boxes(nowhere) == dict(zip(layout_names(), layout_ranges(), strict=True))


def layout_names() -> list[str]:
    hidden = [f"hidden_noise_std_layer{layer}" for layer in (1, 2)]
    return [*(f"log10_l2_layer{layer}" for layer in (1, 2, 3)), "input_noise_std", *hidden, "label_smoothing"]


def layout_ranges() -> list[Range | None]:
    kinds = ALL_KINDS
    return [*[kinds.log10_l2] * 3, kinds.input_noise_std, *[kinds.hidden_noise_std] * 2, kinds.label_smoothing]
