"""The ledger: what a commit writes, what merging keeps, and what can be taken out again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from service.ledger import shards
from service.ledger.publish import publish
from service.ledger.recovery import recover
from service.ledger.shards import TableFile
from tests.service.ledger.rows import attempt, commit, counts, points, rows, run, toy_ledger
from tests.service.storage.memory import Memory


class Watched(Memory):
    """Remembers what was written, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        self.written.append(name)
        super().write(name, content, durable=durable)


def test_files_of_a_table() -> None:
    shard = TableFile("runs", "0-abc.parquet")
    assert (shard.path, TableFile("runs").path) == ("ledger/runs/0-abc.parquet", "runs.parquet")
    assert shard.partner("trajectories").path == "ledger/trajectories/0-abc.parquet"
    assert TableFile("runs").partner("trajectories").path == "trajectories.parquet"


def test_the_rows_of_runs_are_written_last() -> None:
    memory = Watched()
    ledger = toy_ledger(memory)
    commit(ledger, run(ledger.plan, "online", 0), run(ledger.plan, "online", 1))
    assert [name.split("/")[1] for name in memory.written] == ["attempts", "trajectories", "runs"]
    assert memory.written[1].rpartition("/")[2] == memory.written[2].rpartition("/")[2], "a pair has equal names"


def test_what_is_committed_is_read() -> None:
    ledger = toy_ledger()
    first, second = run(ledger.plan, "online", 0), run(ledger.plan, "initial", 1, model=1)
    commit(ledger, first)
    commit(ledger, second)
    assert [row["run_id"] for row in rows(ledger, "runs")] == ["initial/1/1", "online/0/0"]
    assert rows(ledger, "runs")[1].items() >= first.items()
    assert [(row["run_id"], row["step"]) for row in rows(ledger, "trajectories")] == [
        ("initial/1/1", 0),
        ("initial/1/1", 100),
        ("online/0/0", 0),
        ("online/0/0", 100),
    ]
    assert [row["outcome"] for row in rows(ledger, "attempts")] == ["completed", "completed"]
    assert ledger.committed({"online/0/0", "online/0/1"}) == {"online/0/0"}
    assert ledger.committed(set()) == set()


def test_a_commit_that_is_repeated_changes_nothing() -> None:
    ledger = toy_ledger()
    for _ in range(2):
        commit(ledger, run(ledger.plan, "online", 0))
    assert [len(ledger.shards(table)) for table in ("runs", "trajectories", "attempts")] == [1, 1, 1]


def test_attempts_alone_and_nothing_at_all() -> None:
    ledger = toy_ledger()
    ledger.commit(runs=[], points={}, attempts=[])
    assert not ledger.inputs("attempts")
    ledger.commit(runs=[], points={}, attempts=[attempt("online/0/0", outcome="lost")])
    assert (len(ledger.shards("attempts")), ledger.inputs("runs")) == (1, [])


def test_a_run_without_points_has_a_pair_of_shards_all_the_same() -> None:
    ledger = toy_ledger()
    ledger.commit(runs=[run(ledger.plan, "online", 0, status="failed")], points={}, attempts=[])
    assert rows(ledger, "trajectories") == []
    assert recover(ledger).set_aside == []


@pytest.mark.parametrize(("count", "names"), [(15, ["0"] * 15), (16, ["1"]), (17, ["1"])])
def test_sixteen_shards_are_merged_into_one(count: int, names: list[str]) -> None:
    ledger = toy_ledger(configurations=20)
    for slot in range(count):
        commit(ledger, run(ledger.plan, "online", slot))
    before = {table: rows(ledger, table) for table in ledger.schemas}
    ledger.compact()
    for table in ledger.schemas:
        assert [file.shard.partition("-")[0] for file in ledger.shards(table)] == names
        assert rows(ledger, table) == before[table]
    assert [file.shard for file in ledger.shards("runs")] == [file.shard for file in ledger.shards("trajectories")]


def test_merged_shards_are_merged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FAN_IN", 2)
    ledger = toy_ledger(configurations=8)
    for slot in range(8):
        commit(ledger, run(ledger.plan, "online", slot))
        ledger.compact()
    ledger.compact()
    ledger.compact()
    assert [file.shard[0] for file in ledger.shards("runs")] == ["3"]
    assert len(rows(ledger, "runs")) == ledger.rows("runs") == 8


@pytest.mark.parametrize("after", range(12))  # moves and deletions, until the last
def test_a_merge_that_breaks_off_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(shards, "FAN_IN", 2)
    memory = Memory()
    ledger = toy_ledger(memory)
    for slot in range(2):
        commit(ledger, run(ledger.plan, "online", slot))
    left = after

    def breaking(operation: Any) -> Any:
        def call(*arguments: Any) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            operation(*arguments)

        return call

    with monkeypatch.context() as context:
        context.setattr(memory, "move", breaking(memory.move))
        context.setattr(memory, "delete", breaking(memory.delete))
        with pytest.raises(KeyboardInterrupt):
            ledger.compact()
    found = recover(ledger)
    assert (found.set_aside, list(found.status["online"])) == ([], [1, 0, 1, 0, 0, 0])
    assert counts(publish(ledger)) == {"runs": 2, "trajectories": 4, "attempts": 2}


def test_failed_runs_are_taken_out_of_shards_and_of_the_published_table() -> None:
    ledger = toy_ledger()
    plan = ledger.plan
    commit(ledger, run(plan, "online", 0), run(plan, "online", 1, status="failed"))
    publish(ledger)
    commit(ledger, run(plan, "online", 2, status="failed"), run(plan, "initial", 0, status="diverged"))
    assert ledger.drop_failed() == 2 + 1, "one of them is in a shard and in the published table"
    assert {row["run_id"] for row in rows(ledger, "runs")} == {"online/0/0", "initial/0/0"}
    assert ledger.drop_failed() == 0
    assert list(recover(ledger).status["online"]) == [1, 0, 0, 0, 0, 0]


def test_columns_that_a_model_lacks_are_null() -> None:
    ledger = toy_ledger()
    row = run(ledger.plan, "online", 0)
    ledger.commit(runs=[row], points={**points([row]), "log10_l2_layer1": [-3.0, -4.0]}, attempts=[])
    (first, second) = rows(ledger, "trajectories")
    assert (first["log10_l2_layer1"], second["log10_l2_layer1"]) == (-4.0, -3.0)
    assert (first["log10_l2_layer3"], first["t1_loss"]) == (None, None)
