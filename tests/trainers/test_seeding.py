"""Random numbers as functions of (seed, stream, position), pinned: published results depend on them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainers.seeding import Stream, generator, step_seed, stream_key


def test_streams_keep_their_numbers() -> None:
    assert {s.name: s.value for s in Stream} == {"WEIGHTS": 0, "T1_ORDER": 1, "T2_ORDER": 2, "NOISE": 3, "SLIDES": 4}


def test_step_seeds_are_splitmix64() -> None:
    """The reference outputs of splitmix64.c (Vigna) for the seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [step_seed(1234567, step) for step in range(5)] == published


@given(key=st.integers(0, 2**64 - 1), start=st.integers(0, 2**40))
def test_step_seeds_are_64_bits_and_differ_from_step_to_step(key: int, start: int) -> None:
    seeds = [step_seed(key, step) for step in range(start, start + 50)]
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_a_hundred_thousand_steps_hardly_ever_share_the_32_bits_that_torch_keeps() -> None:
    kept = np.array([step_seed(7, step) & 0xFFFFFFFF for step in range(100_000)])
    assert 100_000 - len(np.unique(kept)) <= 6  # 100,000² / 2³³ = 1.2 pairs are expected by chance


def test_numbers_of_a_seed_are_those_of_earlier_releases() -> None:
    """Pinned: a change here changes every result that was ever published under a seed."""
    assert stream_key(20160620, Stream.NOISE, 0) == 52314856725722425
    uniform = generator(20160620, Stream.WEIGHTS).uniform(-1, 1, 3)
    assert uniform.tolist() == [-0.29413876008618933, 0.21255961464509632, -0.0790129606537302]
    assert generator(20160620, Stream.T1_ORDER, 2).permutation(6).tolist() == [2, 3, 1, 0, 5, 4]


@given(
    one=st.tuples(st.integers(0, 50), st.sampled_from(Stream), st.lists(st.integers(0, 9), max_size=2).map(tuple)),
    other=st.tuples(st.integers(0, 50), st.sampled_from(Stream), st.lists(st.integers(0, 9), max_size=2).map(tuple)),
)
def test_places_share_their_numbers_only_if_they_are_one_place(
    one: tuple[int, Stream, tuple[int, ...]], other: tuple[int, Stream, tuple[int, ...]]
) -> None:
    (a, stream_a, at_a), (b, stream_b, at_b) = one, other
    draws = generator(a, stream_a, *at_a).integers(2**63, size=4).tolist()
    others = generator(b, stream_b, *at_b).integers(2**63, size=4).tolist()
    assert (draws == others) == (one == other)
    assert (stream_key(a, stream_a, *at_a) == stream_key(b, stream_b, *at_b)) == (one == other)


def test_seeds_of_any_size_are_all_of_them_used() -> None:
    low = generator(1, Stream.WEIGHTS).integers(2**63, size=4).tolist()
    assert generator(1 + 2**32, Stream.WEIGHTS).integers(2**63, size=4).tolist() != low
    assert generator(1 + 2**64, Stream.WEIGHTS).integers(2**63, size=4).tolist() != low
    assert stream_key(1 + 2**64, Stream.WEIGHTS) != stream_key(1, Stream.WEIGHTS)
