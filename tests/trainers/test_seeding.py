"""Random numbers as functions of (seed, stream, position), pinned: published results depend on them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainers.seeding import Stream, generator, splitmix64, stream_key


def test_streams_keep_their_numbers() -> None:
    assert {s.name: s.value for s in Stream} == {"WEIGHTS": 0, "T1_ORDER": 1, "T2_ORDER": 2, "NOISE": 3, "SLIDES": 4}


def test_splitmix64_is_the_published_one() -> None:
    """The reference outputs of splitmix64.c (Vigna) for the seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    found = splitmix64(np.uint64(1234567), np.arange(5, dtype=np.uint64))
    assert found.dtype == np.uint64
    assert found.tolist() == published


@given(keys=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3), start=st.integers(0, 2**63))
def test_splitmix64_is_the_same_by_pythons_integers_for_all_keys_and_positions_at_once(
    keys: list[int], start: int
) -> None:
    positions = np.uint64(start) + np.arange(20, dtype=np.uint64)
    found = splitmix64(np.array(keys, dtype=np.uint64)[:, None], positions)
    assert found.tolist() == [[by_integers(key, start + i) for i in range(20)] for key in keys]
    assert all(len(set(row)) == 20 for row in found.tolist())  # a bijection of the position


def by_integers(key: int, position: int) -> int:
    mask = 2**64 - 1
    z = key + (position + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


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
