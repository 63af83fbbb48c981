"""The inner optimisers against torch.optim, their schedules, and the derivatives of the updates they really make."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.problems import penalised_loss, small_config, small_problem
from tests.trainers.runs import TUNED, checkpoints, run
from trainers import Member
from trainers.batches import Order
from trainers.config import InnerConfig
from trainers.noise import Noise, whole
from trainers.optimisers.inner import initial_state, learning_rate, sensitivity, step, tangent
from trainers.seeding import Stream


def torchs(config: InnerConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimiser of torch that the configuration names."""
    if config.optimiser == "adam":
        return torch.optim.Adam(parameters, config.learning_rate, config.betas, config.epsilon)
    momentum = config.momentum if config.optimiser == "momentum" else 0.0
    return torch.optim.SGD(parameters, config.learning_rate, momentum=momentum)


def factor(schedule: str, fraction: float, done: int, total: int) -> float:
    """1 for the first part; over the last one a straight line, or half a cosine, that would be 0 at ``total``."""
    start = total * (1 - fraction)
    if schedule == "constant" or done <= start:
        return 1.0
    part = (done - start) / (total - start)
    return 1 - part if schedule == "linear" else math.cos(math.pi / 2 * part) ** 2


@given(
    done=st.integers(0, 49),
    fraction=st.floats(0.0, 1.0),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    rate=st.floats(1e-4, 10.0),
)
def test_the_learning_rate_of_each_step(
    done: int, fraction: float, schedule: Literal["constant", "linear", "cosine"], rate: float
) -> None:
    config = InnerConfig(learning_rate=rate, steps=50, schedule=schedule, anneal_fraction=fraction)
    found = learning_rate(config, done + 1)
    assert found == pytest.approx(rate * factor(schedule, fraction, done, 50), rel=1e-9, abs=1e-12)
    assert 0 < found <= rate  # even the last step moves


