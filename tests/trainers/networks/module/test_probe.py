"""Which modules are refused before anything is trained with them, and the reasons that are given."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.images import differences, image_config, image_split, last_point, middle
from trainers import ConfigError
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.networks.module.models import without_running_averages
from trainers.networks.module.probe import check_forward, check_parameters, numbers_of_an_example, takes_channels_last
from trainers.problem import build_problem

HERE = "tests.trainers.networks.module.test_probe"


def flat(input_shape: tuple[int, ...], classes: int, *layers: nn.Module) -> nn.Sequential:
    """A linear classifier with layers before it."""
    size = torch.Size(input_shape).numel()
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(size, classes))


def too_narrow(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, classes))


def too_many_logits(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return flat(input_shape, classes + 1)


def pair(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    module = flat(input_shape, classes)
    module.register_forward_hook(lambda _module, _inputs, output: (output, output))
    return module


def dropout(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return flat(input_shape, classes, nn.Dropout(0.5))


def tracking(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.InstanceNorm2d(input_shape[0], track_running_stats=True), flat(input_shape, classes))


def lazy(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def frozen(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    module = flat(input_shape, classes)
    module.get_parameter("1.bias").requires_grad_(False)
    return module


def nothing_to_train(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Flatten()


class Branching(nn.Module):
    """Decides by its data."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        return out if out.sum() > 0 else -out


def branching(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Branching(torch.Size(input_shape).numel(), classes)


SEEDS = iter(range(1000))


def another_generator(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    module = flat(input_shape, classes)
    nn.init.normal_(module.get_parameter("1.weight"), generator=torch.Generator().manual_seed(next(SEEDS)))
    return module


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("too_narrow", "does not take inputs of shape [1, 4, 4], here a batch [4, 1, 4, 4]"),
        ("too_many_logits", "gives [4, 4] for a batch of inputs [4, 1, 4, 4]: must be logits [4, 3]"),
        ("pair", "gives tuple for a batch of inputs [4, 1, 4, 4]: must be logits [4, 3]"),
        ("dropout", "two forward passes of one batch differ (random layers: ['1'])"),
        ("tracking", "the forward pass changes the buffer '0.running_mean'"),
        ("lazy", "parameter '1.weight' has no shape yet"),
        ("frozen", "parameter '1.bias' is torch.float32 with requires_grad = False"),
        ("nothing_to_train", "has no parameters"),
        ("branching", "cannot be differentiated as it needs"),
        ("another_generator", "'1.weight' differs between two modules made from one seed"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_with_the_reason(function: str, reason: str) -> None:
    name = f"{HERE}:{function}"
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        build_problem(image_config(ModelConfig(name)), image_split())
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("sites", "reason"), [(("1.0",), "which is no submodule"), (("2",), "called 0 times"), (("0",), "called 2 times")]
)
def test_a_noise_site_is_a_submodule_called_once(
    sites: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Marked(nn.Module):
        noise_sites = sites

        def __init__(self) -> None:
            super().__init__()
            for name, layer in {"0": nn.Linear(16, 16), "1": nn.Linear(16, 3), "2": nn.Linear(1, 1)}.items():
                self.add_module(name, layer)

        def forward(self, x: Tensor) -> Tensor:
            first, last = self.get_submodule("0"), self.get_submodule("1")
            out: Tensor = last(first(first(x.flatten(1))))
            return out

    monkeypatch.setitem(globals(), "marked", lambda input_shape, classes: Marked())
    noisy = HyperparameterConfig(hidden_noise_std=Range(0.0, 0.5))
    config = image_config(ModelConfig(f"{HERE}:marked"), noisy)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        build_problem(config, image_split())


def test_a_module_that_fits_is_left_as_it_was_and_its_noise_sites_are_measured() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 2))
    module.noise_sites = ("0", "1")  # type: ignore[assignment]  # torch knows of tensors and modules alone
    without_running_averages(module)
    noisy = image_config(ModelConfig(), HyperparameterConfig(hidden_noise_std=Range(0.0, 0.5)))
    assert check_forward(noisy, module, torch.randn(9, 3), 2) == {"0": (5,), "1": (5,)}
    assert check_forward(image_config(ModelConfig()), module, torch.randn(9, 3), 2) == {}
    assert not any(part._forward_hooks for part in module.modules())
    twin = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 2))
    twin.load_state_dict(module.state_dict(), strict=False)
    check_parameters("fits", module, twin)


class Viewing(nn.Module):
    """Flattens by a view that only contiguous tensors have or, told so, takes the numbers as they lie in memory."""

    def __init__(self, blindly: bool) -> None:
        super().__init__()
        self.layer, self.blindly = nn.Conv2d(1, 2, 3), blindly

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x.as_strided((len(x), 8), (8, 1)) if self.blindly else x.view(len(x), 8)


def test_a_module_has_its_images_with_channels_last_if_it_has_convolutions_and_gives_the_same() -> None:
    images = torch.randn(9, 1, 4, 4)
    assert takes_channels_last(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), images)
    assert not takes_channels_last(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), images)
    assert not takes_channels_last(Viewing(blindly=False), images)
    assert not takes_channels_last(Viewing(blindly=True), images)


def viewing(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(Viewing(blindly=False), nn.Linear(8, classes))


def test_a_module_that_views_its_images_as_contiguous_is_trained() -> None:
    config = image_config(ModelConfig(f"{HERE}:viewing"))
    problem = build_problem(config, image_split())
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)


def test_an_example_takes_its_inputs_and_twice_the_output_of_every_layer() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    assert numbers_of_an_example(module, torch.randn(9, 3)) == 2 * (3 + 5 + 5 + 2)
    normalised = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    without_running_averages(normalised)
    assert numbers_of_an_example(normalised, torch.randn(9, 3)) == 2 * (3 + 5 + 5)
