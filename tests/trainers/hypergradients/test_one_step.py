"""Every hypergradient against central differences of the training itself, and against an independent computation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.problems import ALL_KINDS, LN10, cross_entropy, penalised_loss, penalty, small_config, small_problem
from trainers import Checkpoint, Member, Point, Problem, TrainConfig, train
from trainers.batches import Noise, Order
from trainers.config import HyperparameterConfig, Range
from trainers.seeding import Stream

STEP = 1e-5  # of the central differences


def last_point(
    problem: Problem, config: TrainConfig, values: dict[str, float], online: bool, resume: Checkpoint | None = None
) -> Point:
    points = [
        r for r in train(problem, config, [Member(7, values)], online=online, resume=resume) if isinstance(r, Point)
    ]
    return points[-1]


def differences(
    problem: Problem, config: TrainConfig, values: dict[str, float], resume: Checkpoint | None = None
) -> dict[str, float]:
    """dC2/dh of the rest of a training whose hyperparameters stay fixed, by central differences of its T2 loss."""
    out = {}
    for column, name in enumerate(values):
        losses = []
        for sign in (1, -1):
            moved = values if resume else values | {name: values[name] + sign * STEP}
            start = resume
            if resume is not None:
                h = resume.tensors["h"].clone()
                h[0, column] += sign * STEP
                start = Checkpoint(resume.step, resume.tensors | {"h": h})
            losses.append(last_point(problem, config, moved, online=False, resume=start).t2_loss)
        out[name] = (losses[0] - losses[1]) / (2 * STEP)
    return out


def checkpoint_at(
    problem: Problem, config: TrainConfig, values: dict[str, float], step: int, online: bool
) -> Checkpoint:
    records = train(problem, config, [Member(7, values)], online=online, checkpoint_every=step)
    return next(r for r in records if isinstance(r, Checkpoint))


def assert_equal(found: dict[str, float], wanted: dict[str, float], rel: float = 1e-6) -> None:
    # The differences themselves carry a rounding error of about 1e-16 / STEP, whatever the size of the derivative.
    assert found == pytest.approx(wanted, rel=rel, abs=2e-10)


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
def test_one_step_equals_central_differences(seed, hidden, activation, scope, log10_l2, noise_std, rate):
    box = HyperparameterConfig(log10_l2=Range(-6.0, 0.5, scope=scope), input_noise_std=Range(0.0, 1.0))
    config = small_config(hidden, activation, inner={"learning_rate": rate}, hyperparameters=box)
    problem = small_problem(config, seed)
    values = {name: noise_std + 0.01 if name == "input_noise_std" else log10_l2 for name in problem.layout.names}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_kind_of_hyperparameter_in_mid_training(optimiser, activation):
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


def test_groups_of_parameters():
    box = HyperparameterConfig(
        log10_l2=Range(-5.5, 0.0, scope="group"), l2_groups={"weights": ("*.weight",), "first_bias": ("1.bias",)}
    )
    config = small_config(hyperparameters=box)
    problem = small_problem(config)
    values = {"log10_l2_weights": -1.0, "log10_l2_first_bias": -0.5, "input_noise_std": 0.3}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


class ByHand:
    """θ, batch and noise of the first step of member 7, and the derivatives of that step by autograd."""

    def __init__(self, config: TrainConfig, problem: Problem, values: dict[str, float]) -> None:
        self.rate = config.inner.learning_rate
        self.shapes = [p.shape for p in problem.network.parameters]
        self.theta = problem.network.initial(7).requires_grad_()
        x, y = Order(*problem.t1, [7], Stream.T1_ORDER, 8).at(0)
        (noise, *_) = Noise([7], problem.network.noise_shapes, 8, self.theta).at(0)
        assert noise is not None
        self.x, self.y, self.noise = x[0], y[0], noise[0]
        self.t2 = problem.t2
        self.lam = torch.full((len(self.shapes),), values["log10_l2"], dtype=torch.float64)
        self.std = torch.tensor(values["input_noise_std"], dtype=torch.float64, requires_grad=True)
        loss = penalised_loss(self.theta, self.shapes, self.x, self.y, self.noise, self.lam, self.std)
        (self.g,) = torch.autograd.grad(loss, self.theta, create_graph=True)
        self.theta_next = (self.theta - self.rate * self.g).detach().requires_grad_()

    def v(self, theta: torch.Tensor) -> torch.Tensor:
        (v,) = torch.autograd.grad(cross_entropy(theta, self.shapes, *self.t2), theta)
        return v

    def closed_form(self, w: torch.Tensor) -> dict[str, float]:
        """-η1 ln10 10^λ <w, θ> and -η1 <w, ∂_n0 ∇θ C1>, the second by a double backward."""
        (mixed,) = torch.autograd.grad((w * self.g).sum(), self.std, retain_graph=True)
        penalty_part = LN10 * 10 ** self.lam[0] * (w * self.theta.detach()).sum()
        return {"log10_l2": float(-self.rate * penalty_part), "input_noise_std": float(-self.rate * mixed)}

    def hessian(self) -> torch.Tensor:
        def loss(theta: torch.Tensor) -> torch.Tensor:
            return penalised_loss(theta, self.shapes, self.x, self.y, self.noise, self.lam, self.std.detach())

        return torch.autograd.functional.hessian(loss, self.theta.detach())


@given(seed=st.integers(0, 1000), log10_l2=st.floats(-5.5, 0.0), noise_std=st.floats(0.0, 0.8))
@settings(max_examples=20)
def test_where_v_is_taken(seed, log10_l2, noise_std):
    values = {"log10_l2": log10_l2, "input_noise_std": noise_std}
    for estimator in ("t1t2", "t1t2_at_theta"):
        config = small_config(outer={"estimator": estimator})
        problem = small_problem(config, seed)
        by_hand = ByHand(config, problem, values)
        v = by_hand.v(by_hand.theta_next if estimator == "t1t2" else by_hand.theta)
        point = last_point(problem, config, values, online=True)
        assert point.hypergradient == pytest.approx(by_hand.closed_form(v), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("look_back", [0, 1, 4])
def test_neumann_equals_the_series_with_an_explicit_hessian(look_back):
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    config = small_config(outer={"estimator": "neumann", "look_back": look_back})
    problem = small_problem(config)
    by_hand = ByHand(config, problem, values)
    v = by_hand.v(by_hand.theta_next)
    once = torch.eye(len(v), dtype=torch.float64) - by_hand.rate * by_hand.hessian()
    series = sum(torch.linalg.matrix_power(once, i) for i in range(look_back + 1)) @ v  # type: ignore[operator]
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(by_hand.closed_form(series), rel=1e-9)
    if look_back == 0:
        exact = replace(config, outer=replace(config.outer, estimator="t1t2"))
        assert found == pytest.approx(last_point(problem, exact, values, online=True).hypergradient, rel=1e-12)


def test_seed_literal_lacks_the_factor_of_its_own_penalty():
    values = {"log10_l2": -3.0, "input_noise_std": 0.4}
    config = small_config(outer={"estimator": "seed_literal"})
    problem = small_problem(config)
    by_hand = ByHand(config, problem, values)
    v = by_hand.v(by_hand.theta_next)
    found = last_point(problem, config, values, online=True).hypergradient["log10_l2"]
    assert found == pytest.approx(float(-by_hand.rate * (v * by_hand.theta.detach()).sum()), rel=1e-9)
    assert found == pytest.approx(by_hand.closed_form(v)["log10_l2"] / (LN10 * 1e-3), rel=1e-9)


def test_seed_literal_has_no_direction_for_the_noise():
    """The mean of its fresh draws is 0: about as many positive as negative, over 400 members."""
    config = small_config(outer={"estimator": "seed_literal"})
    problem = small_problem(config)
    members = [Member(seed, {"log10_l2": -3.0, "input_noise_std": 0.4}) for seed in range(400)]
    last = [r for r in train(problem, config, members, online=True) if isinstance(r, Point) and r.step == 1]
    positive = sum(point.hypergradient["input_noise_std"] > 0 for point in last) / len(last)
    assert 0.4 < positive < 0.6  # five standard deviations of a fair coin: 0.375 to 0.625


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_forward_without_memory_is_t1t2(optimiser):
    inner = {"optimiser": optimiser, "steps": 5, "learning_rate": 0.05}
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    found = []
    for outer in ({"estimator": "forward", "memory": 0.0}, {"estimator": "t1t2"}):
        config = small_config(inner=inner, outer=outer | {"every": 5})
        found.append(last_point(small_problem(config), config, values, online=True).hypergradient)
    assert found[0] == pytest.approx(found[1], rel=1e-10)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_forward_with_the_whole_history_equals_central_differences_of_the_training(optimiser, activation):
    inner = {"optimiser": optimiser, "steps": 12, "learning_rate": 0.05, "epsilon": 1e-2, "schedule": "cosine"}
    outer = {"estimator": "forward", "memory": 1.0, "every": 12}
    config = small_config(activation=activation, inner=inner, outer=outer, hyperparameters=ALL_KINDS)
    problem = small_problem(config)
    values = {name: -1.0 if name.startswith("log10") else 0.2 for name in problem.layout.names}
    point = last_point(problem, config, values, online=True)
    assert_equal(point.hypergradient, differences(problem, config, values))


def test_forward_with_the_whole_history_equals_backpropagation_through_the_training():
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
        loss = cross_entropy(theta, by_hand.shapes, x[0] + std * epsilon[0], y[0]) + penalty(
            theta, by_hand.shapes, each
        )
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - 0.3 * g
    wanted = torch.autograd.grad(cross_entropy(theta, by_hand.shapes, *problem.t2), [lam, std])
    found = last_point(problem, config, values, online=True).hypergradient
    assert list(found.values()) == pytest.approx([float(w) for w in wanted], rel=1e-10)


def test_the_tangent_of_part_of_a_batch_is_unbiased():
    """The mean of the hypergradients from each example alone is that of the whole batch (their seen parts add up)."""
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    config = small_config(inner={"batch_size": 24}, outer={"estimator": "forward", "memory": 0.0})
    problem = small_problem(config)
    network, layout = problem.network, problem.layout
    theta = network.initial(7)[None]
    h = torch.tensor([list(values.values())], dtype=torch.float64)
    z = torch.randn(1, 2, theta.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, y = problem.t1[0][None], problem.t1[1][None]
    noise = [torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), None, None]
    ones = torch.ones_like(h)
    whole = network.tangent(network.linearise(theta, x, y, h, noise), z, 24, ones)
    parts = []
    for i in range(24):
        turn = torch.roll(torch.arange(24), -i)
        trace = network.linearise(theta, x[:, turn], y[:, turn], h, [noise[0][:, turn], None, None])
        parts.append(network.tangent(trace, z, 1, ones))
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-10, atol=1e-13)
    assert layout.names == tuple(values)
