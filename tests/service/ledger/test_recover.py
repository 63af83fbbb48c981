"""What a driver finds when it opens a ledger: what is done, what is to be done again, what is damaged."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from service.errors import DamagedFileError, NewerSchemaError, StorageError
from service.ledger.publish import publish
from service.ledger.recovery import STATUSES, recover
from service.ledger.shards import Ledger, TableFile
from tests.service.ledger.rows import attempt, commit, points, rows, run, toy_ledger
from tests.service.storage.memory import Memory

PENDING = 0
COMPLETED, DIVERGED, FAILED = (STATUSES[word] for word in ("completed", "diverged", "failed"))


def damage(ledger: Ledger, file: TableFile) -> None:
    ledger.storage.write(file.path, ledger.storage.read(file.path)[:-20])


def online(ledger: Ledger) -> list[int]:
    """The states of the first model's online runs."""
    return list(recover(ledger).status["online"])[::2]


def test_an_empty_ledger() -> None:
    found = recover(toy_ledger())
    assert {arm: bytes(codes) for arm, codes in found.status.items()} == {
        "initial": bytes(6),
        "online": bytes(6),
        "rerun": bytes(6),
        "grid": bytes(24),
    }
    assert (found.finals, found.attempts, found.lost, found.set_aside) == ({}, {}, 0, [])


def test_every_run_is_found_at_its_place() -> None:
    ledger = toy_ledger()
    plan = ledger.plan
    commit(ledger, run(plan, "online", 0, status="diverged"), run(plan, "initial", 2, model=1))
    commit(ledger, run(plan, "grid", 11, model=1, status="failed"), run(plan, "grid", 0))
    publish(ledger)
    commit(ledger, run(plan, "rerun", 1))
    status = recover(ledger).status
    assert list(status["online"]) == [DIVERGED, *[PENDING] * 5]
    assert list(status["initial"]) == [*[PENDING] * 5, COMPLETED]
    assert list(status["rerun"]) == [PENDING, PENDING, COMPLETED, PENDING, PENDING, PENDING]
    assert list(status["grid"]) == [COMPLETED, *[PENDING] * 22, FAILED]


def test_final_values_are_kept_for_reruns_to_come() -> None:
    ledger = toy_ledger()
    plan = ledger.plan
    commit(ledger, run(plan, "online", 0), run(plan, "online", 1), run(plan, "online", 2, status="failed"))
    commit(ledger, run(plan, "online", 1, model=1, status="diverged"), run(plan, "rerun", 1))
    names = {model: list(plan.boxes[model]) for model in (0, 1)}
    assert {place[-2:]: values for place, values in recover(ledger).finals.items()} == {
        (0, 0): dict(zip(names[0], (0.0, 1.0, 2.0, 3.0), strict=False)),
        (1, 1): dict(zip(names[1], (10.0, 11.0, 12.0, 13.0), strict=False)),
    }


def test_attempts_at_pending_runs_are_counted() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    lost = [attempt("online/0/1", number, "lost") for number in (1, 2)]
    ledger.commit(runs=[], points={}, attempts=[*lost, attempt("online/0/0", 7, "lost")])
    found = recover(ledger)
    assert (found.attempts, found.lost) == ({"online/0/1": 2}, 3)


def test_a_result_that_was_never_committed_is_a_lost_attempt() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    ended = [attempt("online/0/1"), attempt("online/0/2", outcome="failed")]
    ledger.commit(runs=[], points={}, attempts=ended)
    for _ in range(2):  # and is recorded so
        found = recover(ledger)
        assert (found.attempts, found.lost) == ({"online/0/1": 1, "online/0/2": 1}, 1)
    outcomes = {row["run_id"]: (row["outcome"], row["error"]) for row in rows(ledger, "attempts")}
    assert outcomes == {
        "online/0/0": ("completed", None),
        "online/0/1": ("lost", "its results were lost with the driver"),
        "online/0/2": ("failed", None),
    }


def test_trajectories_without_their_runs_are_deleted() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    commit(ledger, run(ledger.plan, "online", 1))
    orphan = ledger.shards("runs")[0]
    gone = ledger.read(orphan)["run_id"].to_pylist()
    ledger.storage.delete(orphan.path)
    assert sum(online(ledger)) == COMPLETED
    assert {row["run_id"] for row in rows(ledger, "trajectories")} == {"online/0/0", "online/0/1"} - set(gone)


@pytest.mark.parametrize("table", ["runs", "trajectories"])
def test_a_damaged_shard_is_set_aside_with_its_partner(table: str) -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    commit(ledger, run(ledger.plan, "online", 1))
    (shard,) = (file for file in ledger.shards("runs") if ledger.read(file)["run_id"].to_pylist() == ["online/0/0"])
    damage(ledger, shard.partner(table))
    found = recover(ledger)
    assert list(found.status["online"])[::2] == [PENDING, COMPLETED, PENDING]
    assert found.set_aside == [shard.path, shard.partner("trajectories").path]
    aside = [f"ledger/corrupt/ledger-{name}-{shard.shard}" for name in ("runs", "trajectories")]
    assert ledger.storage.files("ledger/corrupt") == aside
    assert found.attempts == {"online/0/0": 1}, "it is trained again, as its second attempt"
    assert recover(ledger).set_aside == []


