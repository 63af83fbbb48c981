"""Members one by one and by ``vmap``, alone and in a pack; unusual parameters; the order of images in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.images import ALL_KINDS, Arguments, image_config, image_split, small_cnn, users
from trainers import Problem
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.networks.module.group import groups
from trainers.networks.module.network import StackedModule
from trainers.problem import build_problem

HERE = "tests.trainers.networks.module.test_group"
CUSTOM = {f"tests.trainers.regularisers:{name}": Range(0.0, 0.9) for name in ("everything", "translation")}
KINDS = {"all that are built in": ALL_KINDS, "custom ones": replace(ALL_KINDS, custom=CUSTOM)}
MODELS = {
    "tanh": small_cnn(),
    "relu": small_cnn(activation="relu"),
    "batch normalisation": small_cnn(batch_norm=True),
    "a user's module": users("residual"),
}


def module_problem(model: ModelConfig, kinds: HyperparameterConfig, dtype: str = "float64") -> Problem:
    config = image_config(model, kinds, outer={"estimator": "forward"})
    return build_problem(replace(config, dtype=dtype), image_split())  # type: ignore[arg-type]  # one of two


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_members_one_by_one_equal_all_of_them_by_vmap(
    model: ModelConfig, kinds: HyperparameterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = module_problem(model, kinds)
    arguments = Arguments.drawn(problem, members=3)
    outcomes = []
    for together in (1, 3):
        cut = [slice(first, first + together) for first in range(0, 3, together)]
        monkeypatch.setattr("trainers.networks.module.network.groups", lambda *_, cut=cut: cut)
        outcomes.append(arguments.outcomes(problem))
    for found, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutions_of_a_member_do_not_depend_on_its_pack_to_the_last_bit(batch_norm: bool, dtype: str) -> None:
    problem = module_problem(small_cnn(batch_norm, "relu"), ALL_KINDS, dtype)
    arguments = Arguments.drawn(problem, members=17)
    packed = arguments.outcomes(problem)
    for place in (0, 5, 16):
        alone = arguments.of_member(place).outcomes(problem)
        assert all(torch.equal(whole[place], own[0]) for whole, own in zip(packed, alone, strict=True))


def test_only_convolutions_on_a_cpu_are_taken_one_by_one() -> None:
    for model, expected in ((small_cnn(), [slice(0, 1), slice(1, 2)]), (users("residual"), [slice(0, 2)])):
        network = module_problem(model, ALL_KINDS).network
        assert isinstance(network, StackedModule)
        assert groups(network.run_loss, torch.zeros(2, network.size)) == expected
        assert groups(network.run_loss, torch.zeros(2, network.size, device="meta")) == [slice(0, 2)]


class Tied(nn.Module):
    """One matrix and one constant in two layers each, and a parameter that nothing depends on."""

    offset: Tensor

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))
        self.first, self.second = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)
        self.second.weight = self.first.weight
        self.register_buffer("offset", torch.linspace(-1, 1, inputs))
        self.first.register_buffer("also", self.offset)
        self.out = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x.flatten(1)) + self.offset)
        out: Tensor = self.out(self.second(x) + self.first.get_buffer("also"))
        return out


def tied(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Tied(torch.Size(input_shape).numel(), classes)


@pytest.mark.parametrize("members", [1, 2])
def test_a_shared_parameter_has_one_gradient_and_an_unused_one_the_gradient_zero(members: int) -> None:
    problem = module_problem(ModelConfig(f"{HERE}:tied"), HyperparameterConfig())
    assert [p.name for p in problem.network.parameters] == [
        "unused", "first.weight", "first.bias", "second.bias", "out.weight", "out.bias",
    ]  # fmt: skip
    x, y = problem.t2
    theta = torch.stack([problem.network.initial(seed) for seed in range(members)])
    trace = problem.network.linearise(theta, x.expand(members, *x.shape), y.expand(members, -1))
    for own, found in zip(theta, problem.network.gradient(trace), strict=True):
        module = tied((1, 4, 4), 3).double()
        nn.utils.vector_to_parameters(own, module.parameters())
        nn.functional.cross_entropy(module(x), y).backward()
        wanted = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
        torch.testing.assert_close(found, nn.utils.parameters_to_vector(wanted), rtol=1e-12, atol=1e-12)


def test_a_trace_that_nobody_asks_for_its_gradient_evaluates_nothing_and_one_that_somebody_does_only_once() -> None:
    network = module_problem(small_cnn(), HyperparameterConfig()).network
    assert isinstance(network, StackedModule)
    calls: list[nn.Module] = []
    network.run_loss.module.register_forward_hook(lambda module, *_: calls.append(module))
    trace = network.linearise(
        network.initial(0).unsqueeze(0), torch.zeros(1, 5, 1, 4, 4).double(), torch.zeros(1, 5).long()
    )
    assert calls == []
    network.gradient(trace), network.loss(trace), network.scaled_gradient(trace, 0.1)
    assert len(calls) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_images_come_to_a_convolution_with_their_channels_last_in_memory(depth: int) -> None:
    shape = (depth, 4, 4)
    config = image_config(small_cnn(activation="relu"))
    network = StackedModule(config, shape, 3, image_split(shape=shape).t1_x, tangents=False)
    seen: list[Tensor] = []
    network.run_loss.module.get_submodule("pool1").register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    x, y = torch.randn(2, 5, *shape).double(), torch.zeros(2, 5).long()
    theta = torch.stack([network.initial(seed) for seed in (1, 2)])
    gradients = []
    for run_loss in (network.run_loss, network.run_loss.vectorised):
        network.run_loss = run_loss
        gradients.append(
            network.gradient(network.linearise(theta, x, y, torch.zeros(2, 2).double(), [torch.randn_like(x)]))
        )
    strides = [tuple(images.stride()) for images in seen]
    assert strides == [(32, 1, 8, 2)] * 2 + [(32, 16, 4, 1)] * 2
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
