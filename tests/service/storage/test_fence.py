"""The fence: nothing is changed by one who does not hold the study any more, at whatever moment it loses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import StorageError, TakenOverError
from service.storage.backend import Backend
from service.storage.fence import Fenced
from service.storage.files import Storage, open_storage
from tests.service.storage.conformance import BackendConformance, Failing, replace
from tests.service.storage.memory import Memory

CHANGES: dict[str, Callable[[Storage], Any]] = {
    "write": lambda storage: storage.write("new", b"x"),
    "overwrite": lambda storage: storage.write("there", b"x", durable=False),
    "create": lambda storage: storage.create("new", b"x"),
    "swap": lambda storage: storage.swap("there", b"x", ""),
    "replacing": lambda storage: replace(storage, "there", b"x"),
    "move": lambda storage: storage.move("there", "new"),
    "delete": lambda storage: storage.delete("there"),
    "child": lambda storage: storage.child("deep").write("new", b"x"),
    "patient": lambda storage: storage.retrying(tries=3).write("new", b"x"),
    "remove_empty": lambda storage: storage.child("empty").remove_empty(None),
}


class Fence:
    """Lets ``left`` checks pass, then none."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TakenOverError("taken")


class TestConformance(BackendConformance):
    """A fence that lets everything pass changes nothing."""

    @pytest.fixture
    def backend(self) -> Fenced:
        return Fenced(Memory(), lambda: None)


class TestConformanceOnADisk(BackendConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return Fenced(open_storage(tmp_path / "root")._backend, lambda: None)


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_changed_once_it_is_lost(tmp_path: Path, change: str) -> None:
    storage = open_storage(tmp_path)
    storage.write("there", b"before")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TakenOverError):
        CHANGES[change](storage.fenced(Fence(0)))
    assert content(tmp_path) == {"there": b"before"}
    assert (tmp_path / "empty").exists()


@pytest.mark.parametrize("change", ["write", "overwrite", "replacing"])
def test_a_file_that_is_half_way_to_its_place_does_not_arrive(tmp_path: Path, change: str) -> None:
    """The lease is lost while the temporary file is written: the check before the rename sees it."""
    storage = open_storage(tmp_path)
    storage.write("there", b"before")
    with pytest.raises(TakenOverError):
        CHANGES[change](storage.fenced(Fence(1)))
    assert content(tmp_path) == {"there": b"before"}, "nor does anything else stay"
    CHANGES[change](storage.fenced(Fence(2)))
    assert content(tmp_path) != {"there": b"before"}


def test_each_try_is_checked_by_itself() -> None:
    """A driver may be stopped while it waits for the next try."""
    memory = Memory()
    storage = Storage(Failing(memory, failures=1), tries=5, first_delay_s=0.0)
    with pytest.raises(TakenOverError):
        storage.fenced(Fence(1)).delete("there")
    assert not memory.exists("there")


def test_a_storage_that_cannot_tell_is_asked_again_and_then_an_error() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        raise OSError("the network is down")

    memory = Memory()
    with pytest.raises(StorageError, match=r"cannot write new .* after 3 tries: the network is down"):
        Storage(memory, tries=3, first_delay_s=0.0).fenced(check).write("new", b"x")
    assert (len(asked), memory.exists("new")) == (3, False)


def test_reading_is_free() -> None:
    memory = Memory()
    memory.write("there", b"x", durable=True)
    storage = Storage(memory).fenced(Fence(0))
    assert storage.read("there") == b"x"
    with storage.open("there") as file:
        assert file.read() == b"x"
    assert storage.exists("there")
    assert storage.files("") == ["there"]
    assert storage.directories("") == []
