"""Tables that were written before a column was added: whatever is done with a study, they have null in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.ledger import shards
from service.ledger.publish import discard_shards, publish
from service.ledger.recovery import RunState, recover
from service.ledger.shards import Ledger
from tests.service.ledger.rows import attempt, commit, rows, run, toy_ledger
from tests.service.storage.memory import Memory

ADDED = {"runs": "steps", "trajectories": "t2_loss", "attempts": "device"}  # the later column of each table


def older(ledger: Ledger) -> Ledger:
    """The ledger, as a version wrote it that had none of the columns :data:`ADDED`."""
    for table, column in ADDED.items():
        schema = ledger.schemas[table]
        ledger.schemas[table] = schema.remove(schema.get_field_index(column))
    return ledger


def commit_with_values(ledger: Ledger, slot: int) -> None:
    """Commit a run of which every table holds a value in its column of :data:`ADDED`."""
    row = run(ledger.plan, "online", slot)
    points = {"run_id": [row["run_id"]], "step": [0], "t2_loss": [0.5]}
    ledger.commit(runs=[row | {"steps": 100}], points=points, attempts=[attempt(row["run_id"]) | {"device": "cpu"}])


def publish_all(ledger: Ledger) -> None:
    publish(ledger)
    discard_shards(ledger)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("rewrite", [Ledger.compact, publish_all])
def test_older_rows_and_newer_ones_go_into_one_file(
    monkeypatch: pytest.MonkeyPatch, rewrite: Callable[[Ledger], None], published: bool
) -> None:
    monkeypatch.setattr(shards, "FAN_IN", 2)
    memory = Memory()
    before, ledger = older(toy_ledger(memory, configurations=4)), toy_ledger(memory, configurations=4)
    for slot in range(2):
        commit_with_values(before, slot)
    if published:
        publish_all(before)
        commit_with_values(ledger, 3)
    commit_with_values(ledger, 2)
    assert recover(ledger).set_aside == []
    rewrite(ledger)
    for table, column in ADDED.items():
        assert len(ledger.shards(table)) == (rewrite is Ledger.compact)
        found = {row["run_id"]: row.get(column) for row in rows(ledger, table)}
        assert {run_id for run_id, value in found.items() if value is None} == {"online/0/0", "online/0/1"}
        assert len(found) == 3 + published


@pytest.mark.parametrize("published", [False, True])
def test_failed_runs_are_taken_out_of_older_tables(published: bool) -> None:
    memory = Memory()
    before, ledger = older(toy_ledger(memory)), toy_ledger(memory)
    commit(before, run(before.plan, "online", 0), run(before.plan, "online", 1, status="failed"))
    if published:
        publish_all(before)
    assert ledger.drop_failed() == 1
    assert [(row["run_id"], row["steps"]) for row in rows(ledger, "runs")] == [("online/0/0", None)]


def test_attempts_in_older_tables_are_recorded_as_lost() -> None:
    memory = Memory()
    before, ledger = older(toy_ledger(memory)), toy_ledger(memory)
    before.commit(runs=[], points={}, attempts=[attempt("online/0/0")])
    assert recover(ledger).status["online"][0] == RunState.PENDING
    assert [(row["outcome"], row["device"]) for row in rows(ledger, "attempts")] == [("lost", None)]
