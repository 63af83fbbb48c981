"""Storage: what it opens, and how it tries again."""

from __future__ import annotations

import errno
import json
import resource
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from service import run_study
from service.errors import StorageError, StudyError
from service.executors.serial import SerialExecutor
from service.records.events import Event
from service.storage.files import Storage, open_storage
from service.storage.lease_record import is_held
from service.storage.local import LocalDirectory
from service.storage.object_store import ObjectStore
from tests.service.storage.conformance import BackendConformance, Failing
from tests.service.storage.memory import Memory
from tests.service.storage.test_seams import published
from tests.service.studies import toy_spec


class TestConformanceInMemory(BackendConformance):
    """The suite passes a backend that has nothing to do with files: it asks for no more than the protocol promises."""

    @pytest.fixture
    def backend(self) -> Memory:
        return Memory()


@pytest.fixture(scope="module")
def calm() -> pd.DataFrame:
    """The runs of a study that nothing disturbed."""
    storage = Storage(Memory())
    run_study(toy_spec(), storage, executor=SerialExecutor())
    return published(storage)


def test_the_scheme_chooses_the_backend(tmp_path: Path) -> None:
    for uri in (str(tmp_path), tmp_path, f"file://{tmp_path}", "relative/path"):
        storage = open_storage(uri)
        assert isinstance(storage._backend, LocalDirectory)
        assert (storage.is_remote, storage.creates_exclusively) == (False, True)
    store = open_storage("s3://bucket/studies?region=us-east-1")
    assert isinstance(store._backend, ObjectStore)
    assert (store.is_remote, store.creates_exclusively) == (True, True)
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


@pytest.mark.parametrize("error", [PermissionError, NotADirectoryError, IsADirectoryError, "EROFS", "ENAMETOOLONG"])
def test_what_does_not_pass_is_not_tried_again(error: type[OSError] | str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {PermissionError: errno.EACCES, NotADirectoryError: errno.ENOTDIR, IsADirectoryError: errno.EISDIR}
    number = getattr(errno, error) if isinstance(error, str) else kinds[error]
    tried: list[str] = []

    def write(self: Memory, name: str, content: bytes, *, durable: bool) -> None:
        tried.append(name)
        raise OSError(number, "no", name)

    monkeypatch.setattr(Memory, "write", write)
    with pytest.raises(StorageError, match=r"^cannot write a/b in memory://: \[Errno \d+\] no: 'a/b'$"):
        Storage(Memory()).write("a/b", b"")
    assert tried == ["a/b"]


class Hanging(Memory):
    """Keeps every file of the ledger's that is written, until ``answers`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.begun = threading.Event(), list[str]()

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        self.begun.append(name)
        if name.startswith("ledger/"):
            self.answers.wait()
        super().write(name, content, durable=durable)


def test_an_operation_that_hangs_ends_after_its_tries_and_hinders_no_other() -> None:
    backend, told = Hanging(), list[str]()
    storage = Storage(
        backend, tries=3, limit_s=0.2, on_retry=lambda what, error, delay: told.append(f"{what}: {error}")
    )
    with pytest.raises(StorageError, match=r"^cannot write ledger/a in memory:// after 3 tries: no answer for 0.2 s$"):
        storage.write("ledger/a", b"")
    assert told == ["write ledger/a: no answer for 0.2 s"] * 2
    assert backend.begun == ["ledger/a"], "it hangs once, and no second one is begun beside it"
    storage.write("lease.json", b"beat")
    assert storage.read("lease.json") == b"beat"
    backend.answers.set()


def test_an_operation_that_hung_goes_on_when_the_storage_answers_again() -> None:
    backend = Hanging()
    storage = Storage(backend, tries=3, limit_s=0.2, on_retry=lambda *_: backend.answers.set())
    storage.write("ledger/a", b"whole")
    assert storage.read("ledger/a") == b"whole"
    assert backend.begun == ["ledger/a"]


def test_a_limit_and_tries_are_handed_on(tmp_path: Path) -> None:
    storage = Storage(LocalDirectory(str(tmp_path)), limit_s=3.0)
    assert storage.child("a")._limit_s == storage.retrying(tries=1)._limit_s == 3.0


def test_a_study_whose_storage_hangs_ends_and_can_be_resumed(calm: pd.DataFrame) -> None:
    """The lease is kept meanwhile, by calls of its own."""
    backend = Hanging()
    with pytest.raises(StorageError, match=r"cannot write ledger/.* after 3 tries: no answer for 0.3 s"):
        run_study(toy_spec(), Storage(backend, tries=3, limit_s=0.3), executor=SerialExecutor())
    progress = json.loads(backend.read("progress.json"))
    assert progress["status"]["state"] == "failed"
    assert progress["status"]["uncommitted"] == sum(progress["status"]["done"].values()) > 0
    assert not is_held(Storage(backend))
    backend.answers.set()
    storage = Storage(backend)
    assert run_study(toy_spec(), storage, executor=SerialExecutor()).state == "completed"
    pd.testing.assert_frame_equal(published(storage), calm, check_exact=True)


def test_a_study_whose_storage_hangs_for_a_while_goes_on(calm: pd.DataFrame) -> None:
    backend, events = Hanging(), list[Event]()

    def on_event(event: Event) -> None:
        events.append(event)
        if event.kind == "storage_retry":
            backend.answers.set()

    storage = Storage(backend, limit_s=0.3)
    assert run_study(toy_spec(), storage, executor=SerialExecutor(), on_event=on_event).state == "completed"
    assert "no answer for 0.3 s" in next(event.message for event in events if event.kind == "storage_retry")
    pd.testing.assert_frame_equal(published(storage), calm, check_exact=True)


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


def test_a_disk_that_is_full_while_a_large_file_is_written_is_an_error_with_words(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # what the system says of it is the same but a word
    try:
        with (
            pytest.raises(StorageError, match=r"cannot write large\.bin in .*File too large"),
            storage.replacing("large.bin") as sink,
        ):
            sink.write(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
