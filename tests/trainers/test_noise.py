"""The noise of a training: what it depends on, and how its examples mirror each other. Its law: ``test_noise_law``."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.noise import Noise, counter_bits, folded, normal, place_words, step_keys, steps_at_once, whole
from trainers.seeding import Stream, splitmix64, stream_key

CPU = torch.device("cpu")
LIKE = torch.zeros(1, dtype=torch.float64)
LOW, HIGH = -(2**31), 2**31 - 1


def noise(seeds: list[int], shapes: list[tuple[int, ...] | None], batch: int = 4, like: Tensor = LIKE) -> Noise:
    return Noise(seeds, shapes, batch, like)


def test_noise_is_given_where_it_is_asked_for_and_shaped_like_the_examples() -> None:
    first, second, third = noise([1, 2, 3], [None, (2, 3), (5,)]).at(0)
    assert first is None
    assert second is not None
    assert second.shape == (3, 2, 2, 3)
    assert third is not None
    assert third.shape == (3, 2, 5)
    assert second.dtype == third.dtype == torch.float64


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_half_of_a_batch_mirrors_the_other(batch: int, shape: tuple[int, ...]) -> None:
    """Of an odd batch the last of the first half stands alone; and all that is drawn differs."""
    half = noise([1, 2], [shape], batch).at(3)[0]
    assert half is not None
    own = (batch + 1) // 2
    assert half.shape == (2, own, *shape)
    assert len(half.unique()) == half.numel()
    found = whole(half, batch)
    assert found.shape == (2, batch, *shape)
    assert torch.equal(found[:, :own], half)
    assert torch.equal(found[:, own:], -half[:, : batch - own])
    if batch % 2 == 0:
        assert torch.equal(found[:, :own] + found[:, own:], torch.zeros_like(half))
    assert torch.equal(whole(found, batch), found)  # what is drawn for all needs no mirror
    assert all(torch.equal(whole(half, some), found[:, :some]) for some in range(1, batch + 1))


@given(batch=st.integers(1, 9), seed=st.integers(0, 1000))
def test_folding_is_the_transpose_of_mirroring(batch: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    half = torch.randn(2, (batch + 1) // 2, 3, generator=draw, dtype=torch.float64)
    t = torch.randn(2, batch, 3, generator=draw, dtype=torch.float64)
    before = t.clone()
    there, back = (t * whole(half, batch)).sum(), (folded(t, half.shape[1]) * half).sum()
    torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-12)
    assert torch.equal(t, before)


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


@pytest.mark.parametrize("shape", [(5,), (40, 60), (400, 300)])
def test_how_many_steps_are_drawn_at_once_is_no_setting(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Tensor]] = []
    for numbers in (1, 1 << 16, 1 << 30):
        monkeypatch.setattr("trainers.noise.CACHED_NUMBERS", numbers)
        source = noise([4, 5], [shape], 3)
        assert source.block == steps_at_once(4 * math.prod(shape), CPU)
        found.append([])
        for step in (0, 1, 15, 16, 17, 1023, 1024, 70_001, 2):
            half = source.at(step)[0]
            assert half is not None
            found[-1].append(half.clone())
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_drawing_leaves_the_generator_of_torch_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    noise([1], [(3,)]).at(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_bits_are_those_of_earlier_releases() -> None:
    """Pinned: a change here changes every result that was ever published under a seed. Integers alone, so that they
    are the same on every device.
    """
    keys = step_keys(np.array([stream_key(20160620, Stream.NOISE, site) for site in (0, 1)], dtype=np.uint64), 9, 2)
    assert keys.tolist() == PINNED_KEYS
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        out = torch.empty(4, 2, 3, dtype=torch.int32, device=device)
        parts = torch.from_numpy(keys).to(device).reshape(3, -1, 1, 1).unbind()
        counter_bits(place_words(2, 3, out.device), parts, out=out)
        assert out.tolist() == PINNED_BITS


def test_bits_are_their_formula_in_pythons_integers() -> None:
    """For keys, rows and columns from SplitMix64, written once more without any wrapping type."""
    keys = step_keys(np.array([7, 2**64 - 1], dtype=np.uint64), 5, 3)
    out = torch.empty(6, 4, 5, dtype=torch.int32)
    counter_bits(place_words(4, 5, CPU), torch.from_numpy(keys).reshape(3, -1, 1, 1).unbind(), out=out)
    for r, (key, step) in enumerate((key, step) for key in (7, 2**64 - 1) for step in (5, 6, 7)):
        one, two = (upper_and_lower(key, 2 * step + part) for part in (0, 1))
        for row in range(4):
            for column in range(5):
                x = upper_and_lower(0, row)[0] ^ upper_and_lower(1, column)[0] ^ one[0]
                y = x * (one[1] | 1) % 2**32
                v = (y + ((y - (y >> 31 << 32)) >> 16)) % 2**32  # the shift keeps the sign
                wanted = (v ^ upper_and_lower(2, column)[0]) * (two[0] | 1) % 2**32
                assert int(out[r, row, column]) % 2**32 == wanted


def upper_and_lower(key: int, position: int) -> tuple[int, int]:
    return divmod(int(splitmix64(np.uint64(key), np.array([position], dtype=np.uint64))[0]), 2**32)


def box_muller(bits: Tensor, dtype: torch.dtype) -> Tensor:
    out = torch.empty(bits.shape, dtype=dtype)
    normal(bits, out=out)
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_normal_numbers_follow_from_their_bits(dtype: torch.dtype, tolerance: float) -> None:
    """√(-2 log u) (cos, sin)(π angle / 2³¹), in the place of their bits too, with the extreme bits among them."""
    extremes = [LOW, LOW + 1, LOW // 2, -2, -1, 0, 1, 2, HIGH // 2, HIGH - 1, HIGH]
    draw = torch.Generator().manual_seed(1)
    some = torch.randint(LOW, HIGH, (200,), generator=draw, dtype=torch.int32)
    each = torch.cat([torch.tensor(extremes, dtype=torch.int32), some])
    radius, angle = (part.flatten() for part in torch.meshgrid(each, each, indexing="ij"))
    bits = torch.stack([radius, angle])[None]
    found = box_muller(bits, dtype)[0].double()
    assert torch.isfinite(found).all()
    squared = -2 * np.log((np.abs(radius.double().numpy()) + 0.5) / 2**31) + 1e-5
    directions = np.pi * angle.double().numpy() / 2**31
    assert found.abs().max() < 6.7
    np.testing.assert_allclose(found.square().sum(0), squared, rtol=2 * tolerance, atol=10 * tolerance)
    wanted = np.sqrt(squared) * np.stack([np.cos(directions), np.sin(directions)])
    # The logarithm of what is near 1 is rounded as one of 2³¹ is, which the root magnifies where it is near 0.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2 * tolerance + 5 * tolerance / np.sqrt(squared).min())
    large = squared > 0.1
    np.testing.assert_allclose(found[:, large], wanted[:, large], rtol=0, atol=20 * tolerance)
    if dtype == torch.float32:
        normal(bits, out=bits.view(torch.float32))  # in the place of the bits
        assert torch.equal(bits.view(torch.float32)[0].double(), found)


def test_single_and_double_precision_are_one_draw_that_is_pinned() -> None:
    for step in (0, 20):
        single, double = (noise([3], [(30,)], 100, LIKE.to(dtype)).at(step)[0] for dtype in (torch.float32, LIKE.dtype))
        assert single is not None
        assert double is not None
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=2e-5)
        if step == 20:
            assert double[0, 0, :3].tolist() == pytest.approx(PINNED_NUMBERS, rel=1e-12)


PINNED_KEYS = [
    [[120186581, 759015745], [-671856362, -1742343242]],
    [[-256734771, 1187034447], [-1288482599, 21077061]],
    [[1413592395, 1455476533], [14021261, 1788498881]],
]
PINNED_BITS = [
    [[-967377531, -907693505, -224605673], [505057389, -1006002585, 768125478]],
    [[396235869, 1693573477, -1324719768], [-574686474, 472466361, -1735971336]],
    [[1933158074, 729704475, 1787440659], [613820693, 1112553321, 848674163]],
    [[2135879743, 1474677031, 870311057], [-498688161, 685727124, 1104688595]],
]
PINNED_NUMBERS = [1.228236861653016, 0.6267156740269656, 0.14977820863867355]
