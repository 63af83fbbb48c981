"""Shards of an older lease: what was there when the study was taken over counts, what appears later does not."""

from __future__ import annotations

import pytest

from service.ledger.publish import discard_shards, publish
from service.ledger.recovery import RunState, recover
from service.ledger.schema import TABLES
from service.ledger.shards import FAN_IN, Ledger, TableFile
from tests.service.ledger.rows import commit, counts, rows, run, toy_ledger
from tests.service.storage.memory import Memory


@pytest.fixture
def memory() -> Memory:
    return Memory()


def ledger_of(memory: Memory, lease: int) -> Ledger:
    """The ledger of a driver that has just taken the study."""
    ledger = toy_ledger(memory)
    ledger.begin(lease)
    return ledger


def ids(ledger: Ledger, table: str = "runs") -> list[str]:
    return [row["run_id"] for row in rows(ledger, table)]


def test_a_shard_names_its_level_and_its_lease(memory: Memory) -> None:
    old, new = toy_ledger(memory), ledger_of(memory, 12)
    commit(old, run(old.plan, "online", 0))
    commit(new, run(new.plan, "online", 1))
    assert {(file.level, file.lease) for file in new.all_shards("runs")} == {(0, 0), (0, 12)}
    assert TableFile("runs").lease == 0


@pytest.mark.parametrize("before", [0, 1], ids=["no number", "number 1"])
def test_what_was_there_counts_and_what_comes_late_does_not(memory: Memory, before: int) -> None:
    first = ledger_of(memory, before)
    commit(first, run(first.plan, "online", 0))
    second = ledger_of(memory, 2)
    commit(first, run(first.plan, "online", 1))  # a process that was stopped on the way to it
    assert ids(second) == ["online/0/0"]
    assert ids(second, "trajectories") == ["online/0/0"] * 2
    assert second.committed({"online/0/1"}) == set()
    assert recover(second).status["online"][1] == RunState.PENDING
    commit(second, run(second.plan, "online", 1))
    found = publish(second)
    assert counts(found) == {"runs": 2, "trajectories": 4, "attempts": 2}
    assert ids(second)[:2] == ["online/0/0"] * 2, "in the table and in a shard that counts"
    assert all(second.all_shards(table) == second.shards(table) for table in TABLES), "the late ones are deleted"


def test_late_shards_are_deleted_when_shards_are_merged(memory: Memory) -> None:
    first = ledger_of(memory, 1)
    second = ledger_of(memory, 2)
    for slot in range(FAN_IN - 1):
        commit(second, run(second.plan, "grid", slot % 12, model=slot // 12))
    commit(first, run(first.plan, "online", 0))
    second.compact()
    assert len(second.all_shards("runs")) == FAN_IN - 1, "the late one is not the sixteenth"
    assert "online/0/0" not in ids(second)


def test_late_shards_are_gone_with_the_others_after_publication(memory: Memory) -> None:
    first = ledger_of(memory, 1)
    second = ledger_of(memory, 2)
    commit(second, run(second.plan, "online", 0))
    publish(second)
    commit(first, run(first.plan, "online", 0))
    discard_shards(second)
    assert all(not second.all_shards(table) for table in TABLES)
    assert ids(second) == ["online/0/0"]


def test_one_that_the_next_driver_finds_gives_no_double_row(memory: Memory) -> None:
    """It appeared while a driver worked that died before it deleted it; the next one cannot tell that it was late."""
    first = ledger_of(memory, 1)
    second = ledger_of(memory, 2)
    commit(second, run(second.plan, "online", 0))
    commit(first, run(first.plan, "online", 0))
    third = ledger_of(memory, 3)
    assert recover(third).status["online"][0] == RunState.COMPLETED
    assert counts(publish(third)) == {"runs": 1, "trajectories": 2, "attempts": 1}


def test_a_row_that_comes_late_without_its_trajectory_does_not_count(memory: Memory) -> None:
    """The trajectory was an orphan when the study was taken over, and was deleted."""
    first = ledger_of(memory, 1)
    commit(first, run(first.plan, "online", 0))
    (late,) = first.all_shards("runs")
    content = first.storage.read(late.path)
    first.storage.delete(late.path)
    second = ledger_of(memory, 2)
    recover(second)
    assert not second.all_shards("trajectories")
    first.storage.write(late.path, content)
    assert recover(second).status["online"][0] == RunState.PENDING, "as when failed runs are tried again"
