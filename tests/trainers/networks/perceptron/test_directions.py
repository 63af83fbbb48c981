"""Directions in θ-space: both forms of a layer are one direction, and the dots with θ."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings

from tests.trainers.networks.perceptron.cases import assert_close, case, each_activation, seeds, widths
from trainers.config import HyperparameterConfig, Range
from trainers.hyperparameters import penalty_strength, penalty_strengths
from trainers.networks.base import Descent
from trainers.networks.perceptron.directions import Factored, Factors, Formed, gradient_direction


@pytest.mark.parametrize(("rows", "form"), [(3, Factored), (9, Formed)])
def test_a_gradient_is_held_in_the_cheaper_form(rows: int, form: type[Factored | Formed]) -> None:
    assert isinstance(gradient_direction(factors(rows), None, torch.zeros(2, 6)), form)


def test_both_forms_give_the_same_products() -> None:
    draw = torch.Generator().manual_seed(1)
    few = factors(3)
    factored = gradient_direction(few, None, torch.zeros(2, 6, dtype=torch.float64))
    formed = Formed(weight=few.delta.mT @ few.a, bias=few.delta.sum(1))
    a = torch.randn(2, 4, 8, generator=draw, dtype=torch.float64)
    delta = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)
    weight = torch.randn(2, 6, 8, generator=draw, dtype=torch.float64)
    bias = torch.randn(2, 6, generator=draw, dtype=torch.float64)
    assert_close(factored.bias, formed.bias)
    assert_close(factored.times(a), formed.times(a))
    assert_close(factored.back(delta), formed.back(delta))
    for found, wanted in zip(factored.dots(0, weight, bias, None), formed.dots(0, weight, bias, None), strict=True):
        assert_close(found, wanted)


def factors(rows: int) -> Factors:
    """The factors of a gradient by a layer with 8 inputs and 6 outputs, of two members."""
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(2, rows, 8, generator=draw, dtype=torch.float64)
    return Factors(a=a, delta=torch.randn(2, rows, 6, generator=draw, dtype=torch.float64))


@each_activation
@pytest.mark.parametrize("scope", ["tied", "layer"])
@pytest.mark.parametrize(("size", "batch"), [(9, 3), (3, 9)])
@given(seed=seeds, hidden=widths)
@settings(max_examples=10)
def test_a_step_can_be_undone_in_the_dots(
    activation: str, scope: Literal["tied", "layer"], size: int, batch: int, seed: int, hidden: tuple[int, ...]
) -> None:
    """<w, θ> from what is known at θ' = (1 - η 10^λ) θ - η ∇C, and from the step."""
    c = case(seed, activation, hidden, HyperparameterConfig(log10_l2=Range(-5.5, 0.0, scope=scope)), size, batch)
    trace = c.trace()
    strengths = penalty_strengths(c.layout, c.h - 1)
    strength = penalty_strength(c.layout, strengths)
    after = torch.empty_like(c.theta)
    c.network.sgd_step(c.theta, trace, strength, 0.3, out=after)
    assert_close(after, c.theta - 0.3 * (c.network.gradient(trace) + strength * c.theta))
    stepped = Descent(trace=trace, strengths=strengths, rate=0.3)
    for theta, since in ((after, stepped), (c.theta, Descent(strengths=strengths))):
        clean = c.network.linearise(theta, c.x.flip(1), c.y)
        products = 0.7 * c.network.gradient(clean) * c.theta
        wanted = torch.stack([products[:, p.start : p.stop].sum(1) for p in c.network.parameters], 1)
        found = c.network.dots(c.theta, c.network.scaled_gradient(clean, 0.7), since)
        assert_close(found, wanted)
