"""What a ledger holds when a driver opens it: what is committed, what was lost, and what is damaged and set aside."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import DamagedFileError
from service.ledger.checksums import is_checksummed
from service.ledger.shards import PLACE, Ledger, Row, TableFile
from service.spec.arms import Arm

Finals = dict[tuple[str, int, int], dict[str, float]]  # (arm, model, slot) of a run to come → where it starts


class RunState(IntEnum):
    """Where a planned run stands. TAKEN is of a driver alone: it has the run in its queue or in flight."""

    PENDING, COMPLETED, DIVERGED, FAILED, TAKEN = range(5)


STATUSES = {"completed": RunState.COMPLETED, "diverged": RunState.DIVERGED, "failed": RunState.FAILED}


@dataclass(kw_only=True)
class Recovered:
    """What a ledger holds when a driver opens it."""

    status: dict[str, bytearray]  # by arm, a RunState for each run at Plan.index
    finals: Finals = field(default_factory=dict)  # of runs that can start, because those that they follow have ended
    attempts: dict[str, int] = field(default_factory=dict)  # attempts so far of runs that are still pending
    lost: int = 0  # attempts lost to the infrastructure
    set_aside: list[str] = field(default_factory=list)  # the paths that damaged files had


def recover(ledger: Ledger, checksummed: Collection[str] = ()) -> Recovered:
    """Read what is committed; set damaged files aside, delete orphans. Their runs are pending again.

    ``checksummed`` are the tables that were published with a checksum: a file without one in their place is another's.
    """
    aside = _set_aside_damaged(ledger, checksummed)
    _delete_orphans(ledger)
    if any(map(holds_attempts, aside)):
        _remake_attempts(ledger)
    pending = {arm: bytearray(count) for arm, count in ledger.plan.planned().items()}
    found = Recovered(status=pending, set_aside=aside)
    committed: list[pa.ChunkedArray] = []
    leaders: list[tuple[Arm, pa.Table]] = []  # runs that others follow
    for file in ledger.inputs("runs"):
        table = ledger.read(file, [*PLACE, "run_id", "status", *(f"{name}_final" for name in ledger.plan.names)])
        committed.append(table["run_id"])
        for arm in ledger.plan.arms:
            runs = table.filter(pc.equal(table["arm"], arm.name))
            np.frombuffer(found.status[arm.name], np.uint8)[_indices(ledger, arm, runs)] = _codes(runs["status"])
            leaders += [(arm, runs)] if ledger.plan.followers[arm.name] else []
    for arm, runs in leaders:  # once the states of all their followers are known
        _note_finals(ledger, arm, runs, found)
    _note_attempts(ledger, pa.chunked_array(committed, pa.string()).combine_chunks(), found)
    return found


def holds_attempts(path: str) -> bool:
    """Whether a file of the ledger, by its path, holds attempts and no results."""
    return path.startswith(("attempts", "ledger/attempts"))


def _set_aside_damaged(ledger: Ledger, checksummed: Collection[str]) -> list[str]:
    """Move damaged files out of the way, runs and trajectories together; returns their paths."""
    bad = {
        file
        for table in ledger.schemas
        for file in ledger.inputs(table)
        if not _is_sound(ledger, file, has_checksum=not file.shard and table in checksummed)
    }
    present = {*ledger.inputs("runs"), *ledger.inputs("trajectories")}
    for runs in ledger.inputs("runs"):
        pair = {runs, runs.partner("trajectories")}
        if bad & pair or pair - present:
            bad |= pair & present
    for file in sorted(bad):
        ledger.storage.move(file.path, f"ledger/corrupt/{file.path.replace('/', '-')}")
    return [file.path for file in sorted(bad)]


def _is_sound(ledger: Ledger, file: TableFile, *, has_checksum: bool) -> bool:
    """Whether a file is whole and in its place; raises NewerSchemaError, and StorageError where the storage fails.

    What was written before there were checksums is read instead; of published points and attempts, the footer.
    """
    try:
        with ledger.opened(file) as parquet:
            is_older = not is_checksummed(parquet.schema_arrow)
            if is_older and has_checksum:
                return False
            is_read = is_older and (file.shard or file.table == "runs")
            for group in range(parquet.num_row_groups if is_read else 0):
                parquet.read_row_group(group)
    except DamagedFileError:
        return False
    return True


def _remake_attempts(ledger: Ledger) -> None:
    """Give every run whose attempts were set aside the one that its row tells of, without its time and place."""
    files = ledger.inputs("attempts")
    known = pa.chunked_array([ledger.read(file, ["run_id"])["run_id"] for file in files], pa.string()).combine_chunks()
    for file in ledger.inputs("runs"):
        for batch in ledger.batches(file):
            left = batch.filter(pc.invert(pc.is_in(batch["run_id"], known)))
            columns = (left[name].to_pylist() for name in ("run_id", "attempt", "status", "error"))
            rows: list[Row] = [
                {"run_id": run_id, "attempt": attempt, "outcome": status, "error": error}
                for run_id, attempt, status, error in zip(*columns, strict=True)
            ]
            ledger.commit(runs=[], points={}, attempts=rows)


def _delete_orphans(ledger: Ledger) -> None:
    """Delete trajectories whose runs are not committed."""
    runs = {file.shard for file in ledger.shards("runs")}
    for file in ledger.shards("trajectories"):
        if file.shard not in runs:
            ledger.storage.delete(file.path)


def _note_finals(ledger: Ledger, arm: Arm, runs: pa.Table, found: Recovered) -> None:
    """Keep the final values of runs that pending ones follow."""
    indices, failed = _indices(ledger, arm, runs), _codes(runs["status"]) == RunState.FAILED
    for follower in ledger.plan.followers[arm.name]:
        pending = np.frombuffer(found.status[follower.name], np.uint8)[indices] == RunState.PENDING
        for row in np.flatnonzero(pending & ~failed):
            model, slot = ledger.plan.place(int(indices[row]))
            found.finals[follower.name, model, slot] = {
                name: runs[f"{name}_final"][int(row)].as_py() for name in ledger.plan.boxes[model]
            }


def _note_attempts(ledger: Ledger, committed: pa.Array, found: Recovered) -> None:
    """Count lost attempts and those of pending runs. One with a result that was never committed is lost, too."""
    columns = ["run_id", "attempt", "outcome"]
    lost: list[pa.Table] = []
    for file in ledger.inputs("attempts"):
        table = ledger.read(file, columns)
        if pc.any(_without_result(table, committed)).as_py():
            _record_lost(ledger, file, committed)
            table = ledger.read(file, columns)
        lost.append(table.filter(pc.equal(table["outcome"], "lost")))
        pending = table.filter(pc.invert(pc.is_in(table["run_id"], committed)))
        for run_id, attempt in zip(pending["run_id"].to_pylist(), pending["attempt"].to_pylist(), strict=True):
            found.attempts[run_id] = max(attempt, found.attempts.get(run_id, 0))
    if lost:  # after a crash within a merge or while publishing, two files may hold the same rows
        found.lost = pa.concat_tables(lost).group_by(["run_id", "attempt"]).aggregate([]).num_rows


def _record_lost(ledger: Ledger, file: TableFile, committed: pa.Array) -> None:
    """Record attempts as lost whose driver died after it had written them and before it wrote their results."""
    with ledger.replacing(file) as writer:
        for batch in ledger.batches(file):
            table = pa.Table.from_batches([batch])
            gone = _without_result(table, committed)
            for column, value in (("outcome", "lost"), ("error", "its results were lost with the driver")):
                at = table.schema.get_field_index(column)
                changed = pc.if_else(gone, pa.scalar(value), table[column])
                table = table.set_column(at, table.schema.field(at), changed)
            writer.write(table)


def _indices(ledger: Ledger, arm: Arm, runs: pa.Table) -> npt.NDArray[np.int64]:
    """The numbers of runs of one arm within it."""
    configurations, replicates = (runs[name].to_numpy().astype(np.int64) for name in ("config_index", "replicate"))
    models = pc.index_in(runs["model"], pa.array(ledger.plan.labels)).to_numpy().astype(np.int64)
    return ledger.plan.index(models, ledger.plan.slot(arm, configurations, replicates))


def _without_result(attempts: pa.Table, committed: pa.Array) -> pa.ChunkedArray:
    """Which attempts gave a result, but of a run that is not among those committed."""
    ended = pc.is_in(attempts["outcome"], pa.array(["completed", "diverged"]))
    return pc.and_(ended, pc.invert(pc.is_in(attempts["run_id"], committed)))


def _codes(status: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = pc.index_in(status, pa.array(["", *STATUSES])).to_numpy()
    return codes
