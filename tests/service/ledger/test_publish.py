"""The published tables: sorted by the plan, whatever the order of commits and the size of windows."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.ledger.publish import discard_shards, publish
from service.ledger.schema import TABLES
from service.ledger.shards import Ledger, TableFile
from tests.service.ledger.rows import attempt, commit, counts, run, toy_ledger


def all_runs(ledger: Ledger) -> list[dict[str, object]]:
    """The rows of every run of the study, in the plan's order."""
    plan = ledger.plan
    trained = [
        run(plan, arm, slot, model=model)
        for slot in range(3)
        for model in range(2)
        for arm in ("initial", "online", "rerun")
    ]
    return [*trained, *(run(plan, "grid", slot, model=model) for slot in range(12) for model in range(2))]


def published(ledger: Ledger) -> dict[str, pa.Table]:
    return {table: ledger.read(TableFile(table)) for table in TABLES}


@pytest.mark.parametrize("window_rows", [1, 7, 250_000])
@pytest.mark.parametrize("seed", [0, 1])
def test_tables_are_sorted_by_the_plan(seed: int, window_rows: int) -> None:
    ledger = toy_ledger()
    expected = all_runs(ledger)
    shuffled = random.Random(seed).sample(expected, len(expected))
    for start in range(0, len(shuffled), 5):
        commit(ledger, *shuffled[start : start + 5])
    assert counts(publish(ledger, window_rows)) == {"runs": 42, "trajectories": 84, "attempts": 42}
    tables = published(ledger)
    ids = [row["run_id"] for row in expected]
    assert tables["runs"]["run_id"].to_pylist() == tables["attempts"]["run_id"].to_pylist() == ids
    points = tables["trajectories"].select(["run_id", "step"]).to_pylist()
    assert [tuple(point.values()) for point in points] == [(run_id, step) for run_id in ids for step in (0, 100)]
    for table in TABLES:
        found, schema = tables[table].schema, ledger.schemas[table]
        assert found.remove_metadata().equals(schema.remove_metadata(), check_metadata=True)
        assert {key: found.metadata[key] for key in schema.metadata} == schema.metadata


def test_windows_bound_the_memory() -> None:
    ledger = toy_ledger()
    commit(ledger, *all_runs(ledger))
    publish(ledger, window_rows=10)
    with ledger.storage.open("trajectories.parquet") as source:
        file = pq.ParquetFile(source)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 84
    assert max(sizes) <= 10


def test_a_row_that_is_in_two_shards_is_published_once() -> None:
    ledger = toy_ledger()
    first, second, third = all_runs(ledger)[:3]
    commit(ledger, first, second)
    commit(ledger, second, third)
    assert counts(publish(ledger)) == {"runs": 3, "trajectories": 6, "attempts": 3}


def test_what_belongs_to_no_committed_run_is_left_out() -> None:
    ledger = toy_ledger()
    commit(ledger, all_runs(ledger)[0])
    ledger.commit(runs=[], points={}, attempts=[attempt("online/0/1", outcome="lost")])
    assert counts(publish(ledger)) == {"runs": 1, "trajectories": 2, "attempts": 1}


def test_attempts_are_sorted_by_their_number() -> None:
    ledger = toy_ledger()
    first = all_runs(ledger)[0]
    commit(ledger, first)
    again = [attempt(str(first["run_id"]), number, "lost") for number in (3, 2)]
    ledger.commit(runs=[], points={}, attempts=again)
    publish(ledger)
    assert published(ledger)["attempts"]["attempt"].to_pylist() == [1, 2, 3]


def test_publishing_again_adds_the_shards_to_what_is_published() -> None:
    ledger = toy_ledger()
    expected = all_runs(ledger)
    commit(ledger, *expected[::2])
    publish(ledger)
    discard_shards(ledger)
    commit(ledger, *expected[1::2])
    assert publish(ledger)["runs"].rows == 42
    discard_shards(ledger)
    before = published(ledger)
    assert before["runs"]["run_id"].to_pylist() == [row["run_id"] for row in expected]
    publish(ledger)
    assert published(ledger) == before


def test_a_study_without_a_run_has_empty_tables() -> None:
    ledger = toy_ledger()
    assert counts(publish(ledger)) == {"runs": 0, "trajectories": 0, "attempts": 0}
    assert {table: found.schema.names for table, found in published(ledger).items()} == {
        table: schema.names for table, schema in ledger.schemas.items()
    }


def test_discarding_leaves_the_tables_and_what_was_set_aside() -> None:
    ledger = toy_ledger()
    commit(ledger, *all_runs(ledger))
    ledger.storage.write("checkpoints/pack.zip", b"")
    ledger.storage.write("ledger/corrupt/ledger-runs-0-abc.parquet", b"")
    publish(ledger)
    discard_shards(ledger)
    assert all(ledger.inputs(table) == [TableFile(table)] for table in TABLES)
    assert not ledger.storage.files("checkpoints")
    assert ledger.storage.files("ledger/corrupt")
