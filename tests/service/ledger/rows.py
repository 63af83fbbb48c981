"""Rows for the ledger's tests: runs of :func:`tests.service.studies.toy_spec`, named after their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.ledger.publish import Published
from service.ledger.shards import Ledger, Row
from service.spec.plan import Plan, make_plan
from service.storage.files import Storage
from tests.service.storage.memory import Memory
from tests.service.studies import toy_spec


def toy_ledger(memory: Memory | None = None, **values: Any) -> Ledger:
    """An empty ledger in memory, of a study with 3 configurations and 2 models."""
    return Ledger(Storage(memory or Memory(), tries=1), make_plan(toy_spec(**values)))


def run(plan: Plan, arm: str, slot: int, *, model: int = 0, status: str = "completed") -> Row:
    """The row of a run; its ends are 10 times its slot and more by name."""
    config_index, replicate = divmod(slot, 2 if arm == "grid" else 1)
    ends = {f"{name}_final": 10.0 * slot + number for number, name in enumerate(plan.boxes[model])}
    return {
        "run_id": f"{arm}/{model}/{slot}",
        "arm": arm,
        "config_index": config_index,
        "replicate": replicate,
        "model": plan.labels[model],
        "status": status,
        **(ends if status != "failed" else {}),
    }


def attempt(run_id: str, number: int = 1, outcome: str = "completed") -> Row:
    """The row of an attempt."""
    return {"run_id": run_id, "attempt": number, "outcome": outcome}


def points(runs: Sequence[Row], steps: Sequence[int] = (0, 100)) -> dict[str, list[Any]]:
    """Points of every run, the latest first, as an executor may give them."""
    found = [(row["run_id"], step) for row in runs for step in reversed(steps)]
    return {"run_id": [run_id for run_id, _ in found], "step": [step for _, step in found]}


def commit(ledger: Ledger, *runs: Row) -> None:
    """Commit runs with their points and one attempt each."""
    attempts = [attempt(row["run_id"], outcome=row["status"]) for row in runs]
    ledger.commit(runs=list(runs), points=points(runs), attempts=attempts)


def rows(ledger: Ledger, table: str) -> list[Row]:
    """All rows in the files of a table, sorted by run."""
    found = [row for file in ledger.inputs(table) for row in ledger.read(file).to_pylist()]
    return sorted(found, key=lambda row: (row["run_id"], row.get("step", 0)))


def counts(published: dict[str, Published]) -> dict[str, int]:
    """The numbers of rows of published tables."""
    return {table: found.rows for table, found in published.items()}
