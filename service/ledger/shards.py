"""The ledger: what is done, in Parquet shards below ``ledger/``.

One process writes at a time (see :mod:`service.storage.lease`). A run is committed when its row is in a shard of
``ledger/runs`` or in ``runs.parquet``. Its points are in the shard of the same name in ``ledger/trajectories``, written
first: a crash between the two leaves an orphan, trajectories of runs that are not committed.

A shard is named after its content, so that writing one again overwrites it. Shards are merged in levels,
:data:`FAN_IN` of one level into one of the next; the two shards of a pair keep equal names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.ledger.schema import check_version, conformed, schemas
from service.spec.arms import Arm
from service.spec.plan import Plan
from service.spec.study_spec import digest
from service.storage.files import Storage

Row = dict[str, Any]
PLACE = ["arm", "config_index", "replicate", "model"]  # the columns that say which run of the plan a row is of
FAN_IN = 16
COMPRESSION = "zstd"
Finals = dict[tuple[str, int, int], dict[str, float]]  # (arm, model, slot) of a run to come → where it starts


class RunState(IntEnum):
    """Where a planned run stands. TAKEN is of a driver alone: it has the run in its queue or in flight."""

    PENDING, COMPLETED, DIVERGED, FAILED, TAKEN = range(5)


STATUSES = {"completed": RunState.COMPLETED, "diverged": RunState.DIVERGED, "failed": RunState.FAILED}


class TableFile(NamedTuple):
    """A file with rows of one table: a shard, or the published table, which has no shard's name."""

    table: str
    shard: str = ""

    @property
    def path(self) -> str:
        """Where it lies in the study's storage."""
        return f"ledger/{self.table}/{self.shard}" if self.shard else f"{self.table}.parquet"

    def partner(self, table: str) -> TableFile:
        """The file of another table that holds rows of the same runs."""
        return self._replace(table=table)


@dataclass(kw_only=True)
class Recovered:
    """What a ledger holds when a driver opens it."""

    status: dict[str, bytearray]  # by arm, a RunState for each run at Plan.index
    finals: Finals = field(default_factory=dict)  # of runs that can start, because those that they follow have ended
    attempts: dict[str, int] = field(default_factory=dict)  # attempts so far of runs that are still pending
    lost: int = 0  # attempts lost to the infrastructure
    set_aside: list[str] = field(default_factory=list)  # the paths that damaged files had


