"""The order of batches: a function of a member's seed and the number of the batch alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.batches import Order
from trainers.seeding import Stream


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

    assert Order(x, torch.arange(12), [1, 2], Stream.T2_ORDER, batch).is_whole
    assert not Order(x, torch.arange(12), [1, 2], Stream.T2_ORDER, 11).is_whole


@given(
    seed=st.integers(0, 1000),
    numbers=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    batch=st.sampled_from([1, 3, 11]),
)
@settings(max_examples=30)
def test_the_first_examples_are_those_of_the_batch_whatever_was_written_into_it(
    seed: int, numbers: list[int], batch: int
) -> None:
    x, y = torch.randn(11, 2, 3, generator=torch.Generator().manual_seed(0)), torch.arange(11)
    before = x.clone()
    order = Order(x, y, [seed, seed + 1], Stream.T1_ORDER, batch)
    for number in numbers:
        drawn, labels = order.at(number)
        if not order.is_whole:
            drawn.fill_(7.0)
        held = drawn.clone()
        for examples in {1, (batch + 1) // 2, batch}:
            first = order.first(number, examples)
            assert first.shape == (2, examples, 2, 3)
            assert torch.equal(first, x[labels[:, :examples]])
        assert torch.equal(drawn, held)  # the batch stays valid
        assert torch.equal(x, before)  # and the shared data are no one's to write into


def test_the_next_batch_is_made_in_the_memory_of_the_last() -> None:
    """Between the steps of a small network, new memory would be the slower part."""
    x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30)
    order = Order(x, y, [1, 2], Stream.T1_ORDER, 8)
    places, all_labels = set(), []
    for number in range(9):  # three epochs
        drawn, labels = order.at(number)
        places.add(drawn.data_ptr())
        all_labels.append((labels, labels.clone()))
        assert torch.equal(drawn, x[labels])
        drawn.zero_()
    assert len(places) == 1
    assert all(torch.equal(labels, were) for labels, were in all_labels)  # labels stay
    assert not {x.data_ptr()} & places
