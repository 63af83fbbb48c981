"""The carried tangent of ``forward`` with each of its options, against a tangent carried by autograd."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jvp

from tests.trainers.hypergradients.by_hand import ByHand, assert_equal, differences, last_point
from tests.trainers.problems import (
    ALL_KINDS,
    LN10,
    STILL,
    cross_entropy,
    penalised_loss,
    penalty,
    small_config,
    small_problem,
)
from tests.trainers.runs import TUNED, checkpoints, points, run
from trainers import Member, Problem, TrainConfig
from trainers.batches import Order
from trainers.config import HyperparameterConfig, OuterConfig, Range
from trainers.noise import Noise, whole
from trainers.seeding import Stream


def by_autograd(
    problem: Problem, config: TrainConfig, seed: int, values: dict[str, float] = TUNED, lowest: float = 0.0
) -> dict[int, list[float]]:
    """dC2/dh at each outer step of a training by SGD whose hyperparameters stay, by autograd's own products.

    The tangent is that of a training whose noise is ``lowest`` at least. What ``carry`` leaves out is differentiated
    through the last step alone.
    """
    outer, rate, batch = config.outer, config.inner.learning_rate, config.inner.batch_size
    shapes = [p.shape for p in problem.network.parameters]
    theta = problem.network.initial(seed)
    h = torch.tensor(list(values.values()), dtype=torch.float64)
    carried_h = torch.stack([h[0], h[1].clamp(min=lowest)])
    z = before = torch.zeros(len(theta), 2, dtype=torch.float64)
    momentum = 1 - 1 / math.sqrt(outer.tangent_every)
    mean_theta, mean_z = theta, z
    order = Order(*problem.t1, [seed], Stream.T1_ORDER, batch)
    noise = Noise([seed], problem.network.noise_shapes, batch, theta)
    carrying = (outer.tangent_batch or batch, (1.0, -1.0) if outer.antithetic else (1.0,))
    units = torch.eye(2, dtype=torch.float64)
    found = {}
    for count in range(1, config.inner.steps + 1):
        (x, y), (half, *_) = order.at(count - 1), noise.at(count - 1)
        assert half is not None
        g = partial(gradient, shapes, x[0].clone(), y[0], torch.cat([half[0], -half[0]])[:batch])
        if count % outer.tangent_every == 0:
            kept = outer.memory**outer.tangent_every * z
            moved = [jvp(partial(g, *carrying), (theta, carried_h), (kept[:, k], units[k]))[1] for k in (0, 1)]
            z, before = kept - rate * torch.stack(moved, 1) + momentum * (z - before), z
        step, nothing = partial(g, batch, (1.0,)), torch.zeros_like(theta)
        last = torch.stack([jvp(step, (theta, h), (nothing, units[k]))[1] for k in (0, 1)], 1)
        theta = theta - rate * step(theta.requires_grad_(), h).detach()
        if count % outer.every == 0:
            weight = max(1 - outer.averaging**outer.every, outer.every / count)
            mean_theta, mean_z = (old + weight * (new - old) for old, new in ((mean_theta, theta), (mean_z, z)))
            where, along = (mean_theta, mean_z) if outer.averaging else (theta, z)
            if outer.averaging:  # that of λ as if the step had been made from the mean
                last = torch.stack([LN10 * 10 ** h[0] * mean_theta.detach(), last[:, 1]], 1)
            where = where.detach().requires_grad_()
            (v,) = torch.autograd.grad(cross_entropy(where, shapes, *problem.t2), where)
            names = zip(values, v @ along, v @ (-rate * last), strict=True)
            found[count] = [float(carried if name in outer.carry else one) for name, carried, one in names]
    return found


def gradient(
    shapes: list[tuple[int, ...]],
    x: Tensor,
    y: Tensor,
    epsilon: Tensor,
    rows: int,
    signs: tuple[float, ...],
    theta: Tensor,
    h: Tensor,
) -> Tensor:
    """∇θ C1~ on the first rows of a batch, the mean over both signs of its noise where both are given."""
    lam = h[0].expand(len(shapes))
    losses = [penalised_loss(theta, shapes, x[:rows], y[:rows], sign * epsilon[:rows], lam, h[1]) for sign in signs]
    (g,) = torch.autograd.grad(torch.stack(losses).mean(), theta, create_graph=True)
    return g


ECONOMIES = {"tangent_batch": 3, "tangent_every": 4, "antithetic": True, "averaging": 0.8}


@pytest.mark.parametrize("batch", [8, 7])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory": 0.9},
        {"memory": 0.0},
        {"tangent_batch": 3},
        {"tangent_every": 2},
        {"antithetic": True},
        {"averaging": 0.8},
        {"tangent_batch": 6, "antithetic": True},
        {"carry": OuterConfig().carry},
        {"carry": ("log10_l2",)},
        {"carry": ()},
        {"memory": 0.9} | ECONOMIES,
        {"carry": OuterConfig().carry, "memory": 0.9} | ECONOMIES,
        {"carry": (), "memory": 0.9} | ECONOMIES,
    ],
    ids=str,
)
def test_the_tangent_is_carried_as_its_options_say(options: dict[str, object], batch: int) -> None:
    """Also where a batch is odd, so that one of its examples has a noise that no other mirrors."""
    outer = {"estimator": "forward", "every": 4, "memory": 1.0} | options
    inner = {"steps": 16, "learning_rate": 0.2, "batch_size": batch}
    config = small_config((4,), inner=inner, outer=outer, hyperparameters=STILL)
    problem = small_problem(config)
    wanted = by_autograd(problem, config, 7)
    path = points(run(problem, config, [Member(7, TUNED)]))
    assert list(wanted) == [4, 8, 12, 16]
    for step, values in wanted.items():
        assert list(path[step].hypergradient.values()) == pytest.approx(values, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("coordinate", ["variance", "log_variance"])
@pytest.mark.parametrize("noise", [0.3, 0.05, 0.01, 0.0])
def test_the_tangent_by_the_variance_is_that_by_the_deviation(
    coordinate: Literal["variance", "log_variance"], noise: float
) -> None:
    """dC2/dn0² · 2 n0 = dC2/dn0, with n0 a sixteenth of the box's top at least; at n0 = 0 too it is not lost."""
    still = replace(STILL, input_noise_std=Range(0.0, 0.8, learning_rate=0.0, coordinate=coordinate))
    outer = {"estimator": "forward", "every": 4, "memory": 1.0, "antithetic": True}
    config = small_config((4,), inner={"steps": 16, "learning_rate": 0.2}, outer=outer, hyperparameters=still)
    problem = small_problem(config)
    values = TUNED | {"input_noise_std": noise}
    wanted = by_autograd(problem, config, 7, values, lowest=0.05)
    path = points(run(problem, config, [Member(7, values)]))
    for step, found in wanted.items():
        assert list(path[step].hypergradient.values()) == pytest.approx(found, rel=1e-9, abs=1e-14)
        assert abs(found[1]) > 1e-6


