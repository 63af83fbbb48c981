"""What any storage backend must do. A test class of a backend inherits the tests and gives the fixture ``backend``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest

from service.errors import FileChangedError, StorageError
from service.storage.backend import Backend
from service.storage.files import Storage

LARGE = bytes(range(256)) * 44_000  # 11 MB: more than one part of an upload
NAMES = ["plain", "a/b/c", "with space", "ümläut λ", "question?x=1", "hash#1", "100%", "a+b&c", "~", ".hidden", "-"]
OPERATIONS: dict[str, Callable[[Storage], Any]] = {
    "read": lambda storage: storage.read("there"),
    "open": lambda storage: storage.open("there"),
    "write": lambda storage: storage.write("new", b"x"),
    "create": lambda storage: storage.create("new", b"x"),
    "swap": lambda storage: storage.swap("new", b"x", ""),
    "replacing": lambda storage: replace(storage, "new", b"x"),
    "move": lambda storage: storage.move("there", "new"),
    "delete": lambda storage: storage.delete("there"),
    "exists": lambda storage: storage.exists("there"),
    "files": lambda storage: storage.files(""),
    "directories": lambda storage: storage.directories(""),
}


class Failing:
    """A backend whose operations raise OSError the first ``failures`` times."""

    def __init__(self, backend: Backend, failures: int) -> None:
        self._backend, self.failures = backend, failures

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not callable(found):
            return found

        def operation(*arguments: Any, **options: Any) -> Any:
            if self.failures > 0:
                self.failures -= 1
                raise OSError("the network is down")
            return found(*arguments, **options)

        return operation


def replace(storage: Storage, name: str, content: bytes) -> None:
    with storage.replacing(name) as file:
        file.write(content)


class BackendConformance:
    """The tests. Backends are reached through :class:`Storage`, as the service does."""

    @pytest.fixture
    def storage(self, backend: Backend) -> Storage:
        return Storage(backend, tries=1)

    @pytest.mark.parametrize("content", [b"", b"x", LARGE], ids=["empty", "small", "large"])
    @pytest.mark.parametrize("durable", [True, False])
    def test_what_is_written_is_read(self, storage: Storage, content: bytes, durable: bool) -> None:
        storage.write("file", b"something else, and longer than some", durable=durable)
        storage.write("file", content, durable=durable)
        assert storage.read("file") == content
        storage.write("buffer", pa.py_buffer(content), durable=durable)
        assert storage.read("buffer") == content

    @pytest.mark.parametrize("content", [b"", LARGE], ids=["empty", "large"])
    def test_a_stream_takes_its_place_when_it_ends(self, storage: Storage, content: bytes) -> None:
        storage.write("deep/file", b"before")
        with storage.replacing("deep/file") as file:
            file.write(content[:100])
            assert storage.read("deep/file") == b"before"
            assert storage.files("deep") == ["deep/file"], "what is being written is not listed"
            file.write(content[100:])
        assert storage.read("deep/file") == content

    def test_a_stream_that_breaks_off_changes_nothing(self, storage: Storage, backend: Backend) -> None:
        storage.write("file", b"before")
        with suppress(KeyboardInterrupt), storage.replacing("file") as file:
            file.write(b"half")
            raise KeyboardInterrupt
        assert storage.read("file") == b"before"
        assert backend.entries("")[0] == ["file"], "nothing is left behind"

    def test_a_reader_never_sees_half_a_file(self, storage: Storage) -> None:
        contents = [bytes([65 + number]) * 200_000 for number in range(2)]
        storage.write("file", contents[0])
        failures: list[BaseException] = []
        done = threading.Event()

        def write() -> None:
            try:
                for number in range(20):
                    storage.write("file", contents[number % 2], durable=False)
                    replace(storage, "file", contents[number % 2])
            except BaseException as error:
                failures.append(error)
            finally:
                done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            assert storage.read("file") in contents
            assert storage.files("") == ["file"]
        writer.join()
        assert not failures

    def test_a_file_is_read_at_any_position(self, storage: Storage) -> None:
        storage.write("file", LARGE)
        with storage.open("file") as file:
            assert file.size() == len(LARGE)
            file.seek(256 * 1000 + 3)
            assert file.read(4) == b"\x03\x04\x05\x06"
            file.seek(0)
            assert file.read(2) == b"\x00\x01"

    @pytest.mark.parametrize("name", NAMES)
    def test_unusual_names(self, storage: Storage, name: str) -> None:
        storage.write(name, b"x")
        assert (storage.exists(name), storage.read(name)) == (True, b"x")
        directory, _, _ = name.rpartition("/")
        assert storage.files(directory) == [name]
        storage.delete(name)
        assert not storage.exists(name)
        storage.child(name).write("file", b"x")
        assert storage.files(name) == [f"{name}/file"]

    def test_a_listing_is_sorted_and_not_recursive(self, storage: Storage) -> None:
        assert (storage.files("a"), storage.directories("a")) == ([], [])
        for name in (
            "a/z.json",
            "a/b.json",
            "a/B.jsonl",
            "a/10.json",
            "a/9.json",
            "a/deep/c.json",
            "a/cave/c",
            "other",
        ):
            storage.write(name, b"")
        assert storage.files("a") == ["a/10.json", "a/9.json", "a/B.jsonl", "a/b.json", "a/z.json"]
        assert storage.files("a", ".json") == ["a/10.json", "a/9.json", "a/b.json", "a/z.json"]
        assert storage.directories("a") == ["cave", "deep"]
        assert (storage.files(""), storage.directories()) == (["other"], ["a"])

    def test_what_is_missing(self, storage: Storage) -> None:
        for operation in (storage.read, storage.open):
            with pytest.raises(FileNotFoundError):
                operation("absent")
        with pytest.raises(FileNotFoundError):
            storage.move("absent", "new")
        assert not storage.exists("absent")
        storage.delete("absent")
        storage.delete("no/such/directory")

    def test_a_directory_is_no_file(self, storage: Storage) -> None:
        storage.write("a/file", b"")
        assert not storage.exists("a")
        assert not storage.exists("")

    def test_create_leaves_what_is_there(self, storage: Storage) -> None:
        assert storage.create("deep/file", b"first")
        assert not storage.create("deep/file", b"second")
        assert storage.read("deep/file") == b"first"
        assert storage.files("deep") == ["deep/file"]

    def test_a_swap_puts_a_file_in_place_if_it_is_still_what_it_was(self, storage: Storage) -> None:
        first = storage.swap("file", b"first", "")
        second = storage.swap("file", b"second", first)
        assert storage.read("file") == b"second"
        assert bool(first) == bool(second), "a place can tell versions apart, or it cannot"
        if first:
            for stale in ("file", "absent"):
                with pytest.raises(FileChangedError):
                    storage.swap(stale, b"third", first)
            assert storage.read("file") == b"second"
            assert not storage.exists("absent")
        storage.swap("file", b"fourth", "")
        assert storage.read("file") == b"fourth"

    def test_one_of_several_creates(self, storage: Storage) -> None:
        if not storage.creates_exclusively:
            pytest.skip("this backend does not promise it")
        start = threading.Barrier(8)
        made: list[int] = []

        def create(number: int) -> None:
            start.wait()
            if storage.create("file", b"%d" % number):
                made.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert storage.read("file") == b"%d" % made[0]

    def test_move(self, storage: Storage) -> None:
        storage.write("file", b"x")
        storage.write("deep/other", b"replaced")
        storage.move("file", "deep/other")
        assert storage.read("deep/other") == b"x"
        assert not storage.exists("file")
        storage.move("deep/other", "new/place/file")
        assert storage.read("new/place/file") == b"x"

    def test_a_child_sees_what_is_below_its_directory(self, storage: Storage) -> None:
        storage.write("a/b/file", b"x")
        child = storage.child("a").child("b")
        assert child.files("") == ["file"]
        child.write("other", b"y")
        assert storage.files("a/b") == ["a/b/file", "a/b/other"]

    def test_remove_empty_never_removes_a_file(self, storage: Storage) -> None:
        child = storage.child("a")
        child.write("b/file", b"x")
        child.remove_empty(keep=storage.nearest_directory())
        assert child.read("b/file") == b"x"
        child.delete("b/file")
        child.remove_empty(keep=storage.nearest_directory())
        assert storage.files("a/b") == []
        storage.write("file", b"the root can still be used")

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_what_fails_for_a_while_is_tried_again(self, backend: Backend, operation: str) -> None:
        told: list[str] = []
        Storage(backend).write("there", b"x")
        failing = Storage(
            Failing(backend, failures=2), tries=3, first_delay_s=0.0, on_retry=lambda what, *_: told.append(what)
        )
        result = OPERATIONS[operation](failing)
        if operation == "open":
            result.close()
        assert len(told) == 2
        with pytest.raises(StorageError, match="after 3 tries: the network is down") as caught:
            OPERATIONS[operation](Storage(Failing(backend, failures=10), tries=3, first_delay_s=0.0))
        assert isinstance(caught.value.__cause__, OSError)