@given(
    optimiser=st.sampled_from(["momentum", "adam"]),
    seed=st.integers(0, 1000),
    rate=st.floats(1e-4, 1.0),
    momentum=st.floats(0.0, 0.99),
    betas=st.tuples(st.floats(0.0, 0.99), st.floats(0.0, 0.9999)),
)
def test_steps_equal_torchs_on_the_same_gradients(
    optimiser: Literal["momentum", "adam"], seed: int, rate: float, momentum: float, betas: tuple[float, float]
) -> None:
    config = InnerConfig(optimiser, rate, momentum, betas)
    draw = torch.Generator().manual_seed(seed)
    theta = torch.randn(2, 5, generator=draw, dtype=torch.float64)
    theirs = theta.clone().requires_grad_()
    reference = torchs(config, [theirs])
    state = initial_state(config, theta)
    for count in range(1, 31):
        g = torch.randn(2, 5, generator=draw, dtype=torch.float64)
        g[:, 0] = 0.0  # an entry that never had a gradient, like the weights of a pixel that is always black
        step(config, theta, g.clone(), state, rate=rate, count=count)
        theirs.grad = g
        reference.step()
        torch.testing.assert_close(theta, theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_fixed_training_is_what_torch_makes_of_the_same_batches_noise_and_penalty(
    optimiser: str, schedule: str
) -> None:
    inner = {"optimiser": optimiser, "learning_rate": 0.05, "steps": 13, "schedule": schedule, "anneal_fraction": 0.5}
    config = small_config(inner=inner)
    problem = small_problem(config)
    shapes = [p.shape for p in problem.network.parameters]
    theirs = problem.network.initial(7).requires_grad_()
    reference = torchs(config.inner, [theirs])
    order = Order(*problem.t1, [7], Stream.T1_ORDER, 8)
    noise = Noise([7], problem.network.noise_shapes, 8, theirs.detach())
    lam = torch.full((len(shapes),), TUNED["log10_l2"], dtype=torch.float64)
    std = torch.tensor(TUNED["input_noise_std"], dtype=torch.float64)
    found = checkpoints(run(problem, config, [Member(7, TUNED)], online=False, checkpoint_every=1))
    assert [c.step for c in found] == list(range(1, 13))
    for done, checkpoint in enumerate(found):
        (x, y), (epsilon, *_) = order.at(done), noise.at(done)
        assert epsilon is not None
        reference.zero_grad()
        penalised_loss(theirs, shapes, x[0], y[0], whole(epsilon, 8)[0], lam, std).backward()
        reference.param_groups[0]["lr"] = 0.05 * factor(schedule, 0.5, done, 13)
        reference.step()
        torch.testing.assert_close(checkpoint.tensors["theta"][0], theirs.detach(), rtol=1e-11, atol=1e-12)


def update(config: InnerConfig, g: Tensor, past: dict[str, Tensor], rate: float, count: int) -> Tensor:
    """u of θ' = θ - u(g), by its definition, so that autograd can differentiate it."""
    if config.optimiser == "momentum":
        return rate * (config.momentum * past["velocity"] + g)
    b1, b2 = config.betas
    mean = (b1 * past["mean"] + (1 - b1) * g) / (1 - b1**count)
    square = (b2 * past["square"] + (1 - b2) * g * g) / (1 - b2**count)
    return rate * mean / (square.sqrt() + config.epsilon)


@given(optimiser=st.sampled_from(["momentum", "adam"]), seed=st.integers(0, 1000), count=st.integers(1, 20))
def test_sensitivity_and_tangent_differentiate_the_update_that_was_made(
    optimiser: Literal["momentum", "adam"], seed: int, count: int
) -> None:
    config = InnerConfig(optimiser, epsilon=1e-3)
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    theta, g, z, g_dot = normal(2, 4), normal(2, 4), normal(2, 3, 4), normal(2, 3, 4)
    state, tangents = initial_state(config, theta), initial_state(config, z)
    for name in state:
        state[name][:] = normal(2, 4).abs() if name == "square" else normal(2, 4)
        tangents[name][:] = normal(2, 3, 4)
    past, past_tangents = ({k: v.clone() for k, v in s.items()} for s in (state, tangents))
    variables = [v.requires_grad_() for v in (g, *past.values())]
    slopes = torch.autograd.grad(update(config, g, past, 0.1, count).sum(), variables)
    each = zip(slopes, [g_dot, *past_tangents.values()], strict=True)
    carried = z - sum(slope.unsqueeze(1) * dot for slope, dot in each)  # u is elementwise
    g = g.detach()
    before = theta.clone()
    step(config, theta, g.clone(), state, rate=0.1, count=count)
    torch.testing.assert_close(before - theta, update(config, g, past, 0.1, count).detach(), rtol=1e-10, atol=1e-12)
    found = torch.as_tensor(sensitivity(config, g, state, rate=0.1, count=count), dtype=torch.float64)
    torch.testing.assert_close(found.expand(2, 4), slopes[0], rtol=1e-10, atol=1e-12)
    tangent(config, z, g_dot=g_dot, g=g, state=state, tangents=tangents, rate=0.1, count=count)
    torch.testing.assert_close(z, carried, rtol=1e-10, atol=1e-12)


def test_adam_has_finite_derivatives_where_there_never_was_a_gradient() -> None:
    config = InnerConfig("adam")
    g = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    state, z = initial_state(config, g), torch.zeros(1, 1, 2, dtype=torch.float64)
    tangents = initial_state(config, z)
    step(config, torch.zeros_like(g), g, state, rate=0.1, count=1)
    slope = sensitivity(config, g, state, rate=0.1, count=1)
    assert isinstance(slope, Tensor)
    assert slope[0, 0] == pytest.approx(0.1 / config.epsilon)  # u = η g / (|g| + ε) at g = 0
    assert slope[0, 1] == pytest.approx(0.1 * config.epsilon / (1 + config.epsilon) ** 2, rel=1e-6)
    tangent(config, z, g_dot=torch.zeros_like(z), g=g, state=state, tangents=tangents, rate=0.1, count=1)
    assert torch.equal(z, torch.zeros_like(z))
