"""The hypergradient of one step, against central differences of the training and against autograd."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.trainers.hypergradients.by_hand import ByHand, assert_equal, checkpoint_at, differences, last_point
from tests.trainers.problems import ALL_KINDS, STILL, cross_entropy, penalised_loss, small_config, small_problem
from tests.trainers.runs import TUNED, assert_close, bits, checkpoints, points, run
from trainers import Member
from trainers.batches import Order
from trainers.config import HyperparameterConfig, Range
from trainers.hypergradients import one_step
from trainers.noise import Noise, whole
from trainers.seeding import Stream


@given(
    seed=st.integers(0, 1000),
    hidden=st.lists(st.integers(1, 7), min_size=0, max_size=3).map(tuple),
    activation=st.sampled_from(["tanh", "relu"]),
    scope=st.sampled_from(["tied", "layer"]),
    log10_l2=st.floats(-5.5, 0.0),
    noise_std=st.floats(0.0, 0.8),
    rate=st.floats(0.01, 1.0),
)
@settings(max_examples=40)
@example(seed=0, hidden=(1, 1), activation="tanh", scope="tied", log10_l2=0.0, noise_std=0.0, rate=1.0)
@example(seed=0, hidden=(1, 1), activation="relu", scope="tied", log10_l2=0.0, noise_std=0.0, rate=0.99)
def test_one_step_equals_central_differences(
    seed: int,
    hidden: tuple[int, ...],
    activation: str,
    scope: Literal["tied", "layer"],
    log10_l2: float,
    noise_std: float,
    rate: float,
) -> None:
    # With η 10^λ = 1 a weight without a gradient becomes 0: the kink of relu, where there is no derivative.
    assume(activation == "tanh" or abs(1 - rate * 10**log10_l2) > 1e-3)
    box = HyperparameterConfig(log10_l2=Range(-6.0, 0.5, scope=scope), input_noise_std=Range(0.0, 1.0))
    config = small_config(hidden, activation, inner={"learning_rate": rate}, hyperparameters=box)
    problem = small_problem(config, seed)
    values = {name: noise_std + 0.01 if name == "input_noise_std" else log10_l2 for name in problem.layout.names}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_kind_of_hyperparameter_in_mid_training(optimiser: str, activation: str) -> None:
    """The tenth step of a training: the optimiser's state is not zero, and the real update is differentiated."""
    # An epsilon near Adam's √v̂ keeps its second derivative, which the central differences leave as an error, small.
    inner = {"optimiser": optimiser, "learning_rate": 0.05, "steps": 10, "epsilon": 1e-2}
    config = small_config(activation=activation, inner=inner, hyperparameters=ALL_KINDS)
    problem = small_problem(config)
    values = {name: -1.0 if name.startswith("log10") else 0.2 for name in problem.layout.names}
    at_nine = checkpoint_at(problem, config, values, 9, online=False)
    tuned = last_point(problem, config, values, online=True, resume=at_nine)
    assert len(tuned.hypergradient) == 7
    assert_equal(tuned.hypergradient, differences(problem, config, values, resume=at_nine))


def test_groups_of_parameters() -> None:
    box = HyperparameterConfig(
        log10_l2=Range(-5.5, 0.0, scope="group"), l2_groups={"weights": ("*.weight",), "first_bias": ("1.bias",)}
    )
    config = small_config(hyperparameters=box)
    problem = small_problem(config)
    values = {"log10_l2_weights": -1.0, "log10_l2_first_bias": -0.5, "input_noise_std": 0.3}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


@given(seed=st.integers(0, 1000), log10_l2=st.floats(-5.5, 0.0), noise_std=st.floats(0.0, 0.8))
@settings(max_examples=20)
def test_where_v_is_taken(seed: int, log10_l2: float, noise_std: float) -> None:
    values = {"log10_l2": log10_l2, "input_noise_std": noise_std}
    for estimator in ("t1t2", "t1t2_at_theta"):
        config = small_config(outer={"estimator": estimator})
        problem = small_problem(config, seed)
        by_hand = ByHand(config, problem, values)
        v = by_hand.v(by_hand.theta_next if estimator == "t1t2" else by_hand.theta)
        point = last_point(problem, config, values, online=True)
        assert point.hypergradient == pytest.approx(by_hand.closed_form(v), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("high", "clamp", "undone"), [(-2.5, True, True), (1.0, True, False), (-2.5, False, False)])
def test_a_step_is_undone_only_where_that_loses_no_digits(
    high: float, clamp: bool, undone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10^λ near 1/η nothing of θ is left in θ': the λ part is then computed by products, to the same value."""
    kinds = HyperparameterConfig(log10_l2=Range(-5.5, high, learning_rate=0.03), clamp=clamp)
    outer = {"every": 2, "batch_size": 3}
    config = small_config((20, 20), "relu", {"steps": 12, "batch_size": 3}, outer, kinds)
    problem = small_problem(config)
    assert one_step.undoable(problem.task(config), 0.3) == undone
    found = run(problem, config, [Member(1, TUNED)])
    monkeypatch.setattr(one_step, "undoable", lambda *_: False)
    products = run(problem, config, [Member(1, TUNED)])
    assert_close(found, products, rel=1e-9, abs_=1e-12)
    assert (bits(found) == bits(products)) != undone


@pytest.mark.parametrize("averaging", [0.0, 0.7])
def test_the_lagged_estimator_takes_v_at_the_mean_of_the_outer_step_before(averaging: float) -> None:
    """- η <v, ∂_h ∇θ C1~> by autograd; the first outer step has no other before it."""
    outer = {"estimator": "t1t2_lagged", "every": 2, "averaging": averaging}
    config = small_config(inner={"steps": 6}, outer=outer, hyperparameters=STILL)
    problem = small_problem(config)
    records = run(problem, config, [Member(7, TUNED)], checkpoint_every=1)
    thetas = [problem.network.initial(7), *(saved.tensors["theta"][0] for saved in checkpoints(records))]
    shapes, mean = [p.shape for p in problem.network.parameters], thetas[0]
    order, noise = (
        Order(*problem.t1, [7], Stream.T1_ORDER, config.inner.batch_size),
        Noise([7], problem.network.noise_shapes, config.inner.batch_size, thetas[0]),
    )
    before = None
    for count in (2, 4):
        mean = mean + max(1 - averaging**2, 2 / count) * (thetas[count] - mean)
        where = mean.clone().requires_grad_()
        (v,) = torch.autograd.grad(cross_entropy(where, shapes, *problem.t2), where)
        (x, y), (epsilon, *_) = order.at(count - 1), noise.at(count - 1)
        assert epsilon is not None
        theta = thetas[count - 1].clone().requires_grad_()
        h = torch.tensor(list(TUNED.values()), dtype=torch.float64, requires_grad=True)
        loss = penalised_loss(theta, shapes, x[0], y[0], whole(epsilon, len(y[0]))[0], h[0].expand(len(shapes)), h[1])
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        (wanted,) = torch.autograd.grad(-config.inner.learning_rate * (v if before is None else before) @ g, h)
        found = points(records)[count].hypergradient
        assert_equal(found, dict(zip(found, wanted.tolist(), strict=True)), rel=1e-9)
        before = v