def test_the_options_leave_the_training_itself_alone() -> None:
    """They are about the hypergradient: with hyperparameters that stay, every loss is the same to the last bit."""
    config = small_config(inner={"steps": 12}, outer={"estimator": "forward", "every": 4}, hyperparameters=STILL)
    problem = small_problem(config)
    plain = [p.t2_loss for p in points(run(problem, config, [Member(7, TUNED)]))]
    for options in (ECONOMIES, {"carry": OuterConfig().carry}, {"carry": ()}):
        other = replace(config, outer=replace(config.outer, **options))
        assert [p.t2_loss for p in points(run(problem, other, [Member(7, TUNED)]))] == plain


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_forward_without_memory_is_t1t2(optimiser: str) -> None:
    inner = {"optimiser": optimiser, "steps": 5, "learning_rate": 0.05}
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    found = []
    for outer in ({"estimator": "forward", "memory": 0.0}, {"estimator": "t1t2"}):
        config = small_config(inner=inner, outer=outer | {"every": 5})
        found.append(last_point(small_problem(config), config, values, online=True).hypergradient)
    assert found[0] == pytest.approx(found[1], rel=1e-10)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("carry", [(), OuterConfig().carry, ("log10_l2", "label_smoothing"), ("hidden_noise_std",)])
def test_what_is_not_carried_has_the_hypergradient_of_t1t2(optimiser: str, carry: tuple[str, ...]) -> None:
    """And what is carried does not notice."""
    found = {}
    inner = {"optimiser": optimiser, "learning_rate": 0.05, "steps": 10, "epsilon": 1e-2}
    options: dict[str, dict[str, object]] = {
        "t1t2": {"estimator": "t1t2"},
        "all": {"estimator": "forward"},
        "some": {"estimator": "forward", "carry": carry},
    }
    for name, outer in options.items():
        config = small_config(inner=inner, outer=outer | {"every": 10}, hyperparameters=ALL_KINDS)
        problem = small_problem(config)
        values = {column: -1.0 if column.startswith("log10") else 0.2 for column in problem.layout.names}
        found[name] = last_point(problem, config, values, online=True).hypergradient
    assert len(found["some"]) == 7
    for column, value in found["some"].items():
        kind = column.partition("_layer")[0]
        assert value == pytest.approx(found["all" if kind in carry else "t1t2"][column], rel=1e-9), column
        assert found["all"][column] != pytest.approx(found["t1t2"][column], rel=1e-2)


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_by_default_lambda_has_its_one_step_formula_with_v_at_the_mean(averaging: float) -> None:
    """-η1 ln 10 10^λ <v, θ>, both at the running mean of θ' at the outer steps; else θ is that before the step."""
    outer = {"estimator": "forward", "every": 4, "averaging": averaging, "carry": OuterConfig().carry}
    config = small_config(inner={"steps": 13}, outer=outer, hyperparameters=STILL)
    problem = small_problem(config)
    records = run(problem, config, [Member(7, TUNED)], checkpoint_every=1)
    thetas = [problem.network.initial(7), *(saved.tensors["theta"][0] for saved in checkpoints(records))]
    shapes, mean = [p.shape for p in problem.network.parameters], thetas[0]
    for count in (4, 8, 12):
        mean = mean + max(1 - averaging**4, 4 / count) * (thetas[count] - mean)
        where = (mean if averaging else thetas[count]).clone().requires_grad_()
        (v,) = torch.autograd.grad(cross_entropy(where, shapes, *problem.t2), where)
        theta = mean if averaging else thetas[count - 1]
        wanted = -0.3 * LN10 * 10 ** TUNED["log10_l2"] * float(v @ theta)
        assert points(records)[count].hypergradient["log10_l2"] == pytest.approx(wanted, rel=1e-9)


