"""A directory on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service import ResourceError, StudyError, run_study
from service.client.submission import create_study
from service.executors.serial import SerialExecutor
from service.storage.local import LocalDirectory
from tests.service.storage.conformance import BackendConformance
from tests.service.studies import toy_spec


class TestConformance(BackendConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalDirectory:
        return LocalDirectory(str(tmp_path / "root"))


def test_paths_and_uris_name_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "file").write_bytes(b"x")
    for uri in ("a b", "./a b/", "~/a b", str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        assert LocalDirectory(uri).read("file") == b"x", uri


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(number: int) -> None:
        calls.append("fsync")
        fsync(number)

    def noted_rename(old: str, new: str) -> None:
        if new == str(tmp_path / "file"):  # pytest itself renames what it compiles
            calls.append("replace")
        rename(old, new)

    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr("os.replace", noted_rename)
    LocalDirectory(str(tmp_path)).write("file", b"x", durable=durable)
    assert calls == (["fsync", "replace"] if durable else ["replace"])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        LocalDirectory(str(tmp_path)).write("file", b"x", durable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_directories_that_a_study_made_are_removed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    backend = LocalDirectory(str(tmp_path / "mine" / "new" / "study"))
    before = backend.nearest_directory()
    assert before == tmp_path / "mine"
    os.makedirs(tmp_path / "mine" / "new" / "study" / "control")
    assert backend.nearest_directory() == tmp_path / "mine" / "new" / "study"
    backend.remove_empty(keep=before)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert list((tmp_path / "mine").iterdir()) == []
    LocalDirectory(str(tmp_path / "mine")).remove_empty(keep=tmp_path / "mine")
    assert (tmp_path / "mine").is_dir(), "it was there before"


def test_a_study_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: str) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StudyError, match=r"cannot be written .*the disk is full"):
        create_study(toy_spec(), str(tmp_path / "studies" / "toy"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["new", "empty directory"])
def test_a_study_without_workers_leaves_what_was_there(tmp_path: Path, make: Callable[[Path], None]) -> None:
    class Refused(SerialExecutor):
        def start(self, *arguments: object) -> None:
            raise ResourceError("no node has that many cores")

    out = tmp_path / "toy"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ResourceError):
        run_study(toy_spec(), out, executor=Refused())
    assert sorted(tmp_path.rglob("*")) == before
