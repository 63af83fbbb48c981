"""What `t1t2 run` refuses: each time with one message, exit code 2, and nothing left behind."""

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest

from service import read_status
from service.cli.app import main
from service.executors.serial import SerialExecutor
from service.storage.files import BACKENDS
from tests.service.driver.full import FullDisk
from tests.service.toy_studies import TOY, run_toy, toml


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must refuse its input; its message."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


def write_spec(place: Path, **changes: Any) -> Path:
    place.write_text(toml({key: value for key, value in {**TOY, **changes}.items() if value is not None}))
    return place


NO_SPEC = {
    "there is none": (None, "cannot be read"),
    "a directory": ("DIRECTORY", "cannot be read"),
    "binary": (b"\xff\xfe\x00", "cannot be read"),
    "not TOML": (b"name = \n", "is not TOML"),
    "empty": (b"", "name: missing"),
}


@pytest.mark.parametrize(("content", "message"), NO_SPEC.values(), ids=NO_SPEC)
def test_files_that_are_no_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, message: str
) -> None:
    spec = tmp_path / "spec.toml"
    if content == "DIRECTORY":
        spec.mkdir()
    elif isinstance(content, bytes):
        spec.write_bytes(content)
    error = fails(capsys, "run", str(spec), "--out", str(tmp_path / "out"))
    assert message in error
    assert str(spec) in error
    assert not (tmp_path / "out").exists()


REAL = {"trainer": None}  # the trainings of this package, whose data and models are checked
BAD_SPECS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"inner": {"stepz": 3}}, ["inner.stepz: unknown key", "steps"]),
    "unknown top-level key": ({"sede": 3}, ["sede: unknown key", "seed"]),
    "wrong type": ({"configurations": "ten"}, ['configurations = "ten"', "integer"]),
    "fraction for a count": ({"inner": {"steps": 1.5}}, ["inner.steps = 1.5", "integer"]),
    "inverted range": (
        {"hyperparameters": {"log10_l2": {"low": -2.0, "high": -5.0}}, "grid": {"points": {"log10_l2": 2}}},
        ["hyperparameters.log10_l2", "[-2.0, -5.0]", "low < high"],
    ),
    "negative noise": (
        {
            "hyperparameters": {"input_noise_std": {"low": -1.0, "high": 1.0}},
            "grid": {"points": {"input_noise_std": 2}},
        },
        ["hyperparameters.input_noise_std.low", "-1.0"],
    ),
    "a start beyond its box": (
        {
            "hyperparameters": {"log10_l2": {"low": -5.0, "high": -2.0, "start": {"uniform": [-6.0, -3.0]}}},
            "grid": {"points": {"log10_l2": 2}},
        },
        ["hyperparameters.log10_l2.start.uniform = [-6.0, -3.0]", "within the box [-5, -2]"],
    ),
    "splits beyond the data": ({"data": {"t1_size": 100000}, **REAL}, ["100", "1797"]),
    "unknown data set": ({"data": {"name": "mnits"}, **REAL}, ["data.name = 'mnits'", "digits", "mnist5k"]),
    "unknown model": ({"models": [{"name": "mpl"}]}, ["models.name = 'mpl'", "'mlp'"]),
    "unknown arm": ({"arms": ["offline"]}, ["arms", "offline", "online"]),
    "rerun without online": ({"arms": ["rerun"]}, ["arms = ['rerun']", "online"]),
    "grid without points": ({"grid": None}, ["grid.points"]),
    "grid over nothing": ({"grid": {"points": {"dropout": 3}}}, ["grid.points", "dropout", "log10_l2"]),
    "batch beyond T1": ({"data": {"t1_size": 50}, "inner": {"batch_size": 100}}, ["inner.batch_size = 100", "50"]),
    "a name that climbs": ({"name": "../x"}, ["name = '../x'"]),
    "a name with a slash": ({"name": "a/b"}, ["name = 'a/b'"]),
    "an empty name": ({"name": ""}, ["name = ''"]),
    "no actors": ({"execution": {"actors": 0}}, ["execution.actors = 0", "at least 1"]),
    "a data directory that is missing": (
        {"data": {"name": "mnist", "root": "/no/such/place"}, **REAL},
        ["data.root = '/no/such/place'"],
    ),
    "no data directory": ({"data": {"name": "fashion_mnist"}, **REAL}, ["data.root"]),
    "unknown trainer": ({"trainer": "no_such_module:train"}, ["no_such_module"]),
}