def test_a_training_that_tunes_lambda_alone_carries_nothing_by_default() -> None:
    kinds = HyperparameterConfig(input_noise_std=None)
    outer = {"every": 3, "carry": OuterConfig().carry}
    found = []
    for estimator in ("forward", "t1t2"):
        config = small_config(inner={"steps": 9}, outer=outer | {"estimator": estimator}, hyperparameters=kinds)
        records = run(small_problem(config), config, [Member(7, {"log10_l2": -1.0})], checkpoint_every=4)
        found.append([point.hypergradient["log10_l2"] for point in points(records)[3:]])
        if estimator == "forward":
            assert all(saved.tensors["z"].shape[1] == 0 for saved in checkpoints(records))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_forward_with_the_whole_history_equals_central_differences_of_the_training(
    optimiser: str, activation: str
) -> None:
    inner = {"optimiser": optimiser, "steps": 12, "learning_rate": 0.05, "epsilon": 1e-2, "schedule": "cosine"}
    outer = {"estimator": "forward", "memory": 1.0, "every": 12}
    config = small_config(activation=activation, inner=inner, outer=outer, hyperparameters=ALL_KINDS)
    problem = small_problem(config)
    values = {name: -1.0 if name.startswith("log10") else 0.2 for name in problem.layout.names}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


def test_forward_with_the_whole_history_equals_backpropagation_through_the_training() -> None:
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    config = small_config(inner={"steps": 6}, outer={"estimator": "forward", "memory": 1.0, "every": 6})
    problem = small_problem(config)
    by_hand = ByHand(config, problem, values)
    theta, lam, std = by_hand.theta, by_hand.lam[:1].clone().requires_grad_(), by_hand.std
    order = Order(*problem.t1, [7], Stream.T1_ORDER, 8)
    noise = Noise([7], problem.network.noise_shapes, 8, theta.detach())
    for step in range(6):
        (x, y), (epsilon, *_) = order.at(step), noise.at(step)
        assert epsilon is not None
        each = lam.expand(len(by_hand.shapes))
        loss = cross_entropy(theta, by_hand.shapes, x[0] + std * whole(epsilon, 8)[0], y[0]) + penalty(
            theta, by_hand.shapes, each
        )
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - 0.3 * g
    wanted = torch.autograd.grad(cross_entropy(theta, by_hand.shapes, *problem.t2), [lam, std])
    found = last_point(problem, config, values, online=True).hypergradient
    assert list(found.values()) == pytest.approx([float(w) for w in wanted], rel=1e-10)


def test_the_tangent_of_part_of_a_batch_is_unbiased() -> None:
    """The mean of the hypergradients from each example alone is that of the whole batch (their seen parts add up)."""
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    config = small_config(inner={"batch_size": 24}, outer={"estimator": "forward", "memory": 0.0})
    problem = small_problem(config)
    network, layout = problem.network, problem.layout
    theta = network.initial(7)[None]
    h = torch.tensor([list(values.values())], dtype=torch.float64)
    z = torch.randn(1, 2, theta.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, y = problem.t1[0][None], problem.t1[1][None]
    noise = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ones = torch.ones_like(h)
    trace = network.linearise(theta, x, y, h, [noise, None, None])
    of_all, *parts = torch.zeros(25, 1, 2, theta.shape[1], dtype=torch.float64)
    network.tangent(trace, z, 24, columns=(0, 1), direct=ones, out=of_all)
    for i in range(24):
        turn = torch.roll(torch.arange(24), -i)
        trace = network.linearise(theta, x[:, turn], y[:, turn], h, [noise[:, turn], None, None])
        network.tangent(trace, z, 1, columns=(0, 1), direct=ones, out=parts[i])
    torch.testing.assert_close(torch.stack(parts).mean(0), of_all, rtol=1e-10, atol=1e-13)
    assert layout.names == tuple(values)
