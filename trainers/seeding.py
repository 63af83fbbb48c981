"""Every random draw is a function of (seed, stream, position), never of the order in which things happen.

So a run that is resumed, packed with others or moved to another actor draws the same numbers, and a checkpoint needs no
generator's state: the step is the state of every stream.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """The named streams of one member's seed. The numbers are part of every published result: never renumber."""

    WEIGHTS = 0
    T1_ORDER = 1
    T2_ORDER = 2
    NOISE = 3
    SLIDES = 4  # the fresh draw in the slides' formula for n0


def generator(seed: int, stream: Stream, *position: int) -> np.random.Generator:
    """A generator of its own for one place of one stream, for example one epoch's order."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stream), *position))
    return np.random.Generator(np.random.Philox(sequence))


def stream_key(seed: int, stream: Stream, *position: int) -> int:
    """A 64-bit key for :func:`splitmix64`."""
    state = np.random.SeedSequence(seed, spawn_key=(int(stream), *position)).generate_state(1, np.uint64)
    return int(state[0])


def splitmix64(key: NDArray[np.uint64] | np.uint64, position: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood, 2014): the numbers at ``position``, from 0, of the sequence of a seed."""
    with np.errstate(over="ignore"):
        z = key + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
