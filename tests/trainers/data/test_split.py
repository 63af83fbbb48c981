"""The split of a data set: its parts, its identity, its normalisation."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.idx import small_mnist, write_mnist
from trainers.config import ConfigError, DataConfig
from trainers.data.split import Split, _draw, load_split

SMALL = DataConfig("mnist", t1_size=30, t2_size=10, test_size=8)


@pytest.fixture
def mnist_root(tmp_path: Path) -> Path:
    write_mnist(tmp_path, small_mnist())
    return tmp_path


def parts(split: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(split.t1_x, split.t1_y), (split.t2_x, split.t2_y), (split.test_x, split.test_y)]


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


# --- the split -------------------------------------------------------------------------------------------------------

sizes = st.integers(1, 40)


@given(t1=sizes, t2=sizes, test=sizes, spare=st.integers(0, 30), own_test_set=st.booleans(), seed=st.integers(0, 2**64))
def test_parts_are_disjoint_and_of_the_sizes_asked(
    t1: int, t2: int, test: int, spare: int, own_test_set: bool, seed: int
) -> None:
    config = DataConfig(t1_size=t1, t2_size=t2, test_size=test, split_seed=seed)
    pool = t1 + t2 + spare + (0 if own_test_set else test)
    drawn = _draw(config, pool, test + spare if own_test_set else None)
    assert [len(part) for part in drawn] == [t1, t2, test]
    together = np.concatenate(drawn[:2] if own_test_set else drawn)
    assert len(set(together.tolist())) == len(together)
    assert len(set(drawn[2].tolist())) == test
    assert together.min() >= 0
    assert together.max() < pool
    assert drawn[2].max() < (test + spare if own_test_set else pool)


@given(t1=sizes, t2=sizes, test=sizes, more=st.integers(1, 10), own_test_set=st.booleans(), seed=st.integers(0, 1000))
def test_a_size_moves_no_part_but_those_promised(
    t1: int, t2: int, test: int, more: int, own_test_set: bool, seed: int
) -> None:
    config = DataConfig(t1_size=t1, t2_size=t2, test_size=test, split_seed=seed)
    pool, test_set = t1 + t2 + test + more, test + more if own_test_set else None
    t1_drawn, t2_drawn, test_drawn = _draw(config, pool, test_set)

    larger_t1 = _draw(replace(config, t1_size=t1 + more), pool, test_set)
    assert larger_t1[0][-t1:].tolist() == t1_drawn.tolist()
    assert [part.tolist() for part in larger_t1[1:]] == [t2_drawn.tolist(), test_drawn.tolist()]

    larger_t2 = _draw(replace(config, t2_size=t2 + more), pool, test_set)
    assert larger_t2[1][:t2].tolist() == t2_drawn.tolist()
    assert [larger_t2[0].tolist(), larger_t2[2].tolist()] == [t1_drawn.tolist(), test_drawn.tolist()]

    larger_test = _draw(replace(config, test_size=test + more), pool, test_set)
    assert larger_test[2][:test].tolist() == test_drawn.tolist()
    assert larger_test[0].tolist() == t1_drawn.tolist()
    if own_test_set:
        assert larger_test[1].tolist() == t2_drawn.tolist()


@pytest.mark.parametrize(
    ("name", "size", "shape"), [("digits", (1000, 397, 400), (1, 8, 8)), ("mnist5k", (3000, 1000, 1000), (1, 28, 28))]
)
def test_packaged_images_are_shuffled_into_three_parts(
    name: str, size: tuple[int, int, int], shape: tuple[int, ...]
) -> None:
    split = load_split(DataConfig(name, *size))
    assert split.classes == 10
    for (x, y), count in zip(parts(split), size, strict=True):
        assert (x.dtype, x.shape) == (np.dtype(np.float32), (count, *shape))
        assert (y.dtype, y.shape) == (np.dtype(np.int64), (count,))
        assert (x.min(), x.max()) == (0, 1)
        # mnist5k is stored class by class: a part that was not drawn from all of it would miss classes
        assert np.bincount(y, minlength=10).min() > 0.06 * count
        assert x.flags.writeable  # torch.from_numpy warns of arrays that are not
    others = load_split(DataConfig(name, *size, split_seed=1))  # both are the whole, drawn in another order
    assert rows(np.concatenate([x for x, _ in parts(split)])) == rows(np.concatenate([x for x, _ in parts(others)]))
    assert rows(split.t1_x) != rows(others.t1_x)


def test_the_split_of_a_seed_never_changes() -> None:
    """Pinned: a release that draws other samples for the same spec would silently break published studies."""
    split = load_split(DataConfig())
    assert split.t1_y[:10].tolist() == [4, 0, 8, 7, 2, 8, 3, 9, 1, 1]
    assert split.data_hash == "6e3aa0bc2e43c89915a46e3a69868602299c813134ef92545a3bc1679235d7ce"
    other = load_split(DataConfig(split_seed=1))
    assert other.t1_y[:10].tolist() != split.t1_y[:10].tolist()
    assert other.data_hash != split.data_hash
    t1, t2, test = _draw(DataConfig(t1_size=5, t2_size=3, test_size=8), 8, 8)  # a test set of its own
    assert (t1.tolist(), t2.tolist(), test.tolist()) == ([6, 2, 0, 3, 7], [1, 4, 5], [7, 6, 2, 3, 1, 0, 4, 5])


def test_a_test_set_of_its_own_is_kept_apart(mnist_root: Path) -> None:
    arrays = small_mnist()
    split = load_split(replace(SMALL, root=str(mnist_root)))
    train, test = (rows(arrays[f"{part}-images-idx3-ubyte"] / np.float32(255)) for part in ("train", "t10k"))
    assert rows(split.t1_x) | rows(split.t2_x) <= train
    assert not rows(split.t1_x) & rows(split.t2_x)
    assert rows(split.test_x) <= test
    assert split.t1_x.shape == (30, 1, 4, 3)


def test_every_image_keeps_its_label(mnist_root: Path) -> None:
    arrays = small_mnist()
    split = load_split(replace(SMALL, root=str(mnist_root)))
    for (x, y), part in zip(parts(split), ("train", "train", "t10k"), strict=True):
        images, labels = arrays[f"{part}-images-idx3-ubyte"] / np.float32(255), arrays[f"{part}-labels-idx1-ubyte"]
        label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert [label_of[image.tobytes()] for image in x] == y.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_size": 21}, "data.test_size = 21: must be at most 20, the test set of mnist"),
        (
            {"t1_size": 51},
            "data.t1_size + data.t2_size = 51 + 10 = 61: must be at most 60, the training samples of mnist",
        ),
        (
            {"name": "digits", "t1_size": 1780},
            "data.t1_size + data.t2_size + data.test_size = 1780 + 10 + 8 = 1798: must be at most 1797, the samples of "
            "digits",
        ),
    ],
)
def test_what_cannot_be_split_is_named(mnist_root: Path, change: dict[str, Any], message: str) -> None:
    config = replace(SMALL, root=str(mnist_root))
    change = {key: v.format(root=mnist_root) if isinstance(v, str) else v for key, v in change.items()}
    with pytest.raises(ConfigError, match="^" + re.escape(message.format(root=mnist_root))):
        load_split(replace(config, **change))


# --- identity --------------------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_content_not_of_its_place(tmp_path: Path) -> None:
    arrays = small_mnist()
    write_mnist(tmp_path / "plain", arrays)
    write_mnist(tmp_path / "packed", arrays, compressed=True)
    write_mnist(tmp_path / "torchvision", small_mnist(seed=4))  # of the two places, the data set's own goes first
    write_mnist(tmp_path / "torchvision" / "MNIST" / "raw", arrays)
    write_mnist(tmp_path / "torchvision" / "FashionMNIST" / "raw", small_mnist(seed=5))
    roots = ("plain", "packed", "torchvision")
    hashes = [load_split(replace(SMALL, root=str(tmp_path / root))).data_hash for root in roots]
    assert len(set(hashes)) == 1
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])
    fashion = load_split(replace(SMALL, name="fashion_mnist", root=str(tmp_path / "torchvision")))
    assert fashion.data_hash != hashes[0]


@pytest.mark.parametrize("change", [{"t1_size": 29}, {"t2_size": 9}, {"test_size": 7}, {"split_seed": 1}])
def test_the_hash_differs_with_every_setting_of_the_split(mnist_root: Path, change: dict[str, Any]) -> None:
    config = replace(SMALL, root=str(mnist_root))
    assert load_split(replace(config, **change)).data_hash != load_split(config).data_hash


@pytest.mark.parametrize("file", list(small_mnist()))
def test_the_hash_differs_with_every_byte_that_is_used(mnist_root: Path, file: str) -> None:
    config = DataConfig("mnist", 45, 15, 20, root=str(mnist_root))  # all of it
    before = load_split(config).data_hash
    arrays = small_mnist()
    arrays[file].flat[-1] ^= 1
    write_mnist(mnist_root, arrays)
    assert load_split(config).data_hash != before


# --- normalisation ---------------------------------------------------------------------------------------------------


def test_standardise_takes_its_statistics_from_t1_alone(mnist_root: Path) -> None:
    config = replace(SMALL, root=str(mnist_root))
    unit, standardised = load_split(config), load_split(replace(config, normalise="standardise"))
    mean, std = unit.t1_x.mean(dtype=np.float64), unit.t1_x.std(dtype=np.float64)
    for (x, _), (z, _) in zip(parts(unit), parts(standardised), strict=True):
        np.testing.assert_allclose(z, (x - mean) / std, rtol=0, atol=1e-6)
    assert standardised.t1_x.dtype == np.float32
    assert standardised.data_hash != unit.data_hash
    assert abs(standardised.t2_x.mean()) > 1e-3  # T2 has other statistics, and was not given its own
