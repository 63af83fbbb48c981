"""A batch taken twice, with its noise and with its negative, against one that is written out."""

from __future__ import annotations

import torch
from hypothesis import given, settings

from tests.trainers.networks.perceptron.cases import Case, assert_close, case, each_activation, each_kind, seeds, widths
from trainers.config import HyperparameterConfig, Range
from trainers.networks.perceptron.mirror import mirrored_affine


def test_the_first_layer_takes_each_product_once() -> None:
    draw = torch.Generator().manual_seed(1)
    x, epsilon, weight, bias, std = (
        torch.randn(*shape, generator=draw, dtype=torch.float64)
        for shape in [(2, 5, 4), (2, 5, 4), (2, 3, 4), (2, 3), (2, 1, 1)]
    )
    z, mirror = mirrored_affine(torch.cat([x, epsilon], 1), std, weight, bias)
    inputs = torch.cat([x + std * epsilon, x - std * epsilon], 1)
    assert_close(z, inputs @ weight.mT + bias.unsqueeze(1))
    assert_close(mirror.moved, torch.cat([epsilon, -epsilon], 1) @ weight.mT)


def test_mixing_back_is_the_transpose_of_mixing() -> None:
    draw = torch.Generator().manual_seed(2)
    std = torch.randn(2, 1, 1, generator=draw, dtype=torch.float64)
    _, mirror = mirrored_affine(
        torch.ones(2, 10, 1).double(), std, torch.ones(2, 3, 1).double(), torch.ones(2, 3).double()
    )
    t, u = (torch.randn(2 * 4, 10, 3, generator=draw, dtype=torch.float64) for _ in range(2))  # four tensors a member
    assert_close((u * mirror.mixed(t)).sum(), (mirror.mixed_back(u) * t).sum())


@each_kind
@each_activation
@given(seed=seeds, hidden=widths)
@settings(max_examples=8)
def test_a_mirrored_batch_has_the_tangents_of_one_written_out(
    kinds: HyperparameterConfig, activation: str, seed: int, hidden: tuple[int, ...]
) -> None:
    check_mirrored(case(seed, activation, hidden, kinds, drawn=6))


def test_a_mirrored_batch_without_a_hidden_layer() -> None:
    check_mirrored(case(1, "relu", (), HyperparameterConfig(label_smoothing=Range(0.0, 0.5)), drawn=6))


def check_mirrored(c: Case) -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(2, len(c.layout.names), c.network.size, dtype=torch.float64, generator=draw)
    signs = [None if drawn is None else torch.cat([drawn, -drawn], 1) for drawn in c.noise]
    written_out = c.network.linearise(c.theta, torch.cat([c.x, c.x], 1), torch.cat([c.y, c.y], 1), c.h, signs)
    mirrored = c.trace(mirrored=True)
    assert_close(c.network.loss(mirrored), c.network.loss(written_out))
    for weights in (c.h, None):
        assert_close(c.tangent(mirrored, z, 12, weights), c.tangent(written_out, z, 12, weights))
