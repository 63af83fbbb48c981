"""The ledger: what is done, in Parquet shards below ``ledger/``.

One process writes at a time (see :mod:`service.storage.lease`). A run is committed when its row is in a shard of
``ledger/runs`` or in ``runs.parquet``. Its points are in the shard of the same name in ``ledger/trajectories``, written
before, so a crash between the two leaves an orphan that holds nothing committed. Shards are named after their content:
writing one again overwrites it. They are merged in levels, sixteen of one level into one of the next, and the names of
a pair stay equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.ledger.schema import check_version, schemas
from service.spec.plan import Plan
from service.spec.study_spec import digest
from service.storage.files import Storage

FAN_IN = 16
COMPRESSION = "zstd"
PENDING, COMPLETED, DIVERGED, FAILED = range(4)
STATUSES = {"completed": COMPLETED, "diverged": DIVERGED, "failed": FAILED}


@dataclass
class Recovered:
    """What a ledger holds when a driver opens it."""

    status: dict[str, bytearray]  # by arm: PENDING … FAILED at slot * models + model
    finals: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)  # (model, slot) of reruns to come
    attempts: dict[str, int] = field(default_factory=dict)  # attempts so far of runs that are still pending
    lost: int = 0
    set_aside: list[str] = field(default_factory=list)


class Ledger:
    """Reads and writes the shards of one study."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        self.storage = storage
        self.plan = plan
        self.schemas = schemas(plan.names)

    def commit(self, runs: list[dict[str, Any]], points: dict[str, list[Any]], attempts: list[dict[str, Any]]) -> None:
        """Add rows for good; the rows of ``runs`` count only once all else is written."""
        if attempts:
            key = [f"{row['run_id']}/{row['attempt']}" for row in attempts]
            self._write("attempts", _shard(key), pa.Table.from_pylist(attempts, self.schemas["attempts"]))
        if runs:
            name = _shard([row["run_id"] for row in runs])
            schema = self.schemas["trajectories"]
            count = len(points.get("run_id", []))
            columns = [pa.array(points.get(f.name, [None] * count), f.type) for f in schema]
            self._write("trajectories", name, pa.Table.from_arrays(columns, schema=schema))
            self._write("runs", name, pa.Table.from_pylist(runs, self.schemas["runs"]))

    def shards(self, table: str) -> list[str]:
        """The paths of a table's shards."""
        return self.storage.files(f"ledger/{table}", ".parquet")

    def inputs(self, table: str) -> list[str]:
        """Every file with rows of a table: the published one, if it is there, and the shards."""
        published = [f"{table}.parquet"] if self.storage.exists(f"{table}.parquet") else []
        return [*published, *self.shards(table)]

    def compact(self) -> None:
        """Merge shards where one level holds :data:`FAN_IN` of them."""
        for tables in (("attempts",), ("trajectories", "runs")):
            names = [path.rpartition("/")[2] for path in self.shards(tables[-1])]
            levels: dict[int, list[str]] = {}
            for name in names:
                levels.setdefault(int(name.partition("-")[0]), []).append(name)
            for level, members in sorted(levels.items()):
                if len(members) >= FAN_IN:
                    self._merge(tables, members, _shard(members, level + 1))

    def _merge(self, tables: Sequence[str], names: Sequence[str], target: str) -> None:
        for table in tables:
            with self.storage.replacing(f"ledger/{table}/{target}") as file, self._writer(file, table) as writer:
                for name in names:
                    for batch in self.batches(f"ledger/{table}/{name}"):
                        writer.write_batch(batch)
        for table in reversed(tables):  # runs first: a trajectories shard without its runs is an orphan
            for name in names:
                self.storage.delete(f"ledger/{table}/{name}")

    def recover(self) -> Recovered:
        """Read what is committed; set damaged files aside, delete orphans. Their runs are pending again."""
        aside = self._check()
        width = len(self.plan.configs)
        found = Recovered({arm: bytearray(self.plan.slots(arm) * width) for arm in self.plan.arms}, set_aside=aside)
        keys = ["run_id", "arm", "config_index", "replicate", "model", "status"]
        committed: list[pa.ChunkedArray] = []
        online: list[pa.Table] = []
        final_columns = [f"{name}_final" for name in self.plan.names]
        for path in self.inputs("runs"):
            table = self.read(path, [*keys, *final_columns])
            committed.append(table["run_id"])
            arms = table["arm"].to_numpy(zero_copy_only=False)
            places = self._places(table)
            codes = _codes(table["status"])
            for arm in self.plan.arms:
                mask = arms == arm
                view = np.frombuffer(found.status[arm], np.uint8)
                view[places[mask]] = codes[mask]
            if "rerun" in self.plan.arms:
                online.append(table.filter(pc.equal(table["arm"], "online")))
        for table in online:  # their reruns, as far as they are still to come
            rerun = np.frombuffer(found.status["rerun"], np.uint8)
            places = self._places(table)
            for row in np.flatnonzero((rerun[places] == PENDING) & (_codes(table["status"]) != FAILED)):
                slot, model = divmod(int(places[row]), width)
                values = {name: table[f"{name}_final"][int(row)].as_py() for name in self.plan.names}
                found.finals[model, slot] = {name: values[name] for name in self.plan.boxes[model]}
        ids = pa.chunked_array(committed, pa.string()).combine_chunks()
        for path in self.inputs("attempts"):
            table = self.read(path, ["run_id", "attempt", "outcome"])
            if pc.any(_resultless(table, ids)).as_py():
                self._disown(path, ids)
                table = self.read(path, ["run_id", "attempt", "outcome"])
            found.lost += int(pc.sum(pc.equal(table["outcome"], "lost")).as_py() or 0)
            open_ = table.filter(pc.invert(pc.is_in(table["run_id"], ids)))
            for run_id, attempt in zip(open_["run_id"].to_pylist(), open_["attempt"].to_pylist(), strict=True):
                found.attempts[run_id] = max(attempt, found.attempts.get(run_id, 0))
        return found

    def _disown(self, path: str, committed: pa.Array) -> None:
        """Record attempts as lost whose driver died after it had written them and before it wrote their results."""
        with self.storage.replacing(path) as file, self._writer(file, "attempts") as writer:
            for batch in self.batches(path):
                table = pa.Table.from_batches([batch])
                gone = _resultless(table, committed)
                for column, value in (("outcome", "lost"), ("error", "its results were lost with the driver")):
                    at = table.schema.get_field_index(column)
                    changed = pc.if_else(gone, pa.scalar(value), table[column])
                    table = table.set_column(at, table.schema.field(at), changed)
                writer.write_table(table)

    def committed(self, run_ids: set[str]) -> set[str]:
        """Those of ``run_ids`` that are committed."""
        wanted = pa.array(sorted(run_ids), pa.string())
        found: set[str] = set()
        for path in self.inputs("runs") if run_ids else ():
            ids = self.read(path, ["run_id"])["run_id"]
            found |= set(ids.filter(pc.is_in(ids, wanted)).to_pylist())
        return found

    def drop_failed(self) -> int:
        """Take the rows of failed runs out, so that they are pending again; returns how many."""
        dropped = 0
        for path in self.inputs("runs"):
            statuses = self.read(path, ["status"])["status"]
            count = int(pc.sum(pc.equal(statuses, "failed")).as_py() or 0)
            if count:
                with self.storage.replacing(path) as file, self._writer(file, "runs") as writer:
                    for batch in self.batches(path):
                        writer.write_batch(batch.filter(pc.not_equal(batch["status"], "failed")))
                dropped += count
        return dropped

    def read(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """A file as a table."""
        with self.storage.filesystem.open_input_file(self.storage.path(path)) as source:
            table: pa.Table = pq.read_table(source, columns=columns)
        return table

    def batches(self, path: str) -> Iterator[pa.RecordBatch]:
        """A file, piece by piece."""
        with self.storage.filesystem.open_input_file(self.storage.path(path)) as source:
            yield from pq.ParquetFile(source).iter_batches(batch_size=16_384)

    def _places(self, table: pa.Table) -> npt.NDArray[np.int64]:
        arms = table["arm"].to_numpy(zero_copy_only=False)
        replicates = np.where(arms == "grid", self.plan.spec.grid.replicates, self.plan.spec.replicates)
        slots = table["config_index"].to_numpy() * replicates + table["replicate"].to_numpy()
        models = pc.index_in(table["model"], pa.array(self.plan.labels)).to_numpy()
        places: npt.NDArray[np.int64] = (slots * len(self.plan.labels) + models).astype(np.int64)
        return places

    def _check(self) -> list[str]:
        """Set files aside that cannot be read, a pair together; delete trajectories without runs."""
        aside: list[str] = []
        bad = {path for table in self.schemas for path in self.inputs(table) if not self._sound(path)}
        present = {*self.inputs("runs"), *self.inputs("trajectories")}
        for runs in self.inputs("runs"):
            trajectories = runs.replace("runs", "trajectories")
            if bad & {runs, trajectories} or trajectories not in present:
                bad |= {runs, trajectories} & present
        for path in sorted(bad):
            self.storage.move(path, f"ledger/corrupt/{path.replace('/', '-')}")
            aside.append(path)
        names = {path.rpartition("/")[2] for path in self.shards("runs")}
        for path in self.shards("trajectories"):
            if path.rpartition("/")[2] not in names:
                self.storage.delete(path)
        return aside

    def _sound(self, path: str) -> bool:
        """Whether a file can be read; raises NewerSchemaError. Of large published tables only the footer is read."""
        try:
            with self.storage.filesystem.open_input_file(self.storage.path(path)) as source:
                parquet = pq.ParquetFile(source)
                check_version(parquet.schema_arrow, f"{self.storage.uri}/{path}")
                for group in range(parquet.num_row_groups if "/" in path or path == "runs.parquet" else 0):
                    parquet.read_row_group(group)
        except (pa.ArrowException, OSError):
            return False
        return True

    def _writer(self, file: pa.NativeFile, table: str) -> pq.ParquetWriter:
        return pq.ParquetWriter(file, self.schemas[table], compression=COMPRESSION)

    def _write(self, table: str, name: str, content: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink, compression=COMPRESSION)
        self.storage.write(f"ledger/{table}/{name}", sink.getvalue())


def _shard(keys: Sequence[str], level: int = 0) -> str:
    return f"{level}-{digest(sorted(keys))[:16]}.parquet"


def _resultless(attempts: pa.Table, committed: pa.Array) -> pa.ChunkedArray:
    """Which attempts gave a result, but of a run that is not among those committed."""
    ended = pc.is_in(attempts["outcome"], pa.array(["completed", "diverged"]))
    return pc.and_(ended, pc.invert(pc.is_in(attempts["run_id"], committed)))


def _codes(status: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = pc.index_in(status, pa.array(["", *STATUSES])).to_numpy()
    return codes
