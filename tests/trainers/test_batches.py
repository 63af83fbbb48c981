"""The order of batches and the noise: functions of a member's seed and the step alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.batches import Noise, Order
from trainers.seeding import Stream

LIKE = torch.zeros(1, dtype=torch.float64)


def rows(seed: int, size: int, batch: int, numbers: range, stream: Stream = Stream.T1_ORDER) -> list[list[int]]:
    """Which examples the batches hold."""
    x = torch.arange(size)
    order = Order(x, x, [seed], stream, batch)
    return [order.at(number)[1][0].tolist() for number in numbers]


@given(seed=st.integers(0, 2**63 - 1), size=st.integers(2, 40), data=st.data())
def test_each_epoch_is_a_permutation_less_an_incomplete_batch(seed: int, size: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, size - 1))
    per_epoch = size // batch
    found = rows(seed, size, batch, range(3 * per_epoch))
    for epoch in range(3):
        seen = [row for part in found[epoch * per_epoch : (epoch + 1) * per_epoch] for row in part]
        assert len(set(seen)) == len(seen) == per_epoch * batch
        assert set(seen) <= set(range(size))


def test_what_an_incomplete_batch_leaves_out_differs_from_epoch_to_epoch() -> None:
    found = rows(1, 25, 8, range(60))  # 20 epochs, each without one example
    assert {row for part in found for row in part} == set(range(25))


def test_members_epochs_seeds_and_streams_have_orders_of_their_own() -> None:
    first = rows(1, 50, 50 - 1, range(3))
    assert first[0] != first[1] != first[2] != first[0]
    assert rows(1, 50, 49, range(3)) == first
    assert rows(2, 50, 49, range(3)) != first
    assert rows(1, 50, 49, range(3), Stream.T2_ORDER) != first


def test_a_member_has_the_same_batches_wherever_it_stands_in_whatever_pack() -> None:
    x, y = torch.randn(30, 2, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30)
    pack = Order(x, y, [5, 6, 7], Stream.T1_ORDER, 4)
    alone = Order(x, y, [6], Stream.T1_ORDER, 4)
    for number in (0, 3, 6, 7, 20):
        (xs, ys), (xa, ya) = pack.at(number), alone.at(number)
        assert xs.shape == (3, 4, 2, 3)
        assert ys.shape == (3, 4)
        assert torch.equal(xs[1], xa[0])
        assert torch.equal(ys[1], ya[0])
        assert torch.equal(xs, x[ys])  # an input keeps its label


@given(seed=st.integers(0, 1000), numbers=st.lists(st.integers(0, 40), min_size=1, max_size=8))
@settings(max_examples=30)
def test_a_batch_depends_on_its_number_and_not_on_the_ones_asked_for_before(seed: int, numbers: list[int]) -> None:
    wanted = rows(seed, 11, 3, range(41))
    x = torch.arange(11)
    order = Order(x, x, [seed], Stream.T1_ORDER, 3)
    assert [order.at(number)[1][0].tolist() for number in numbers] == [wanted[number] for number in numbers]


@pytest.mark.parametrize("batch", [0, 12])
def test_a_batch_of_everything_is_the_set_itself(batch: int) -> None:
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    xs, ys = Order(x, torch.arange(12), [1, 2], Stream.T2_ORDER, batch).at(5)
    assert torch.equal(xs, torch.stack([x, x]))
    assert ys.tolist() == [list(range(12))] * 2


def noise(seeds: list[int], shapes: list[tuple[int, ...] | None], batch: int = 4, like: Tensor = LIKE) -> Noise:
    return Noise(seeds, shapes, batch, like)


def drawn(source: Noise, step: int, site: int = 0) -> Tensor:
    """The noise of a site that has some."""
    epsilon = source.at(step)[site]
    assert epsilon is not None
    return epsilon


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_standard_normal(dtype: torch.dtype) -> None:
    source = noise([3], [(50,)], 100, torch.zeros(1, dtype=dtype))
    draws = torch.cat([drawn(source, step).flatten() for step in range(20)]).double()
    count = len(draws)  # 100,000; five standard errors of each moment
    assert abs(draws.mean()) < 5 / math.sqrt(count)
    assert abs(draws.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((draws**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((draws**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert drawn(source, 0).dtype == dtype


def test_steps_sites_and_members_have_independent_noise() -> None:
    source = noise([3, 4], [(60,), (60,)], 50)
    draws = {
        (member, site, step): drawn(source, step, site)[member].clone()
        for step in (0, 1, 2)
        for site in (0, 1)
        for member in (0, 1)
    }
    for one, a in draws.items():
        for other, b in draws.items():
            correlation = float((a * b).mean())
            if one == other:
                assert correlation == pytest.approx(1, abs=0.2)
            else:  # five standard errors of the mean of 3,000 products
                assert abs(correlation) < 5 / math.sqrt(3000)
    within = draws[0, 0, 0]
    assert abs(float((within[:, 1:] * within[:, :-1]).mean())) < 5 / math.sqrt(2950)
    assert abs(float((within[1:] * within[:-1]).mean())) < 5 / math.sqrt(2940)


def test_noise_is_given_where_it_is_asked_for_and_shaped_like_the_examples() -> None:
    first, second, third = noise([1, 2, 3], [None, (2, 3), (5,)]).at(0)
    assert first is None
    assert second is not None
    assert second.shape == (3, 4, 2, 3)
    assert third is not None
    assert third.shape == (3, 4, 5)


@given(steps=st.lists(st.integers(0, 10**9), min_size=1, max_size=6), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30)
def test_noise_depends_on_seed_site_and_step_alone(steps: list[int], seed: int) -> None:
    """Not on the members beside, on their order, on what was drawn before, or on torch's own generator."""
    pack = noise([seed, 1, 2], [(3,), (3,)])
    for step in steps:
        torch.rand(1)
        wanted, found = pack.at(step)[1], noise([2, seed], [None, (3,)]).at(step)[1]
        assert wanted is not None
        assert found is not None
        assert torch.equal(found[1], wanted[0])
        assert torch.equal(found[0], wanted[2])


def test_drawing_leaves_the_generator_of_torch_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    noise([1], [(3,)]).at(0)
    assert torch.equal(torch.get_rng_state(), before)
