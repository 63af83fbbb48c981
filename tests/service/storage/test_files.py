"""Storage: what it opens, and how it tries again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.errors import StorageError, StudyError
from service.storage.files import Storage, open_storage
from service.storage.local import LocalDirectory
from service.storage.object_store import ObjectStore
from tests.service.storage.conformance import BackendConformance, Failing
from tests.service.storage.memory import Memory


class TestConformanceInMemory(BackendConformance):
    """The suite passes a backend that has nothing to do with files: it asks for no more than the protocol promises."""

    @pytest.fixture
    def backend(self) -> Memory:
        return Memory()


def test_the_scheme_chooses_the_backend(tmp_path: Path) -> None:
    for uri in (str(tmp_path), tmp_path, f"file://{tmp_path}", "relative/path"):
        storage = open_storage(uri)
        assert isinstance(storage._backend, LocalDirectory)
        assert (storage.is_remote, storage.creates_exclusively) == (False, True)
    store = open_storage("s3://bucket/studies?region=us-east-1")
    assert isinstance(store._backend, ObjectStore)
    assert (store.is_remote, store.creates_exclusively) == (True, False)
    assert store.child("toy").uri == "s3://bucket/studies/toy?region=us-east-1"


@pytest.mark.parametrize("uri", ["gopher://hole", "://"])
def test_what_cannot_be_opened(uri: str) -> None:
    with pytest.raises(StudyError, match=r"^storage '.*': cannot be opened \(.*\); give a directory or a URI such as"):
        open_storage(uri)


def test_delays_double_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    told: list[float] = []
    monkeypatch.setattr("service.storage.files.time.sleep", slept.append)
    monkeypatch.setattr("service.storage.files.random.uniform", lambda low, high: 1.0)
    storage = Storage(Failing(Memory(), failures=99), tries=5, first_delay_s=0.5)
    with pytest.raises(StorageError, match=r"^cannot read a/b in memory:// after 5 tries: the network is down$"):
        storage.retrying(on_retry=lambda what, error, delay: told.append(delay)).read("a/b")
    assert slept == told == [0.5, 1.0, 2.0, 4.0]


def test_a_missing_file_is_not_waited_for() -> None:
    told: list[str] = []
    storage = Storage(Memory(), on_retry=lambda what, *_: told.append(what))
    with pytest.raises(FileNotFoundError):
        storage.read("absent")
    assert not told


def test_a_directory_that_vanishes_while_a_file_is_written_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(Memory(), tries=2, first_delay_s=0.0)
    write, vanished = Memory.write, [FileNotFoundError("the directory")]

    def write_into_what_vanished(self: Memory, *arguments: Any, **options: Any) -> None:
        if vanished:
            raise vanished.pop()
        write(self, *arguments, **options)

    monkeypatch.setattr(Memory, "write", write_into_what_vanished)
    storage.write("a/file", b"x")
    assert storage.read("a/file") == b"x"


def test_the_same_files_with_other_patience() -> None:
    backend = Failing(Memory(), failures=0)
    told: list[str] = []
    patient = Storage(backend, tries=2, first_delay_s=0.0, on_retry=lambda what, *_: told.append(what))
    patient.write("file", b"x")
    hasty = patient.retrying(tries=1)
    assert hasty.read("file") == b"x"
    backend.failures = 1
    with pytest.raises(StorageError):
        hasty.read("file")
    backend.failures = 1
    assert patient.read("file") == b"x"
    assert told == ["read file"]


def test_json() -> None:
    storage = Storage(Memory())
    storage.write_json("file.json", {"a": [1, None]})
    assert storage.read("file.json") == b'{\n "a": [\n  1,\n  null\n ]\n}'
    assert storage.read_json("file.json") == {"a": [1, None]}
    storage.write("file.json", b"{")
    with pytest.raises(ValueError, match="property name"):
        storage.read_json("file.json")
