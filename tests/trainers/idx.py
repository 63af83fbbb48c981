"""Small data sets in MNIST's file format, for tests that read or download them."""

import gzip
from pathlib import Path

import numpy as np

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def encode_idx(values: np.ndarray) -> bytes:
    """Unsigned bytes as the content of an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.astype(np.uint8).tobytes()


def small_mnist(train: int = 60, test: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Random images of 4×3 pixels, and labels in which every class occurs, by file name."""
    rng = np.random.default_rng(seed)
    arrays = []
    for size in (train, test):
        arrays += [rng.integers(0, 256, (size, 4, 3), np.uint8), np.arange(size, dtype=np.uint8) % 10]
    return dict(zip(FILES, arrays, strict=True))


def write_mnist(folder: Path, arrays: dict[str, np.ndarray], compressed: bool = False) -> None:
    """Write the four files, plain or as .gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        raw = encode_idx(values)
        (folder / (f"{name}.gz" if compressed else name)).write_bytes(gzip.compress(raw) if compressed else raw)