@pytest.mark.parametrize(("changes", "messages"), BAD_SPECS.values(), ids=BAD_SPECS)
def test_bad_specs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], messages: list[str]
) -> None:
    spec = write_spec(tmp_path / "spec.toml", **changes)
    error = fails(capsys, "run", str(spec), "--out", str(tmp_path / "out"))
    assert len(error.splitlines()) == 1
    for message in messages:
        assert message in error
    assert not (tmp_path / "out").exists()  # nothing half-made


def idx(path: Path, values: bytes, shape: tuple[int, ...]) -> None:
    head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    path.write_bytes(gzip.compress(head + values))


def test_a_corrupt_idx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, size in (("train", 60), ("t10k", 10)):
        idx(tmp_path / f"{kind}-images-idx3-ubyte.gz", bytes(size * 28 * 28), (size, 28, 28))
        idx(tmp_path / f"{kind}-labels-idx1-ubyte.gz", bytes(i % 10 for i in range(size)), (size,))
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-20])
    data = {"name": "mnist", "root": str(tmp_path), "t1_size": 30, "t2_size": 20, "test_size": 10}
    batches = {"inner": {"batch_size": 10}, "outer": {"batch_size": 10}}
    spec = write_spec(tmp_path / "spec.toml", data=data, **batches, **REAL)
    error = fails(capsys, "run", str(spec), "--out", str(tmp_path / "out"))
    assert images.name in error
    assert not (tmp_path / "out").exists()


def test_a_directory_that_holds_another_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    before = {path: path.read_bytes() for path in (tmp_path / "toy").rglob("*") if path.is_file()}
    spec = write_spec(tmp_path / "spec.toml", seed=8, inner={"steps": 99})
    error = fails(capsys, "run", str(spec), "--out", str(tmp_path / "toy"))
    assert [line.strip() for line in error.splitlines()[1:]] == [
        "inner.steps: 99 here, 100 in the study",
        "seed: 8 here, 7 in the study",
    ]
    assert {path: path.read_bytes() for path in (tmp_path / "toy").rglob("*") if path.is_file()} == before


def test_a_directory_that_holds_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("")
    spec = write_spec(tmp_path / "spec.toml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    assert "thesis.tex" in fails(capsys, "run", str(spec), "--out", str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    spec = write_spec(tmp_path / "spec.toml")
    assert str(tmp_path / "file") in fails(capsys, "run", str(spec), "--out", str(tmp_path / "file" / "study"))


def test_a_disk_that_is_full_ends_the_command_with_what_is_safe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are not what is tested here, so they are in this process."""
    monkeypatch.setitem(BACKENDS, "full", lambda uri: FullDisk(uri.removeprefix("full://")))
    monkeypatch.setattr(FullDisk, "room", 6)
    monkeypatch.setattr("service.storage.files.FIRST_DELAY_S", 0.0)
    monkeypatch.setattr("service.storage.files.time.sleep", lambda seconds: None)
    monkeypatch.setattr("service.driver.committer.LOCAL_ROWS", 20)
    monkeypatch.setattr("service.executors.ray_actors.RayExecutor", lambda execution, address: SerialExecutor())
    spec, out = write_spec(tmp_path / "spec.toml"), tmp_path / "out"
    assert main(["run", str(spec), "--out", f"full://{out}"]) == 1
    status = read_status(str(out))
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert status.uncommitted > 0
    assert (
        f"{status.total_done - status.uncommitted} of {status.total_planned} runs are committed and safe; "
        f"{status.uncommitted} had finished and were not yet committed, {status.in_flight} were in training: "
        "these will be trained again; go on with:\n  t1t2 run"
    ) in error
