"""The models that come along, and what becomes of a user's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.images import image_config, image_split, small_cnn, users
from trainers import ConfigError
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.networks.module.models import (
    BatchNorm,
    Statistics,
    cnn,
    factory,
    mlp,
    parameters_of,
    without_running_averages,
)
from trainers.networks.perceptron.network import parameters_of as parameters_of_mlp
from trainers.problem import build_problem

IMAGE = (1, 4, 4)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_the_perceptron_has_the_parameters_of_the_closed_form(hidden: tuple[int, ...]) -> None:
    module = mlp(ModelConfig(hidden=hidden), (1, 2, 3), 4)
    assert parameters_of(module) == parameters_of_mlp(6, hidden, 4)
    assert module(torch.zeros(7, 1, 2, 3)).shape == (7, 4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_cnn_halves_the_image_in_every_stage(batch_norm: bool) -> None:
    module = cnn(ModelConfig("cnn", channels=(3, 5), batch_norm=batch_norm), (2, 9, 8), 4)
    assert module(torch.randn(7, 2, 9, 8)).shape == (7, 4)
    assert isinstance(module.output, nn.Linear)
    assert module.output.in_features == 5 * 2 * 2
    layers = {p.name: p.layer for p in parameters_of(module)}
    convolutions = ("bias",) if not batch_norm else ()
    wanted = {f"conv{n}.{kind}": n for n in (1, 2) for kind in ("weight", *convolutions)}
    wanted |= {f"norm{n}.{kind}": n for n in (1, 2) for kind in ("weight", "bias") if batch_norm}
    assert layers == wanted | {"output.weight": 3, "output.bias": 3}


def test_parameters_before_the_first_layer_belong_to_it_and_each_matrix_begins_one() -> None:
    assert [(p.name, p.layer) for p in parameters_of(users_module("residual"))] == [
        ("gain", 1), ("inner.0.weight", 1), ("inner.0.bias", 1), ("inner.1.weight", 1), ("inner.1.bias", 1),
        ("inner.3.weight", 2), ("inner.3.bias", 2), ("out.weight", 3), ("out.bias", 3),
    ]  # fmt: skip


def users_module(function: str) -> nn.Module:
    return factory(users(function), IMAGE, 3)()


def test_l2_by_layer_and_by_group_follows_the_names() -> None:
    by_layer = HyperparameterConfig(log10_l2=Range(-5.0, -2.0, scope="layer"), input_noise_std=None)
    problem = build_problem(image_config(small_cnn(batch_norm=True), by_layer), image_split())
    assert problem.layout.names == ("log10_l2_layer1", "log10_l2_layer2", "log10_l2_layer3")
    assert problem.layout.l2 == (0, 0, 0, 1, 1, 1, 2, 2)
    groups: dict[str, tuple[str, ...]] = {"kernels": ("conv*.weight",), "norms": ("norm*",)}
    by_group = HyperparameterConfig(Range(-5.0, -2.0, scope="group"), input_noise_std=None, l2_groups=groups)
    problem = build_problem(image_config(small_cnn(batch_norm=True), by_group), image_split())
    assert problem.layout.names == ("log10_l2_kernels", "log10_l2_norms")
    assert problem.layout.l2 == (0, 1, 1, 0, 1, 1, None, None)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 3, 2)])
def test_batch_normalisation_equals_torchs_in_training(shape: tuple[int, ...]) -> None:
    layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](4, eps=0.01, dtype=torch.float64)
    nn.init.uniform_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(shape, dtype=torch.float64)
    own = BatchNorm(layer, Statistics())
    torch.testing.assert_close(own(x), layer(x), rtol=1e-12, atol=1e-12)
    assert own.weight is layer.weight


def test_statistics_are_given_in_the_order_of_the_calls() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Tanh(), nn.BatchNorm1d(2, affine=False)))
    statistics = without_running_averages(module)
    assert statistics is not None
    assert [name for name, _ in module.named_buffers()] == []
    first, second = torch.randn(5, 2), 3 + torch.randn(4, 2)
    with statistics.taken() as taken:
        whole = module(first)
    assert len(taken) == 2
    torch.testing.assert_close(module(first), whole)  # those of its own batch
    for _ in range(2):
        with statistics.given(taken):
            torch.testing.assert_close(module(torch.cat([first, second]))[:5], whole)
    assert not torch.allclose(module(torch.cat([first, second]))[:5], whole)
    assert without_running_averages(nn.Sequential(nn.Linear(2, 2))) is None


def test_a_module_without_marks_takes_no_hidden_noise_and_its_input_noise_as_any() -> None:
    problem = build_problem(image_config(users("with_batch_norm")), image_split())
    assert problem.network.noise_shapes == [IMAGE]
    noisy = HyperparameterConfig(hidden_noise_std=Range(0.0, 0.5, scope="layer"))
    problem = build_problem(image_config(users("residual"), noisy), image_split())
    assert problem.layout.names == ("log10_l2", "input_noise_std", "hidden_noise_std_layer1")
    assert problem.network.noise_shapes == [IMAGE, (6,)]
    with pytest.raises(ConfigError, match=r"hidden_noise_std.*with_batch_norm.*noise_sites"):
        build_problem(image_config(users("with_batch_norm"), noisy), image_split())


def raising(input_shape: tuple[int, ...], classes: int) -> NoReturn:
    raise RuntimeError("no such weather")


def a_function(input_shape: tuple[int, ...], classes: int) -> Callable[[Tensor], Tensor]:
    return torch.tanh


not_callable = 3


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raising", "the function raised RuntimeError for input_shape = (1, 4, 4), classes = 3: no such weather"),
        ("a_function", "returned a builtin_function_or_method: must be a torch.nn.Module"),
        ("not_callable", "is a int: must be a function of (input_shape, classes)"),
        ("missing", "cannot be imported (AttributeError"),
    ],
)
def test_a_function_that_gives_no_module_is_refused_with_the_reason(function: str, reason: str) -> None:
    name = f"tests.trainers.networks.module.test_models:{function}"
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        build_problem(image_config(ModelConfig(name)), image_split())
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "channels", "reason"),
    [
        ((16,), (2,), "inputs have shape [16]: must be [channels, height, width]"),
        ((1, 4, 7), (2, 2, 2), "3 halvings leave nothing of images of 4×7: must be at most 2 stages"),
    ],
)
def test_a_cnn_that_does_not_fit_the_images_is_refused(
    shape: tuple[int, ...], channels: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        build_problem(image_config(ModelConfig("cnn", channels=channels)), image_split(shape=shape))


def test_a_module_that_cannot_be_imported_is_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"'no\.such\.module:f': cannot be imported \(ModuleNotFoundError"):
        build_problem(image_config(ModelConfig("no.such.module:f")), image_split())