class Ledger:
    """Reads and writes the shards of one study."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        self.storage = storage
        self.plan = plan  # a driver puts a larger one in its place when the study is extended
        self.schemas = schemas(plan.names)

    def commit(self, *, runs: list[Row], points: dict[str, list[Any]], attempts: list[Row]) -> None:
        """Add rows for good: those of ``runs`` and ``attempts``, and columns of ``points``, with equal numbers of rows.

        The rows of ``runs`` are written last, and a run counts only with its row.
        """
        if attempts:
            name = _shard_name([f"{row['run_id']}/{row['attempt']}" for row in attempts])
            self._write("attempts", name, pa.Table.from_pylist(attempts, self.schemas["attempts"]))
        if runs:
            name = _shard_name([row["run_id"] for row in runs])
            schema = self.schemas["trajectories"]
            count = len(points.get("run_id", []))
            columns = [pa.array(points.get(f.name, [None] * count), f.type) for f in schema]
            self._write("trajectories", name, pa.Table.from_arrays(columns, schema=schema))
            self._write("runs", name, pa.Table.from_pylist(runs, self.schemas["runs"]))

    def shards(self, table: str) -> list[TableFile]:
        """The shards of a table."""
        paths = self.storage.files(f"ledger/{table}", ".parquet")
        return [TableFile(table, path.rpartition("/")[2]) for path in paths]

    def inputs(self, table: str) -> list[TableFile]:
        """Every file with rows of a table: the published one, if it is there, and the shards."""
        published = TableFile(table)
        return [*([published] if self.storage.exists(published.path) else []), *self.shards(table)]

    def rows(self, table: str) -> int:
        """How many rows the files of a table hold."""
        count = 0
        for file in self.inputs(table):
            with self.storage.open(file.path) as source:
                count += pq.read_metadata(source).num_rows
        return count

    def compact(self) -> None:
        """Merge shards where one level holds :data:`FAN_IN` of them."""
        for tables in (("attempts",), ("trajectories", "runs")):
            levels: dict[int, list[str]] = {}
            for file in self.shards(tables[-1]):
                levels.setdefault(int(file.shard.partition("-")[0]), []).append(file.shard)
            for level, shards in sorted(levels.items()):
                if len(shards) >= FAN_IN:
                    self._merge(tables, shards, _shard_name(shards, level + 1))

    def recover(self) -> Recovered:
        """Read what is committed; set damaged files aside, delete orphans. Their runs are pending again."""
        aside = self._set_aside_damaged()
        self._delete_orphans()
        pending = {arm: bytearray(count) for arm, count in self.plan.planned().items()}
        found = Recovered(status=pending, set_aside=aside)
        committed: list[pa.ChunkedArray] = []
        leaders: list[tuple[Arm, pa.Table]] = []  # runs that others follow
        for file in self.inputs("runs"):
            table = self.read(file, [*PLACE, "run_id", "status", *(f"{name}_final" for name in self.plan.names)])
            committed.append(table["run_id"])
            for arm in self.plan.arms:
                runs = table.filter(pc.equal(table["arm"], arm.name))
                np.frombuffer(found.status[arm.name], np.uint8)[self._indices(arm, runs)] = _codes(runs["status"])
                leaders += [(arm, runs)] if self.plan.followers[arm.name] else []
        for arm, runs in leaders:  # once the states of all their followers are known
            self._note_finals(arm, runs, found)
        self._note_attempts(pa.chunked_array(committed, pa.string()).combine_chunks(), found)
        return found

    def committed(self, run_ids: set[str]) -> set[str]:
        """Those of ``run_ids`` that are committed."""
        wanted = pa.array(sorted(run_ids), pa.string())
        found: set[str] = set()
        for file in self.inputs("runs") if run_ids else ():
            ids = self.read(file, ["run_id"])["run_id"]
            found |= set(ids.filter(pc.is_in(ids, wanted)).to_pylist())
        return found

    def drop_failed(self) -> int:
        """Take the rows of failed runs out, so that they are pending again; returns how many."""
        dropped = 0
        for file in self.inputs("runs"):
            count = int(pc.sum(pc.equal(self.read(file, ["status"])["status"], "failed")).as_py() or 0)
            if count:
                with self.replacing(file) as writer:
                    for batch in self._batches(file):
                        writer.write_batch(batch.filter(pc.not_equal(batch["status"], "failed")))
                dropped += count
        return dropped

    def read(self, file: TableFile, columns: list[str] | None = None) -> pa.Table:
        """A file as a table."""
        with self.storage.open(file.path) as source:
            table: pa.Table = pq.read_table(source, columns=columns)
        return table

    @contextmanager
    def replacing(self, file: TableFile) -> Iterator[pq.ParquetWriter]:
        """A writer of a file that takes its place only when the block ends without an exception."""
        with (
            self.storage.replacing(file.path) as sink,
            pq.ParquetWriter(sink, self.schemas[file.table], compression=COMPRESSION) as writer,
        ):
            yield writer

    def _batches(self, file: TableFile) -> Iterator[pa.RecordBatch]:
        with self.storage.open(file.path) as source:
            for batch in pq.ParquetFile(source).iter_batches(batch_size=16_384):
                yield conformed(batch, self.schemas[file.table])

    def _write(self, table: str, name: str, content: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink, compression=COMPRESSION)
        self.storage.write(TableFile(table, name).path, sink.getvalue())

    def _merge(self, tables: Sequence[str], shards: Sequence[str], target: str) -> None:
        for table in tables:
            with self.replacing(TableFile(table, target)) as writer:
                for shard in shards:
                    for batch in self._batches(TableFile(table, shard)):
                        writer.write_batch(batch)
        for table in reversed(tables):  # runs first: a trajectories shard without its runs is an orphan
            for shard in shards:
                self.storage.delete(TableFile(table, shard).path)

    # -- recovery, step by step

    def _set_aside_damaged(self) -> list[str]:
        """Move files that cannot be read out of the way, runs and trajectories together; returns their paths."""
        bad = {file for table in self.schemas for file in self.inputs(table) if not self._can_be_read(file)}
        present = {*self.inputs("runs"), *self.inputs("trajectories")}
        for runs in self.inputs("runs"):
            pair = {runs, runs.partner("trajectories")}
            if bad & pair or pair - present:
                bad |= pair & present
        for file in sorted(bad):
            self.storage.move(file.path, f"ledger/corrupt/{file.path.replace('/', '-')}")
        return [file.path for file in sorted(bad)]

    def _can_be_read(self, file: TableFile) -> bool:
        """Whether a file is whole, judging published points and attempts by their footer; raises NewerSchemaError."""
        is_read_whole = file.shard or file.table == "runs"
        with self.storage.open(file.path) as source:
            try:
                parquet = pq.ParquetFile(source)
                check_version(parquet.schema_arrow, f"{self.storage.uri}/{file.path}")
                for group in range(parquet.num_row_groups if is_read_whole else 0):
                    parquet.read_row_group(group)
            except (pa.ArrowException, OSError):
                return False
        return True

    def _delete_orphans(self) -> None:
        """Delete trajectories whose runs are not committed."""
        runs = {file.shard for file in self.shards("runs")}
        for file in self.shards("trajectories"):
            if file.shard not in runs:
                self.storage.delete(file.path)

    def _note_finals(self, arm: Arm, runs: pa.Table, found: Recovered) -> None:
        """Keep the final values of runs that pending ones follow."""
        indices, failed = self._indices(arm, runs), _codes(runs["status"]) == RunState.FAILED
        for follower in self.plan.followers[arm.name]:
            pending = np.frombuffer(found.status[follower.name], np.uint8)[indices] == RunState.PENDING
            for row in np.flatnonzero(pending & ~failed):
                model, slot = self.plan.place(int(indices[row]))
                found.finals[follower.name, model, slot] = {
                    name: runs[f"{name}_final"][int(row)].as_py() for name in self.plan.boxes[model]
                }

    def _note_attempts(self, committed: pa.Array, found: Recovered) -> None:
        """Count lost attempts and those of pending runs. One with a result that was never committed is lost, too."""
        columns = ["run_id", "attempt", "outcome"]
        lost: list[pa.Table] = []
        for file in self.inputs("attempts"):
            table = self.read(file, columns)
            if pc.any(_without_result(table, committed)).as_py():
                self._record_lost(file, committed)
                table = self.read(file, columns)
            lost.append(table.filter(pc.equal(table["outcome"], "lost")))
            pending = table.filter(pc.invert(pc.is_in(table["run_id"], committed)))
            for run_id, attempt in zip(pending["run_id"].to_pylist(), pending["attempt"].to_pylist(), strict=True):
                found.attempts[run_id] = max(attempt, found.attempts.get(run_id, 0))
        if lost:  # after a crash within a merge or while publishing, two files may hold the same rows
            found.lost = pa.concat_tables(lost).group_by(["run_id", "attempt"]).aggregate([]).num_rows

    def _record_lost(self, file: TableFile, committed: pa.Array) -> None:
        """Record attempts as lost whose driver died after it had written them and before it wrote their results."""
        with self.replacing(file) as writer:
            for batch in self._batches(file):
                table = pa.Table.from_batches([batch])
                gone = _without_result(table, committed)
                for column, value in (("outcome", "lost"), ("error", "its results were lost with the driver")):
                    at = table.schema.get_field_index(column)
                    changed = pc.if_else(gone, pa.scalar(value), table[column])
                    table = table.set_column(at, table.schema.field(at), changed)
                writer.write_table(table)

    def _indices(self, arm: Arm, runs: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers of runs of one arm within it."""
        configurations, replicates = (runs[name].to_numpy().astype(np.int64) for name in ("config_index", "replicate"))
        models = pc.index_in(runs["model"], pa.array(self.plan.labels)).to_numpy().astype(np.int64)
        return self.plan.index(models, self.plan.slot(arm, configurations, replicates))


def _shard_name(keys: Sequence[str], level: int = 0) -> str:
    return f"{level}-{digest(sorted(keys))[:16]}.parquet"


def _without_result(attempts: pa.Table, committed: pa.Array) -> pa.ChunkedArray:
    """Which attempts gave a result, but of a run that is not among those committed."""
    ended = pc.is_in(attempts["outcome"], pa.array(["completed", "diverged"]))
    return pc.and_(ended, pc.invert(pc.is_in(attempts["run_id"], committed)))


def _codes(status: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = pc.index_in(status, pa.array(["", *STATUSES])).to_numpy()
    return codes
