"""The perceptron's derivatives in closed form against autograd, one member at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.problems import ALL_KINDS
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.hyperparameters import Layout, lay_out, penalty_strength, penalty_strengths
from trainers.networks.base import Descent
from trainers.networks.perceptron.network import StackedMLP, parameters_of

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
KINDS = {
    "all by layer": ALL_KINDS,
    "all tied": HyperparameterConfig(hidden_noise_std=Range(0.0, 0.8), label_smoothing=Range(0.0, 0.5)),
    "hidden noise alone": HyperparameterConfig(
        log10_l2=None, input_noise_std=None, hidden_noise_std=Range(0.0, 0.8, scope="layer")
    ),
    "smoothing alone": HyperparameterConfig(log10_l2=None, input_noise_std=None, label_smoothing=Range(0.0, 0.5)),
}


@dataclass
class Case:
    """A stack of perceptrons with a batch each, and the loss of one of them by torch's own operations."""

    network: StackedMLP
    layout: Layout
    theta: Tensor  # [P, N]
    x: Tensor  # [P, B, d]
    y: Tensor  # [P, B]
    h: Tensor  # [P, H]
    noise: list[Tensor | None]

    def loss(self, member: int, theta: Tensor, h: Tensor, rows: slice = slice(None)) -> Tensor:
        """C of one member's batch, regularised but for the L2 penalty."""
        layout, a = self.layout, self.x[member, rows]
        columns = (layout.input_noise, *layout.hidden_noise)
        for layer, (weight, bias) in enumerate(self.parts(theta)):
            if layer:
                a = torch.relu(a) if self.network.activation == "relu" else torch.tanh(a)
            if (column := columns[layer]) is not None:
                a = a + h[column] * self.noise[layer][member, rows]
            a = torch.nn.functional.linear(a, weight, bias)
        smoothing = h[layout.label_smoothing] if layout.label_smoothing is not None else 0.0
        q = torch.nn.functional.one_hot(self.y[member, rows], 3) * (1 - smoothing) + smoothing / 3
        return -(q * torch.log_softmax(a, 1)).sum(1).mean()

    def parts(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        pieces = [theta[p.start : p.stop].view(p.shape) for p in self.network.parameters]
        return list(zip(pieces[::2], pieces[1::2], strict=True))

    def gradient(self, member: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """θ, h and ∇θ C, to be differentiated again."""
        theta, h = self.theta[member].clone().requires_grad_(), self.h[member].clone().requires_grad_()
        loss = self.loss(member, theta, h, rows) + 0 * (theta.sum() + h.sum())  # each is used, if only like this
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return theta, h, gradient


def case(
    seed: int, activation: str, hidden: tuple[int, ...], kinds: HyperparameterConfig, size: int = 4, batch: int = 6
) -> Case:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    layout = lay_out(kinds, parameters_of(size, hidden, 3), len(hidden))
    network = StackedMLP(ModelConfig(hidden=hidden, activation=activation), size, 3, layout)  # type: ignore[arg-type]
    noise = [None if shape is None else normal(2, batch, *shape) for shape in network.noise_shapes]
    h = torch.rand(2, len(layout.names), generator=draw, dtype=torch.float64) * 0.5
    y = torch.randint(3, (2, batch), generator=draw)
    return Case(network, layout, normal(2, network.size), normal(2, batch, size), y, h, noise)


each_kind = pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
each_activation = pytest.mark.parametrize("activation", ["relu", "tanh"])
seeds, widths = st.integers(0, 10_000), st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


@each_kind
@each_activation
@given(seed=seeds, hidden=widths)
@settings(max_examples=8)
def test_gradients_are_autograds(kinds, activation, seed, hidden):
    c = case(seed, activation, hidden, kinds)
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    for member in (0, 1):
        torch.testing.assert_close(c.network.gradient(trace)[member], c.gradient(member)[2].detach(), **CLOSE)


@each_kind
@each_activation
@pytest.mark.parametrize(("size", "batch"), [(9, 3), (3, 9)])  # few rows: the direction stays a sum of outer products
@given(seed=seeds, hidden=widths)
@settings(max_examples=5)
def test_contracted_mixed_derivatives_are_autograds(kinds, activation, size, batch, seed, hidden):
    """<w, ∂_h ∇θ C> with w = 0.7 times the clean gradient of another batch, and with any w."""
    c = case(seed, activation, hidden, kinds, size, batch)
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    clean = c.network.linearise(c.theta, c.x.flip(1), c.y.flip(1))
    w = 0.7 * c.network.gradient(clean)
    found = c.network.mixed_vjp(trace, c.network.scaled_gradient(clean, 0.7))
    dense = c.network.mixed_vjp(trace, c.network.direction(w))
    scaled = c.network.mixed_vjp(trace, c.network.scaled_gradient(clean, torch.full_like(c.theta, 0.7)))
    dots = c.network.dots(c.theta, c.network.scaled_gradient(clean, 0.7))
    for member in (0, 1):
        _, h, gradient = c.gradient(member)
        (wanted,) = torch.autograd.grad((w[member] * gradient).sum(), h)
        for way in (found, dense, scaled):
            torch.testing.assert_close(way[member], wanted, **CLOSE)
        products = [(w[member] * c.theta[member])[p.start : p.stop].sum() for p in c.network.parameters]
        torch.testing.assert_close(dots[member], torch.stack(products), **CLOSE)


@each_activation
@pytest.mark.parametrize("scope", ["tied", "layer"])
@pytest.mark.parametrize(("size", "batch"), [(9, 3), (3, 9)])
@given(seed=seeds, hidden=widths)
@settings(max_examples=10)
def test_a_step_can_be_undone_in_the_dots(activation, scope, size, batch, seed, hidden):
    """<w, θ> from what is known at θ' = (1 - η 10^λ) θ - η ∇C, and from the step."""
    c = case(seed, activation, hidden, HyperparameterConfig(log10_l2=Range(-5.5, 0.0, scope=scope)), size, batch)
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    strengths = penalty_strengths(c.layout, c.h - 1)
    strength = penalty_strength(c.layout, strengths)
    after = torch.empty_like(c.theta)
    c.network.sgd_step(c.theta, trace, strength, 0.3, out=after)
    torch.testing.assert_close(after, c.theta - 0.3 * (c.network.gradient(trace) + strength * c.theta), **CLOSE)
    for theta, since in ((after, Descent(trace, 1 - 0.3 * strengths, 0.3)), (c.theta, Descent(None, strengths, 0.0))):
        clean = c.network.linearise(theta, c.x.flip(1), c.y)
        products = 0.7 * c.network.gradient(clean) * c.theta
        wanted = torch.stack([products[:, p.start : p.stop].sum(1) for p in c.network.parameters], 1)
        found = c.network.dots(c.theta, c.network.scaled_gradient(clean, 0.7), since)
        torch.testing.assert_close(found, wanted, **CLOSE)


@each_kind
@each_activation
@pytest.mark.parametrize("examples", [6, 4])
@given(seed=seeds, hidden=widths)
@settings(max_examples=5)
def test_tangents_are_autograds(kinds, activation, examples, seed, hidden):
    """∇²θ C z_h + ∂_h ∇θ C on the first examples of the batch: H products with the Hessian, by double backward."""
    c = case(seed, activation, hidden, kinds)
    columns = len(c.layout.names)
    z = torch.randn(2, columns, c.network.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    weights = torch.rand(2, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = c.network.tangent(trace, z, examples, weights)
    plain = c.network.tangent(trace, z[:, :1], examples, None)
    for member in (0, 1):
        theta, h, gradient = c.gradient(member, slice(examples))
        hessian = torch.stack([torch.autograd.grad(g, theta, retain_graph=True)[0] for g in gradient])
        direct = torch.stack([torch.autograd.grad(g, h, retain_graph=True)[0] for g in gradient])
        torch.testing.assert_close(found[member], z[member] @ hessian + weights[member, :, None] * direct.T, **CLOSE)
        torch.testing.assert_close(plain[member], z[member, :1] @ hessian, **CLOSE)


@each_kind
@each_activation
@given(seed=seeds, hidden=widths)
@settings(max_examples=8)
def test_a_mirrored_batch_has_the_tangents_of_one_written_out(kinds, activation, seed, hidden):
    check_mirrored(case(seed, activation, hidden, kinds))


def test_a_mirrored_batch_without_a_hidden_layer():
    check_mirrored(case(1, "relu", (), HyperparameterConfig(label_smoothing=Range(0.0, 0.5))))


def check_mirrored(c: Case) -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(2, len(c.layout.names), c.network.size, dtype=torch.float64, generator=draw)
    signs = [None if drawn is None else torch.cat([drawn, -drawn], 1) for drawn in c.noise]
    written_out = c.network.linearise(c.theta, torch.cat([c.x, c.x], 1), torch.cat([c.y, c.y], 1), c.h, signs)
    mirrored = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise, mirrored=True)
    torch.testing.assert_close(c.network.loss(mirrored), c.network.loss(written_out), **CLOSE)
    for weights in (c.h, None):
        wanted = c.network.tangent(written_out, z, 12, weights)
        torch.testing.assert_close(c.network.tangent(mirrored, z, 12, weights), wanted, **CLOSE)


def test_no_hidden_layer_is_softmax_regression():
    kinds = HyperparameterConfig(log10_l2=None)
    c = case(1, "relu", (), kinds)
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    found = c.network.mixed_vjp(trace, c.network.direction(c.theta))
    for member in (0, 1):
        _, h, gradient = c.gradient(member)
        torch.testing.assert_close(c.network.gradient(trace)[member], gradient.detach(), **CLOSE)
        (wanted,) = torch.autograd.grad((c.theta[member] * gradient).sum(), h)
        torch.testing.assert_close(found[member], wanted, **CLOSE)


@each_activation
def test_the_loss_of_a_trace_is_the_cross_entropy_of_the_labels_whatever_the_smoothing(activation):
    c = case(3, activation, (5, 4), KINDS["all tied"])
    trace = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise)
    sharp = c.h.clone()
    sharp[:, c.layout.label_smoothing] = 0.0
    wanted = torch.stack([c.loss(member, c.theta[member], sharp[member]) for member in (0, 1)])
    torch.testing.assert_close(c.network.loss(trace), wanted, **CLOSE)


@each_activation
def test_evaluation_in_chunks_is_the_clean_loss_and_the_share_of_wrong_answers(activation, monkeypatch):
    c = case(4, activation, (5,), KINDS["all tied"], batch=11)
    x, y = c.x[0], c.y[0]
    for rows in (8192, 8):  # all at once; four examples a chunk and three in the last
        monkeypatch.setattr("trainers.networks.perceptron.network.EVALUATION_ROWS", rows)
        loss, error = c.network.evaluate(c.theta, x, y)
        for member in (0, 1):
            (w1, b1), (w2, b2) = c.parts(c.theta[member])
            hidden = torch.relu(x @ w1.T + b1) if activation == "relu" else torch.tanh(x @ w1.T + b1)
            logits = hidden @ w2.T + b2
            torch.testing.assert_close(loss[member], torch.nn.functional.cross_entropy(logits, y), **CLOSE)
            assert error[member] == pytest.approx(sum(logits.argmax(1) != y).item() / 11)


def test_initial_weights_are_uniform_as_those_of_torchs_linear_layers():
    layout = lay_out(HyperparameterConfig(), parameters_of(100, (50,), 10), 1)
    network = StackedMLP(ModelConfig(hidden=(50,)), 100, 10, layout)
    theta = network.initial(3)
    assert theta.dtype == torch.float64
    assert [(p.name, p.shape, p.layer) for p in network.parameters] == [
        ("1.weight", (50, 100), 1),
        ("1.bias", (50,), 1),
        ("2.weight", (10, 50), 2),
        ("2.bias", (10,), 2),
    ]
    for parameter, fan_in in zip(network.parameters, (100, 100, 50, 50), strict=True):
        values, bound = theta[parameter.start : parameter.stop], 1 / math.sqrt(fan_in)
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.8 * bound
        spread = bound / math.sqrt(3)
        assert abs(values.mean()) < 5 * spread / math.sqrt(len(values))
        torch.manual_seed(0)
        reference = torch.nn.Linear(fan_in, 1000).weight
        assert reference.abs().max() <= bound
        assert reference.abs().max() > 0.99 * bound
    assert torch.equal(network.initial(3), theta)
    assert not torch.equal(network.initial(4), theta)
