"""The committer: what waits, what is being written, and what the next driver would hear of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from service.driver import committer as module
from service.driver.committer import Committer
from service.errors import StorageError
from service.ledger.shards import Ledger
from service.records.events import EventLog
from service.records.progress import StudyStatus, read_in_flight
from tests.service.ledger.rows import run, toy_ledger
from tests.service.storage.memory import Memory

STATUS = StudyStatus(name="toy", study_hash="", uri="", state="running", planned={}, done={})


class Held(Memory):
    """Writes shards of runs only while ``gate`` is open, and fails if ``broken``."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.broken = threading.Event(), False
        self.gate.set()

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        if name.startswith("ledger/runs"):
            assert self.gate.wait(60)
            if self.broken:
                raise OSError("the disk is full")
        super().write(name, content, durable=durable)


@pytest.fixture
def memory() -> Held:
    return Held()


@pytest.fixture
def ledger(memory: Held) -> Ledger:
    return toy_ledger(memory)


@pytest.fixture
def committer(memory: Held, ledger: Ledger) -> Iterator[Committer]:
    committer = Committer(ledger, EventLog(ledger.storage))
    yield committer
    memory.gate.set()
    committer.close()


def add(committer: Committer, ledger: Ledger, slot: int) -> None:
    """A run whose attempt 1 has ended."""
    committer.batch.runs.append(run(ledger.plan, "online", slot) | {"attempt": 1})


def test_a_flush_that_waits_has_committed(committer: Committer, ledger: Ledger) -> None:
    add(committer, ledger, 0)
    ledger.storage.write("checkpoints/pack.zip", b"")
    committer.batch.spent.append("checkpoints/pack.zip")
    assert committer.uncommitted() == [("online/0/0", 1)]
    committer.flush(STATUS, [("online/0/1", 2)], wait=True)
    assert committer.uncommitted() == []
    assert ledger.committed({"online/0/0"})
    assert not ledger.storage.exists("checkpoints/pack.zip")
    assert read_in_flight(ledger.storage, STATUS.study_hash) == [("online/0/1", 2), ("online/0/0", 1)], (
        "written before the commit"
    )


def test_one_batch_at_a_time(committer: Committer, ledger: Ledger, memory: Held) -> None:
    memory.gate.clear()
    add(committer, ledger, 0)
    committer.flush(STATUS, [], wait=False)
    add(committer, ledger, 1)
    committer.flush(STATUS, [], wait=False)  # the first is still being written: this one goes on waiting
    assert committer.batch.size == 1
    assert committer.uncommitted() == [("online/0/0", 1), ("online/0/1", 1)]
    memory.gate.set()
    committer.flush(STATUS, [], wait=True)
    assert ledger.committed({"online/0/0", "online/0/1"}) == {"online/0/0", "online/0/1"}
    assert len(ledger.shards("runs")) == 2


def test_what_went_wrong_is_raised_by_the_next_flush(committer: Committer, ledger: Ledger, memory: Held) -> None:
    memory.broken = True
    add(committer, ledger, 0)
    committer.flush(STATUS, [], wait=False)
    with pytest.raises(StorageError, match="the disk is full"):
        committer.flush(STATUS, [], wait=True)
    assert committer.uncommitted() == [("online/0/0", 1)], "for the next driver to know"


@pytest.mark.parametrize(("is_remote", "full"), [(False, [True, True]), (True, [False, True])])
def test_how_much_may_wait_depends_on_the_storage(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, is_remote: bool, full: list[bool]
) -> None:
    monkeypatch.setattr(module, "LOCAL_ROWS", 1)
    monkeypatch.setattr(module, "REMOTE_ROWS", 2)
    ledger.storage.is_remote = is_remote
    committer = Committer(ledger, EventLog(ledger.storage))
    assert not committer.is_full
    for slot, is_full in enumerate(full):
        add(committer, ledger, slot)
        assert committer.is_full is is_full
    committer.close()
