"""The law of the noise: standard normal, and no dependence between any two places, steps, sites or members.

Everything is drawn from fixed seeds, so that no test can fail by chance. The bounds are what chance exceeds less than
once in about a thousand times. Where the largest of many numbers is tested, the bound counts how many they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from trainers.noise import Noise, counter_bits, place_words, step_keys
from trainers.seeding import Stream, stream_key

CPU = torch.device("cpu")
RARE = 1e-3
KEY = stream_key(11, Stream.NOISE, 0)
# Two frequencies each: sums and differences of two words, and of multiples, as a lattice would show them.
FREQUENCIES = [(1, -1), (1, 1), (1, -2), (2, -1), (1, 3), (16, -1)]


def draws(steps: int, seeds: tuple[int, ...], batch: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """ε of so many steps, [P, steps, ⌈B/2⌉, columns]."""
    source = Noise(seeds, [(columns,)], batch, torch.zeros(1, dtype=dtype))
    out = torch.empty(len(seeds), steps, (batch + 1) // 2, columns, dtype=dtype)
    for step in range(steps):
        half = source.at(step)[0]
        assert half is not None
        out[:, step] = half
    return out


@pytest.fixture(scope="module")
def many() -> Tensor:
    """4 million: 100 steps of one member, [100, 50, 784]."""
    return draws(100, (3,), 100, 784)[0]


def bits(keys: list[int], steps: range, rows: int, columns: int) -> Tensor:
    """[keys · steps, rows, columns]."""
    parts = step_keys(np.array(keys, dtype=np.uint64), steps.start, len(steps))
    out = torch.empty(len(keys) * len(steps), rows, columns, dtype=torch.int32)
    counter_bits(place_words(rows, columns, CPU), torch.from_numpy(parts).reshape(3, -1, 1, 1).unbind(), out=out)
    return out


def largest_of(count: int, mean: float = 1.0) -> float:
    """What the largest of so many exponentially distributed numbers exceeds once in a thousand times."""
    return mean * math.log(count / RARE)


def largest_normal(count: int) -> float:
    """And the largest absolute value of so many standard normal ones."""
    return float(stats.norm.isf(RARE / 2 / count))


@pytest.mark.parametrize("power", range(1, 9))
def test_moments(many: Tensor, power: int) -> None:
    """E zᵏ = (k-1)!! for even k, and 0 for odd; the variance of zᵏ follows from the moment 2 k."""
    double_factorial = {k: math.prod(range(k - 1, 0, -2)) if k % 2 == 0 else 0 for k in (power, 2 * power)}
    error = math.sqrt((double_factorial[2 * power] - double_factorial[power] ** 2) / many.numel())
    assert abs(float(many.double().pow(power).mean()) - double_factorial[power]) < stats.norm.isf(RARE / 2) * error


@pytest.mark.parametrize("sigmas", [1, 2, 3, 4, 5])
def test_tails(many: Tensor, sigmas: int) -> None:
    for side in (many, -many):
        beyond = int((side > sigmas).sum())
        assert stats.binomtest(beyond, many.numel(), stats.norm.sf(sigmas)).pvalue > RARE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distribution_is_the_normal_one(dtype: torch.dtype) -> None:
    values = draws(20, (5,), 64, 784, dtype).double().numpy().ravel()  # half a million
    assert stats.kstest(values, stats.norm.cdf).pvalue > RARE


@pytest.mark.parametrize("half", ["radius", "angle"])
def test_of_a_pair_neither_number_tells_of_the_other(many: Tensor, half: str) -> None:
    """Rows i and i + 25 are the cosine and the sine of one angle, times one radius."""
    one, other = (part.double() for part in many.chunk(2, 1))
    odd = {"z": one, "z³": one**3, "sign": one.sign()}
    even = {"z²": one**2 - 1, "z⁴": one**4 - 3, "|z|": one.abs() - math.sqrt(2 / math.pi)}
    for name, function in (odd if half == "angle" else even).items():
        for against in (other, other**2 - 1, other.sign() * other**2, other.abs() - math.sqrt(2 / math.pi)):
            products = function * against
            error = float(products.std()) / math.sqrt(products.numel())
            assert abs(float(products.mean())) < largest_normal(24) * error, name


def test_no_two_rows_or_columns_of_a_step_are_correlated(many: Tensor) -> None:
    """All pairs; of rows also the squares. Few products have wider tails than a normal sum, hence the 15 %."""
    for step in (0, 1, 99):
        z = many[step].double()
        for matrix in (z, z.mT, z.sign(), z.sign().mT, (z**2 - 1) / math.sqrt(2)):
            count, length = matrix.shape
            correlations = (matrix @ matrix.mT / math.sqrt(length)).triu(1)
            pairs = count * (count - 1) // 2
            assert correlations.abs().max() < 1.15 * largest_normal(pairs)
            assert abs(float(correlations.sum()) / math.sqrt(pairs)) < 5


def test_no_frequency_stands_out_of_a_places_steps() -> None:
    """The spectrum of 4,096 steps at 96 places: as flat as chance, and so is that of the squares."""
    z = draws(4096, (1, 2), 16, 6).double().transpose(1, 3).flatten(0, 2)
    assert z.shape == (2 * 6 * 8, 4096)
    for values in (z, (z**2 - 1) / math.sqrt(2)):
        power = torch.fft.rfft(values, dim=1).abs().square()[:, 1:-1] / 4096
        assert power.max() < 1.3 * largest_of(power.numel())
        assert abs(float(power.mean()) - 1) < 0.02  # the squares' variance is known to 0.006
        over_places = power.mean(0) - 1
        assert over_places.abs().max() < 1.3 * largest_normal(len(over_places)) / math.sqrt(96)
        lags = torch.fft.irfft(torch.fft.rfft(values, 8192, dim=1).abs().square(), dim=1)[:, 1:40] / 4096
        assert lags.abs().max() < 1.1 * largest_normal(lags.numel()) / math.sqrt(4096)


def characters(words: Tensor, frequency: int) -> Tensor:
    """exp(2πi · frequency · word / 2³²)."""
    phase = (words * frequency).float() * (math.pi / 2**31)  # the product wraps, as it may
    return torch.complex(phase.cos(), phase.sin())


def check_pairs(groups: Iterator[Tensor], *, coherent: bool) -> None:
    """No two rows of the matrices [count, length] of words keep a fixed phase to each other along the length.

    For independent uniform words, |Σ exp(2πi (a u + b v) / 2³²)|² / length is exponential with mean 1, whatever the
    frequencies a and b. With ``coherent`` the sum goes over all matrices, and finds what is the same in all of them;
    otherwise each counts for itself.
    """
    sums: dict[tuple[int, int], list[Tensor]] = {pair: [] for pair in FREQUENCIES}
    total = 0
    for words in groups:
        total += words.shape[1]
        waves = {a: characters(words, a) for a in {a for pair in FREQUENCIES for a in pair}}
        for a, b in FREQUENCIES:
            product_ = waves[a] @ waves[b].mT
            if coherent and sums[a, b]:
                sums[a, b][0] += product_
            else:
                sums[a, b].append(product_)
    above = torch.ones(len(words), len(words)).triu(1).bool()
    for found in sums.values():
        length = total if coherent else words.shape[1]
        power = torch.stack([matrix.abs().square()[above] / length for matrix in found])
        assert power.max() < largest_of(power.numel())
        pairs = power.shape[1]
        # The pairs of n rows share these, so that their powers are independent only nearly.
        assert abs(float(power.mean()) - 1) < 5 / math.sqrt(power.numel()) + 8 / math.sqrt(pairs * length)


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize(("rows", "columns", "steps"), [(50, 784, 12), (50, 64, 60), (400, 300, 3), (5, 100, 100)])
def test_no_two_rows_keep_a_phase_along_the_columns(rows: int, columns: int, steps: int, coherent: bool) -> None:
    """The words of two rows differ by the same in every column."""
    check_pairs(iter(bits([KEY], range(steps), rows, columns)), coherent=coherent)


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize(("rows", "columns", "steps"), [(50, 784, 3), (50, 64, 60), (500, 300, 2)])
def test_no_two_columns_keep_a_phase_along_the_rows(rows: int, columns: int, steps: int, coherent: bool) -> None:
    check_pairs(iter(bits([KEY], range(steps), rows, columns).mT.contiguous()), coherent=coherent)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (16, 32), (2, 200), (200, 1)])
def test_no_two_places_keep_a_phase_along_the_steps(rows: int, columns: int) -> None:
    words = bits([KEY], range(3000), rows, columns).flatten(1).T.contiguous()
    check_pairs(iter([words.reshape(-1, 50) if rows * columns == 1 else words]), coherent=True)


def test_no_two_rectangles_of_places_cancel() -> None:
    """x(r, c) = row ^ column: of four places in two rows and columns, the words of the first round add up to 0."""
    words = bits([KEY], range(300), 50, 64)
    offsets = list(product((1, 7, 31), (1, 5, 33)))
    for row, column in offsets:
        difference = words - words.roll(row, 1) - words.roll(column, 2) + words.roll((row, column), (1, 2))
        waves = characters(difference, 1)
        for sums, length in ((waves.sum(0), 300), (waves.sum((1, 2)), 50 * 64)):
            assert (sums.abs().square() / length).max() < largest_of(len(offsets) * sums.numel())


def keys_near(key: int) -> list[int]:
    """The key, its neighbours, and all that differ from it by one bit."""
    return sorted({key, key + 1, key + 2, key + 3, key - 1, *(key ^ 1 << bit for bit in range(64))})


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([stream_key(seed, Stream.NOISE, 0) for seed in range(60)], id="members"),
        pytest.param([stream_key(1, Stream.NOISE, site) for site in range(60)], id="sites"),
        pytest.param(keys_near(KEY), id="keys that are near each other"),
        pytest.param(keys_near(2**40), id="small keys"),
    ],
)
def test_no_two_members_sites_or_steps_have_anything_in_common(keys: list[int]) -> None:
    at_one_step = bits(keys, range(7, 8), 10, 200).flatten(1)
    check_pairs(iter([at_one_step]), coherent=True)
    at_two_steps = bits(keys, range(7, 9), 10, 200).flatten(1)
    check_pairs(iter([at_two_steps]), coherent=True)
    at_many_steps = bits(keys[:1], range(200), 10, 200).flatten(1)
    check_pairs(iter([at_many_steps]), coherent=True)


def uniform(counts: NDArray[np.int64]) -> bool:
    return bool(RARE / 2 < stats.chisquare(counts).pvalue < 1 - RARE / 2)


@pytest.mark.parametrize("byte", [3, 2, 1, 0])
def test_every_byte_is_equidistributed_over_a_matrix_and_over_steps(byte: int) -> None:
    for words in (
        bits([KEY], range(4), 100, 784),
        bits([KEY], range(100_000), 1, 1),
        bits([KEY], range(50_000), 2, 1),
        bits(list(range(300)), range(3), 3, 40),
    ):
        values = words.view(torch.uint8).view(-1, 4)[:, byte].numpy()
        assert uniform(np.bincount(values, minlength=256))
        neighbours = (values[:-1] >> 4).astype(np.int64) << 4 | values[1:] >> 4
        assert uniform(np.bincount(neighbours[::2], minlength=256))


@pytest.mark.parametrize(
    ("rows", "columns", "steps"), [(64, 64, 256), (2, 2048, 256), (256, 16, 256), (1, 1, 1 << 20)], ids=str
)
def test_spacings_of_birthdays_are_as_often_equal_as_by_chance(rows: int, columns: int, steps: int) -> None:
    """Marsaglia's: of 4,096 days of a year of 2³², 4 spacings are others' equals in the mean (m³ / 4 n)."""
    days = bits([KEY], range(steps), rows, columns).view(-1, 4096).numpy().view(np.uint32)
    spacings = np.sort(np.diff(np.sort(days, 1), axis=1), 1)
    equal = int((np.diff(spacings, axis=1) == 0).sum())
    low, high = stats.poisson.interval(1 - RARE, 4 * len(days))
    assert low <= equal <= high


def test_a_bit_of_a_key_or_of_a_step_turns_half_of_all_bits() -> None:
    """Avalanche: each of the 32 bits, by each of the 64 bits of a key and the 20 lower ones of a step."""
    places = 10 * 40
    here = bits([KEY], range(1), 10, 40)
    turned = bits([KEY ^ 1 << bit for bit in range(64)], range(1), 10, 40)
    later = torch.cat([bits([KEY], range(1 << bit, (1 << bit) + 1), 10, 40) for bit in range(20)])
    changes = (torch.cat([turned, later]) ^ here).view(84, places, 1)
    flips = (changes >> torch.arange(32, dtype=torch.int32) & 1).double().sum(1)
    z = (flips - places / 2) / math.sqrt(places / 4)
    assert z.abs().max() < largest_normal(z.numel())
    assert abs(float(z.mean())) * math.sqrt(z.numel()) < 6
