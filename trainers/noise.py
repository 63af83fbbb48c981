"""Standard normal noise as a pure function of (seed, site, step): counter-based bits, then the Box-Muller transform.

No generator has a state that would have to be moved along, so every number can be computed at once, by torch's
vectorised operations, on any device. The bits are the same everywhere. The normal numbers that follow from them differ
between devices and processors in their last digits, as logarithm, sine and cosine do.

Mirrored draws. Half of a batch takes ε, and the other half -ε. Every example's noise keeps its law, the noise of a
batch has mean zero, and half as many numbers have to be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.seeding import Stream, splitmix64, stream_key

HALF_RANGE = 2.0**31  # of the signed 32-bit integers
# Tensors, because torch takes longer to wrap a number than to work on a small batch.
_CONSTANTS = [0.5, 2 * math.log(HALF_RANGE) + 1e-5, math.pi / HALF_RANGE]
_HALF, _LOG_TOP, _TO_RADIANS = torch.tensor(_CONSTANTS, dtype=torch.float64)
CACHED_NUMBERS = 1 << 16  # how many are drawn at once on a CPU
KEY_BLOCKS = 64  # draws whose keys are made at once
Keys = tuple[Tensor, ...]  # three, each int32 [R, 1, 1]; the latter two are odd
Words = tuple[Tensor, Tensor, Tensor]  # what tells the places of a matrix apart, see :func:`place_words`


def steps_at_once(numbers: int, device: torch.device) -> int:
    """For how many steps noise is drawn at once, where one step needs ``numbers`` of them.

    On a GPU a launch costs more than a draw. On a CPU so does a call for little, but much would leave the cache.
    """
    return 16 if device.type == "cuda" else max(1, min(16, CACHED_NUMBERS // max(numbers, 1)))


def whole(half: Tensor, examples: int) -> Tensor:
    """ε of the first ``examples`` of a batch, [P, M, ...], from ``half``: those beyond it take -ε, in their order."""
    rest = examples - half.shape[1]
    return half[:, :examples] if rest <= 0 else torch.cat([half, -half[:, :rest]], 1)


def folded(t: Tensor, half: int) -> Tensor:
    """The transpose of :func:`whole`: t [P, B, ...] of the first ``half`` examples less those that mirror them."""
    rest = t.shape[1] - half
    if rest == 0:
        return t
    out = t[:, :half].clone()
    out[:, :rest] -= t[:, half:]
    return out


class Noise:
    """Standard normal draws for every noise site of every member, mirrored within each batch."""

    def __init__(
        self, seeds: Sequence[int], shapes: Sequence[tuple[int, ...] | None], batch_size: int, like: Tensor
    ) -> None:
        rows = (batch_size + 1) // 2  # the examples of a batch that have a draw of their own
        numbers = len(seeds) * rows * max((math.prod(shape) for shape in shapes if shape is not None), default=0)
        self.block = steps_at_once(numbers, like.device)
        self.sites = [
            None
            if shape is None
            else _Site([stream_key(s, Stream.NOISE, site) for s in seeds], (rows, *shape), self.block, like)
            for site, shape in enumerate(shapes)
        ]
        self.drawn = -1
        self.values: list[Tensor | None] = []

    def at(self, step: int) -> list[Tensor | None]:
        """ε of inner step ``step`` for each site: [P, ⌈B/2⌉, *shape], or None where there is no noise.

        The other examples of the batch take -ε (:func:`whole`). Valid until the next call.
        """
        block, offset = divmod(step, self.block)
        if block != self.drawn:
            self.values = [None if site is None else site.draw(block) for site in self.sites]
            self.drawn = block
        return [None if value is None else value[:, offset] for value in self.values]


class _Site:
    """The draws of one site, and the memory that every one of them is made in."""

    def __init__(self, keys: Sequence[int], shape: tuple[int, ...], steps: int, like: Tensor) -> None:
        self.keys = np.array(keys, dtype=np.uint64)
        self.shape, self.steps = shape, steps
        self.words = place_words(shape[0] + shape[0] % 2, math.prod(shape[1:]), like.device)
        self.made = range(0)  # the blocks that ``block_keys`` are of
        self.block_keys = torch.empty(0)  # int32 [KEY_BLOCKS, 3, P·steps, 1, 1]
        self.out = like.new_empty(len(keys) * steps, len(self.words[0]), len(self.words[1]))
        # Numbers take the place of their bits: a draw that stays in the processor's cache is twice as fast.
        single = self.out.dtype == torch.float32
        self.bits = self.out.view(torch.int32) if single else torch.empty_like(self.out, dtype=torch.int32)

    def draw(self, block: int) -> Tensor:
        """ε of the steps of a block, [P, steps, *shape]."""
        steps = self.steps
        if block not in self.made:
            self.made = range(block - block % KEY_BLOCKS, block - block % KEY_BLOCKS + KEY_BLOCKS)
            parts = step_keys(self.keys, self.made.start * steps, KEY_BLOCKS * steps)
            each = parts.reshape(3, -1, KEY_BLOCKS, steps).transpose(2, 0, 1, 3).reshape(KEY_BLOCKS, 3, -1, 1, 1)
            self.block_keys = torch.from_numpy(each).to(self.out.device)
        counter_bits(self.words, self.block_keys[block - self.made.start].unbind(), out=self.bits)
        normal(self.bits, out=self.out)
        return self.out[:, : self.shape[0]].view(len(self.keys), steps, *self.shape)


def step_keys(keys: NDArray[np.uint64], first: int, steps: int) -> NDArray[np.int32]:
    """Three 32-bit keys for each 64-bit key at each of ``steps`` steps from ``first`` on, [3, P, steps]; two odd."""
    positions = 2 * np.arange(first, first + steps, dtype=np.uint64)
    words = [splitmix64(keys[:, None], positions + np.uint64(offset)) for offset in (0, 1)]
    high, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    parts = [words[0] >> high, (words[0] & low) | np.uint64(1), (words[1] >> high) | np.uint64(1)]
    return np.stack(parts).astype(np.uint32).view(np.int32)


def place_words(rows: int, columns: int, device: torch.device) -> Words:
    """A word for each row [rows, 1] and two for each column [columns]: pieces of SplitMix64, the same everywhere."""

    def words(stream: int, count: int) -> Tensor:
        made = splitmix64(np.uint64(stream), np.arange(count, dtype=np.uint64)) >> np.uint64(32)
        return torch.from_numpy(made.astype(np.uint32).view(np.int32)).to(device)

    return words(0, rows).unsqueeze(1), words(1, columns), words(2, columns)


def counter_bits(words: Words, keys: Keys, out: Tensor) -> None:
    """32 random bits for each of R keys at each place of a matrix, into ``out``, int32 [R, rows, columns].

    A hash of two rounds: a multiplication moves what differs upwards, and an addition of the upper half to the lower
    half moves it down again. Each round takes in a key, and more of the place. What the lowest bits lack in mixing does
    not matter, because a floating-point number is made of the upper ones.
    """
    rows, columns, more = words
    torch.bitwise_xor(rows, columns ^ keys[0], out=out)
    out.mul_(keys[1])
    out += out >> 16
    out.bitwise_xor_(more).mul_(keys[2])


def normal(bits: Tensor, out: Tensor) -> None:
    """Standard normal numbers, into ``out`` [R, rows, columns] with an even number of rows (Box and Muller, 1958).

    Of the int32 ``bits`` of the same shape, whose memory may be that of ``out``, the upper half of the rows gives the
    radius, √(-2 log u), and the lower half the angle. u = (abs(bits) + ½) / 2^31 lies in (0, 1], so that no radius is
    above 6.7. The small constant keeps rounding from making the root's argument negative.
    """
    out.copy_(bits)
    radius, angle = out.chunk(2, 1)
    radius.abs_().add_(_HALF).log_()
    torch.add(_LOG_TOP, radius, alpha=-2, out=radius).sqrt_()
    angle.mul_(_TO_RADIANS)
    cosine = torch.cos(angle)
    angle.sin_().mul_(radius)
    radius.mul_(cosine)
