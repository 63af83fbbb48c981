"""The seeded, disjoint split of a labelled set into T1, T2 and test.

T1 trains the weights, T2 tunes the hyperparameters, test is only measured. Everything is NumPy; a training turns the
arrays into tensors of its own dtype and device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.config import ConfigError, DataConfig
from trainers.data.samples import load_samples
from trainers.errors import shortened


@dataclass(frozen=True, kw_only=True)
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
    train, test = load_samples(config)
    t1, t2, rest = _draw(config, len(train.y), None if test is None else len(test.y))
    held_out = train if test is None else test
    parts = [(train.x[t1], train.y[t1]), (train.x[t2], train.y[t2]), (held_out.x[rest], held_out.y[rest])]
    digest = _hash(parts, train.classes, config.normalise)
    t1_x, t2_x, test_x = (np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x for x, _ in parts)
    if config.normalise == "standardise":
        mean, std = _moments(t1_x)
        for x in (t1_x, t2_x, test_x):
            np.divide(np.subtract(x, mean, out=x), std, out=x)
    (_, t1_y), (_, t2_y), (_, test_y) = parts
    classes = train.classes
    return Split(
        t1_x=t1_x, t1_y=t1_y, t2_x=t2_x, t2_y=t2_y, test_x=test_x, test_y=test_y, classes=classes, data_hash=digest
    )


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
    name, order = shortened(config.name), _permutation(train, config.split_seed, stream=0)
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
