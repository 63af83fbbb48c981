"""Second derivatives of the perceptron against autograd, one member at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from tests.trainers.networks.perceptron.cases import assert_close, case, each_activation, each_kind, seeds, widths
from trainers.config import HyperparameterConfig


@each_kind
@each_activation
@pytest.mark.parametrize(("size", "batch"), [(9, 3), (3, 9)])  # few rows: the direction stays a sum of outer products
@given(seed=seeds, hidden=widths)
@settings(max_examples=5)
def test_contracted_mixed_derivatives_are_autograds(
    kinds: HyperparameterConfig, activation: str, size: int, batch: int, seed: int, hidden: tuple[int, ...]
) -> None:
    """<w, ∂_h ∇θ C> with w = 0.7 times the clean gradient of another batch, and with any w."""
    c = case(seed, activation, hidden, kinds, size, batch)
    trace = c.trace()
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
            assert_close(way[member], wanted)
        products = [(w[member] * c.theta[member])[p.start : p.stop].sum() for p in c.network.parameters]
        assert_close(dots[member], torch.stack(products))


@each_kind
@each_activation
@pytest.mark.parametrize("examples", [6, 4])
@given(seed=seeds, hidden=widths)
@settings(max_examples=5)
def test_tangents_are_autograds(
    kinds: HyperparameterConfig, activation: str, examples: int, seed: int, hidden: tuple[int, ...]
) -> None:
    """∇²θ C z_h + ∂_h ∇θ C on the first examples of the batch: H products with the Hessian, by double backward."""
    c = case(seed, activation, hidden, kinds)
    columns = len(c.layout.names)
    z = torch.randn(2, columns, c.network.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    trace = c.trace()
    weights = torch.rand(2, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = c.network.tangent(trace, z, examples, weights)
    plain = c.network.tangent(trace, z[:, :1], examples, None)
    for member in (0, 1):
        theta, h, gradient = c.gradient(member, slice(examples))
        hessian = torch.stack([torch.autograd.grad(g, theta, retain_graph=True)[0] for g in gradient])
        direct = torch.stack([torch.autograd.grad(g, h, retain_graph=True)[0] for g in gradient])
        assert_close(found[member], z[member] @ hessian + weights[member, :, None] * direct.T)
        assert_close(plain[member], z[member, :1] @ hessian)


def test_no_hidden_layer_is_softmax_regression() -> None:
    kinds = HyperparameterConfig(log10_l2=None)
    c = case(1, "relu", (), kinds)
    trace = c.trace()
    found = c.network.mixed_vjp(trace, c.network.direction(c.theta))
    for member in (0, 1):
        _, h, gradient = c.gradient(member)
        assert_close(c.network.gradient(trace)[member], gradient.detach())
        (wanted,) = torch.autograd.grad((c.theta[member] * gradient).sum(), h)
        assert_close(found[member], wanted)


@each_kind
@each_activation
def test_the_tangent_of_a_step_is_made_in_place_from_the_tangents(kinds: HyperparameterConfig, activation: str) -> None:
    """z ← (I - η (∇²θ C + s)) γ z - η direct ∂_h ∇θ C."""
    c = case(5, activation, (5, 4), kinds)
    draw = torch.Generator().manual_seed(5)
    z = torch.randn(2, len(c.layout.names), c.network.size, generator=draw, dtype=torch.float64)
    strengths = torch.rand(2, len(c.network.parameters), generator=draw, dtype=torch.float64)
    trace = c.trace()
    entries = torch.tensor([p.stop - p.start for p in c.network.parameters])
    faded = 0.9 * z
    penalty = strengths.repeat_interleave(entries, 1).unsqueeze(1) * faded
    wanted = faded - 0.2 * (c.network.tangent(trace, faded, 4, c.h) + penalty)
    c.network.sgd_step_tangent(trace, z, 4, direct=c.h, strengths=strengths, fade=0.9, rate=0.2)
    assert_close(z, wanted)
