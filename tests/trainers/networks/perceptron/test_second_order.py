"""Second derivatives of the perceptron against autograd, one member at a time."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.trainers.networks.perceptron.cases import (
    KINDS,
    Case,
    assert_close,
    case,
    each_activation,
    each_kind,
    seeds,
    widths,
)
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
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(2, len(c.layout.names), c.network.size, dtype=torch.float64, generator=draw)
    trace = c.trace()
    weights = torch.rand(2, len(c.layout.names), dtype=torch.float64, generator=draw)
    found = c.tangent(trace, z, examples, weights)
    plain = c.tangent(trace, z[:, :1], examples)
    for member in (0, 1):
        hessian, direct = second_derivatives(c, member, examples)
        assert_close(found[member], z[member] @ hessian + weights[member, :, None] * direct)
        assert_close(plain[member], z[member, :1] @ hessian)


def second_derivatives(c: Case, member: int, examples: int) -> tuple[Tensor, Tensor]:
    """∇²θ C [N, N] and ∂_h ∇θ C [H, N] of the first examples, by double backward."""
    theta, h, gradient = c.gradient(member, slice(examples))
    hessian = torch.stack([torch.autograd.grad(g, theta, retain_graph=True)[0] for g in gradient])
    direct = torch.stack([torch.autograd.grad(g, h, retain_graph=True)[0] for g in gradient])
    return hessian, direct.T


@each_activation
@pytest.mark.parametrize("batch", [6, 5, 1])
def test_any_hyperparameters_can_have_a_direction_in_any_order(activation: str, batch: int) -> None:
    """Of the seven columns: each alone, all pairs in both orders, and some of more."""
    c = case(6, activation, (5, 4), KINDS["all by layer"], batch=batch)
    draw = torch.Generator().manual_seed(7)
    z = torch.randn(2, 7, c.network.size, dtype=torch.float64, generator=draw)
    weights = torch.rand(2, 7, dtype=torch.float64, generator=draw)
    trace, each = c.trace(), [second_derivatives(c, member, batch) for member in (0, 1)]
    subsets = [*itertools.permutations(range(7), 1), *itertools.permutations(range(7), 2), (5, 0, 6, 3), (1, 2, 4)]
    for columns in subsets:
        count = len(columns)
        found = c.tangent(trace, z[:, :count].contiguous(), batch, weights[:, :count], columns)
        for member, (hessian, direct) in enumerate(each):
            wanted = z[member, :count] @ hessian + weights[member, :count, None] * direct[list(columns)]
            assert_close(found[member], wanted)


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
def test_tangents_are_added_to_what_there_is(kinds: HyperparameterConfig, activation: str) -> None:
    """out ← β out + α (∇²θ C z_h + direct_h ∂_h ∇θ C)."""
    c = case(5, activation, (5, 4), kinds)
    draw = torch.Generator().manual_seed(5)
    z, out = torch.randn(2, 2, len(c.layout.names), c.network.size, generator=draw, dtype=torch.float64)
    before, columns = z.clone(), tuple(range(z.shape[1]))
    trace = c.trace()
    wanted = 0.75 * out + 0.2 * c.tangent(trace, z, 4, c.h)
    c.network.tangent(trace, z, 4, columns=columns, direct=c.h, out=out, beta=0.75, alpha=0.2)
    assert_close(out, wanted)
    assert torch.equal(z, before)
