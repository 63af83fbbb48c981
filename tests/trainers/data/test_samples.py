"""Data sets: those that come along, and those that a user's own function returns; what cannot be used is named."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.idx import small_mnist, write_mnist
from trainers.config import ConfigError, DataConfig
from trainers.data import DataError, load_split
from trainers.data.samples import load_samples


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str) -> str:
    """A user's module with a function ``load``; returns its name in a spec."""
    header = "import numpy as np\nfrom trainers.data import Samples\n"
    (folder / f"{name}.py").write_text(header + textwrap.dedent(body))
    monkeypatch.syspath_prepend(folder)
    return f"{name}:load"


def test_standardise_is_by_channel_and_leaves_a_constant_one_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
        def load():
            x = np.random.default_rng(0).normal([[5.0], [0.0], [-1.0]], [[2.0], [0.1], [0.0]], (3000, 3, 2))
            x[:, 2] = 0.1  # no float32 sum of it is exact
            return Samples(x.astype(np.float32), np.arange(3000) % 2, 2)
    """
    name = write_module(tmp_path, monkeypatch, body, "channels")
    split = load_split(DataConfig(name, 2500, 200, 300, normalise="standardise"))
    np.testing.assert_allclose(split.t1_x.mean((0, 2), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(split.t1_x.std((0, 2), dtype=np.float64), [1, 1, 0], atol=1e-6)
    assert not split.test_x[:, 2].any()


def test_a_function_may_give_one_pool_or_its_own_test_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
        def load():
            return Samples(np.linspace(-3, 3, 40).reshape(20, 2), np.arange(20, dtype=np.int32) % 3, 3)

        def pixels():
            x = np.full((20, 1, 2, 2), 255, np.uint8)
            return Samples(x, np.zeros(20, int), 2), Samples(0 * x, np.ones(20, int), 2)
    """
    name = write_module(tmp_path, monkeypatch, body, "own_data")
    split = load_split(DataConfig(name, 10, 6, 4))
    assert split.classes == 3
    x = np.concatenate([split.t1_x, split.t2_x, split.test_x])
    assert sorted(x[:, 0]) == pytest.approx(np.linspace(-3, 3, 40)[::2])
    with_test = load_split(DataConfig("own_data:pixels", 10, 10, 20))
    assert {*with_test.t1_x.flat, *with_test.t2_x.flat} == {1.0}
    assert {*with_test.test_x.flat} == {0.0}
    assert {*with_test.test_y} == {1}


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ("Samples(np.full((4, 2), np.nan), y, 2)", "x[0, 0] = nan: must be finite"),
        ("Samples(np.float64([[0, 0], [0, 1e300], [0, 0], [0, 0]]), y, 2)", "x[1, 1] = 1e+300: must be finite"),
        ("Samples(np.zeros((4, 2)), y + 1, 2)", "y[1] = 2: must be a label in [0, 1]"),
        ("Samples(np.zeros((4, 2)), y - 1, 2)", "y[0] = -1: must be a label in [0, 1]"),
        ("Samples(np.zeros((4, 2)), y * 1.0, 2)", "y is float64 [4]: must be whole numbers [4]"),
        ("Samples(np.zeros((4, 2)), y[:3], 2)", "y is int64 [3]: must be whole numbers [4]"),
        ("Samples(np.zeros(4), y, 2)", "x has the shape [4]: must be [N, D] or [N, C, H, W], not empty"),
        ("Samples(np.zeros((4, 0)), y, 2)", "x has the shape [4, 0]: must be"),
        ("Samples(np.zeros((4, 2), int), y, 2)", "x is int64: must be float32 (images in [0, 1]) or uint8"),
        ("Samples([[0.0]], y, 2)", "x and y are list and ndarray: must be NumPy arrays"),
        ("Samples(np.zeros((4, 2)), 0 * y, 1)", "classes = 1: must be at least 2"),
        ("(np.zeros((4, 2)), y)", "returned ndarray, ndarray: must be trainers.data.Samples, or a pair of them"),
        ("None", "returned NoneType: must be trainers.data.Samples"),
        ("()", "returned an empty tuple: must be trainers.data.Samples"),
        (
            "(Samples(np.zeros((4, 2)), y, 2), Samples(np.zeros((4, 3)), y, 2))",
            "training samples are float32 [4, 2] in 2 classes and test samples float32 [4, 3] in 2: must agree",
        ),
        ("(Samples(np.zeros((4, 2)), y, 2), Samples(np.zeros((4, 2)), y + 1, 2))", "test samples: y[1] = 2: must be"),
        ("{}['key']", "the function raised KeyError: 'key'"),
    ],
)
def test_unusable_data_of_the_users_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: str, message: str
) -> None:
    module = f"bad_{tmp_path.name}"  # a module is imported once: each case has its own
    body = f"y = np.arange(4) % 2\ndef load():\n    return {returns}\n"
    name = write_module(tmp_path, monkeypatch, body, module)
    with pytest.raises(DataError) as raised:
        load_split(DataConfig(name, 2, 1, 1))
    assert str(raised.value).startswith(f"data.name = {name!r}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:load", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module')"),
        ("json:no_such_function", "cannot be imported (AttributeError: module 'json' has no attribute"),
        ("math:pi", "is a float: must be a function without arguments"),
        ("json:dumps", "the function raised TypeError"),
    ],
)
def test_what_is_no_function_without_arguments_is_named(name: str, message: str) -> None:
    with pytest.raises(DataError, match="^" + re.escape(f"data.name = {name!r}: {message}")):
        load_split(DataConfig(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mnist6k"}, "data.name = 'mnist6k': must be one of digits, mnist5k, mnist, fashion_mnist, cifar10"),
        ({"root": None}, "data.root is not set: mnist needs the directory that holds its files; `python -m trainers"),
        ({"root": "/no/such"}, "data.root = '/no/such': no such directory"),
        ({"root": "~nobody-of-this-name/x"}, "data.root = '~nobody-of-this-name/x': no such directory"),
        ({"name": "cifar10"}, "{root}: must hold CIFAR-10's binary version"),
        ({"root": "{root}/t10k-labels-idx1-ubyte"}, "no IDX files"),
        ({"name": "mnist" * 200}, "data.name = 'mnistmnistmnist"),
        ({"root": "r" * 1000}, "r" * 200),
    ],
)
def test_a_data_set_that_cannot_be_found_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_mnist(tmp_path, small_mnist())
    change = {key: v.format(root=tmp_path) if isinstance(v, str) else v for key, v in change.items()}
    with pytest.raises(ConfigError, match="^" + re.escape(message.format(root=tmp_path))) as raised:
        load_samples(DataConfig(**({"name": "mnist", "root": str(tmp_path)} | change)))
    assert len(str(raised.value)) < 500


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    arrays = small_mnist()
    arrays["t10k-labels-idx1-ubyte"][7] = 10
    write_mnist(tmp_path, arrays)
    with pytest.raises(DataError, match=rf"^mnist test set in {tmp_path}: y\[7\] = 10: must be a label in \[0, 9\]$"):
        load_split(DataConfig("mnist", t1_size=30, t2_size=10, test_size=8, root=str(tmp_path)))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(DataError, match=f"^{tmp_path}/data_batch_1.bin: cannot be read .No such file"):
        load_split(DataConfig("cifar10", 1, 1, 1, root=str(tmp_path)))