def test_runs_without_their_trajectories_are_set_aside() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    (shard,) = ledger.shards("runs")
    ledger.storage.delete(shard.partner("trajectories").path)
    found = recover(ledger)
    assert (found.set_aside, sum(found.status["online"])) == ([shard.path], 0)


def test_a_damaged_shard_of_attempts_is_set_aside_alone() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    (shard,) = ledger.shards("attempts")
    damage(ledger, shard)
    assert recover(ledger).set_aside == [shard.path]
    assert online(ledger) == [COMPLETED, PENDING, PENDING]


@pytest.mark.parametrize("table", ["runs", "trajectories"])
def test_a_damaged_published_table_is_set_aside_and_shards_stay(table: str) -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    publish(ledger)
    for file in (*ledger.shards("runs"), *ledger.shards("trajectories")):
        ledger.storage.delete(file.path)
    commit(ledger, run(ledger.plan, "online", 1))
    damage(ledger, TableFile(table))
    found = recover(ledger)
    assert found.set_aside == ["runs.parquet", "trajectories.parquet"]
    assert list(found.status["online"])[::2] == [PENDING, COMPLETED, PENDING]


def test_a_page_in_the_middle_of_a_shard_is_looked_at() -> None:
    ledger = toy_ledger()
    runs = [run(ledger.plan, "online", 0)]
    ledger.commit(runs=runs, points=points(runs, range(0, 90_000, 3)), attempts=[])
    (shard,) = ledger.shards("trajectories")
    content = bytearray(ledger.storage.read(shard.path))
    content[60:160] = bytes(100)  # neither the beginning nor the footer
    ledger.storage.write(shard.path, bytes(content))
    assert len(recover(ledger).set_aside) == 2


def test_a_file_of_a_newer_version_is_refused_and_stays() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0))
    (shard,) = ledger.shards("runs")
    table = ledger.read(shard).replace_schema_metadata({"schema_version": "99"})
    with ledger.storage.replacing(shard.path) as file:
        pq.write_table(table, file)
    with pytest.raises(
        NewerSchemaError, match=rf"{shard.path}: written in schema version 99, this package reads up to"
    ):
        recover(ledger)
    assert ledger.shards("runs") == [shard]


def test_a_storage_that_fails_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = toy_ledger(memory := Memory())
    commit(ledger, run(ledger.plan, "online", 0))

    def fail(name: str) -> None:
        raise OSError("the network is down")

    with monkeypatch.context() as context:
        context.setattr(memory, "open_input", fail)
        with pytest.raises(StorageError, match="the network is down"):
            recover(ledger)
    assert (recover(ledger).set_aside, online(ledger)) == ([], [COMPLETED, PENDING, PENDING])


def test_shards_in_each_others_places_are_set_aside() -> None:
    ledger = toy_ledger()
    for slot in range(2):
        commit(ledger, run(ledger.plan, "online", slot))
    first, second = (file.path for file in ledger.shards("runs"))
    contents = ledger.storage.read(first), ledger.storage.read(second)
    ledger.storage.write(first, contents[1])
    ledger.storage.write(second, contents[0])
    assert len(recover(ledger).set_aside) == 4
    assert online(ledger) == [PENDING, PENDING, PENDING]


def test_attempts_that_were_set_aside_are_told_by_the_rows_of_their_runs() -> None:
    ledger = toy_ledger()
    commit(ledger, run(ledger.plan, "online", 0) | {"attempt": 3})
    commit(ledger, run(ledger.plan, "online", 1, status="failed") | {"attempt": 1, "error": "it broke"})
    shard = next(
        file for file in ledger.shards("attempts") if "online/0/1" in str(ledger.read(file)["run_id"].to_pylist())
    )
    ledger.storage.write(shard.path, b"")
    assert recover(ledger).set_aside == [shard.path]
    found = {row["run_id"]: (row["attempt"], row["outcome"], row["error"]) for row in rows(ledger, "attempts")}
    assert found["online/0/1"] == (1, "failed", "it broke")
    assert len(found) == 2
    assert recover(ledger).set_aside == []


def test_a_damaged_shard_is_never_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.ledger.shards.FAN_IN", 2)
    ledger = toy_ledger()
    for slot in range(2):
        commit(ledger, run(ledger.plan, "online", slot))
    shard = ledger.shards("trajectories")[0]
    content = bytearray(ledger.storage.read(shard.path))
    content[len(content) // 3] ^= 1
    ledger.storage.write(shard.path, bytes(content))
    with pytest.raises(DamagedFileError, match=shard.shard):
        ledger.compact()
    assert len(recover(ledger).set_aside) == 2
    assert sorted(online(ledger)) == [PENDING, PENDING, COMPLETED]
