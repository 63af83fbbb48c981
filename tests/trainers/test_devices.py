"""Every tensor of a training is on one device: shown without a GPU, by a device that is only pretended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

from tests.trainers.device_conformance import CLOSE, NETWORKS, DeviceConformance, config_of, members_of, problem_of
from tests.trainers.elsewhere import DEVICE, Elsewhere, MixedDevices, pretended_device
from tests.trainers.runs import assert_close, run
from trainers.batches import Order
from trainers.config import ModelConfig
from trainers.hypergradients import ESTIMATORS
from trainers.networks.module.loss import RunLoss
from trainers.networks.perceptron.network import StackedMLP
from trainers.optimisers import inner, outer
from trainers.problem import Problem


class TestConformance(DeviceConformance):
    device = DEVICE

    def opened(self) -> AbstractContextManager[None]:
        return pretended_device()


# Each makes a tensor on the CPU in the middle of a training: what it takes the place of, how, and where it matters.
MISTAKES: dict[str, tuple[object, str, Callable[..., object], str, str]] = {}


def mistake(owner: object, name: str, model: str = "perceptron", estimator: str = "forward") -> Callable[..., object]:
    """Take what follows for one."""

    def add(function: Callable[..., object]) -> Callable[..., object]:
        MISTAKES[function.__name__] = owner, name, function, model, estimator
        return function

    return add


def on_the_cpu(value: Tensor) -> Tensor:
    return value.cpu() if isinstance(value, Elsewhere) else value


@mistake(outer, "boxes")
def the_boxes(made: Callable[..., outer.Boxes], layout: object, clamp: bool, like: Tensor) -> outer.Boxes:
    return made(layout, clamp, on_the_cpu(like))


@mistake(inner, "initial_state", model="module")
def the_optimisers_state(made: Callable[..., dict[str, Tensor]], *given: object) -> dict[str, Tensor]:
    return {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in made(*given).items()}


@mistake(Order, "at")
def a_batch(made: Callable[..., tuple[Tensor, Tensor]], *given: object) -> tuple[Tensor, Tensor]:
    x, y = made(*given)
    return x, on_the_cpu(y)


@mistake(RunLoss, "_cross_entropy", model="module with batch normalisation", estimator="neumann")
def a_constant_within_the_transforms(
    made: Callable[..., Tensor], run_loss: RunLoss, logits: Tensor, *given: object
) -> Tensor:
    return made(run_loss, logits * torch.ones(logits.shape[-1], dtype=logits.dtype), *given)


@mistake(StackedMLP, "gradient", estimator="t1t2")
def a_gradient(made: Callable[..., Tensor], *given: object) -> Tensor:
    return on_the_cpu(made(*given))


@mistake(StackedMLP, "evaluate", estimator="t1t2")
def a_part_of_an_evaluation(
    made: Callable[..., tuple[Tensor, Tensor]], network: StackedMLP, theta: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    return made(network, theta, x, on_the_cpu(y))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_tensor_made_on_the_cpu_by_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, function, model, estimator = MISTAKES[name]
    config = config_of(NETWORKS[model], estimator, "momentum")
    cpu = problem_of(config, "cpu")
    members = members_of(cpu)
    with pretended_device():
        problem = problem_of(config, DEVICE)
        run(problem, config, members)
        monkeypatch.setattr(owner, attribute, in_place_of(getattr(owner, attribute), function))
        with pytest.raises(MixedDevices, match="of the CPU beside one of another device"):
            run(problem, config, members)
    run(cpu, config, members)  # where nothing shows it


def in_place_of(made: Callable[..., object], function: Callable[..., object]) -> Callable[..., object]:
    """``function(made, …)``; as a method it is bound to its object."""

    def called(*given: object, **named: object) -> object:
        return function(made, *given, **named)

    return called


def there(*shape: int) -> Tensor:
    return torch.ones(shape, device=DEVICE)


def put(out: Tensor, columns: range, values: Tensor) -> Tensor:
    out[:, columns] = values
    return out


REFUSED: dict[str, Callable[[], object]] = {
    "a sum": lambda: there(2) + torch.ones(2),
    "a product in place": lambda: there(2).mul_(torch.ones(2)),
    "a list": lambda: torch.cat([there(2), torch.ones(2)]),
    "a mask": lambda: torch.where(torch.ones(2) > 0, there(2), 0.0),
    "the place of the outcome": lambda: torch.add(there(2), 1.0, out=torch.empty(2)),
    "rows": lambda: there(2).index_select(0, torch.tensor([1])),
    "indices of the device for a tensor of the CPU": lambda: torch.ones(2)[torch.tensor([1], device=DEVICE)],
    "what is put at indices": lambda: there(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)),
    "a transform": lambda: torch.func.vmap(torch.mul)(there(2, 2), torch.ones(2, 2)),
    "a derivative": lambda: torch.func.jvp(lambda a: a * torch.ones(2), (there(2),), (there(2),)),
}
ALLOWED: dict[str, Callable[[], Tensor]] = {
    "a number": lambda: there(2) + torch.tensor(1.0),
    "a copy": lambda: there(2).copy_(torch.ones(2)),
    "a move": lambda: torch.ones(2).to(DEVICE),
    "indices of the CPU": lambda: there(3)[torch.tensor([True, False, True])],
    "a list of indices": lambda: there(2, 3)[:, [0, 2]],
    "what is put at a range of indices": lambda: put(there(2, 3), range(2), there(2, 2)),
    "a tensor like it": lambda: there(2) * there(2).new_tensor([1.0, 2.0]) * torch.tensor([1.0, 2.0], device=DEVICE),
}


@pytest.mark.parametrize("operation", REFUSED.values(), ids=REFUSED)
def test_what_a_gpu_refuses_is_refused(operation: Callable[[], object]) -> None:
    with pretended_device(), pytest.raises(MixedDevices):
        operation()


@pytest.mark.parametrize("operation", ALLOWED.values(), ids=ALLOWED)
def test_what_a_gpu_allows_is_allowed(operation: Callable[[], Tensor]) -> None:
    with pretended_device():
        assert operation().device.type == DEVICE


def test_nothing_is_left_of_a_pretended_device() -> None:
    generator = torch.Generator
    with pretended_device():
        pass
    assert torch.Generator is generator
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(2, device=DEVICE).tolist()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
def test_rounding_moves_no_number_further_than_devices_may_differ(
    model: ModelConfig | None, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative changes of the initial weights by up to 8 · 2⁻⁵², about what sums in another order make."""
    config = config_of(model, estimator, "adam")
    problem = problem_of(config, "cpu")
    exact = run(problem, config, members_of(problem))
    disturbed(problem, monkeypatch)
    assert_close(run(problem, config, members_of(problem)), exact, rel=CLOSE["rel"] / 100, abs_=CLOSE["abs_"] / 100)


def disturbed(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network draw its initial weights with another last digit."""
    initial, draw = problem.network.initial, torch.Generator().manual_seed(0)

    def rounded(seed: int) -> Tensor:
        theta = initial(seed)
        moved = theta * (1 + torch.randint(-8, 9, theta.shape, generator=draw, dtype=theta.dtype) * 2.0**-52)
        assert (moved != theta).sum() > len(theta) / 2
        return moved

    monkeypatch.setattr(problem.network, "initial", rounded)
