"""The ledger: what is done, in Parquet shards below ``ledger/``.

One process writes at a time (see :mod:`service.storage.lease`). A run is committed when its row is in a shard of
``ledger/runs`` or in ``runs.parquet``. Its points are in the shard of the same name in ``ledger/trajectories``, written
first: a crash between the two leaves an orphan, trajectories of runs that are not committed.

A shard is named after its content, so that writing one again overwrites it. Shards are merged in levels,
:data:`FAN_IN` of one level into one of the next; the two shards of a pair keep equal names.

A shard's name also has the number of the lease of the driver that wrote it. A driver that takes a study over notes
which shards there are (:meth:`Ledger.begin`). One of an older lease that appears later is of a process that was stopped
on the way to it, believed dead, and has gone on: its runs are trained again meanwhile, so it does not count.

Every file carries a checksum of all its bytes (see :mod:`service.ledger.checksums`), the hash of its study, and the
path at which it belongs. Nothing is read from it before these have been found right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.errors import DamagedFileError, StorageError
from service.ledger.checksums import UNREADABLE, ChecksummedWriter, is_checksummed, one_line, opened_again, opened_whole
from service.ledger.schema import check_version, conformed, schemas
from service.spec.plan import Plan
from service.spec.study_spec import digest
from service.storage.files import Storage

Row = dict[str, Any]
PLACE = ["arm", "config_index", "replicate", "model"]  # the columns that say which run of the plan a row is of
FAN_IN = 16
COMPRESSION = "zstd"
IN_MEMORY = 32 << 20  # files up to this many bytes are read once, whole, and then looked into
STUDY_KEY, FILE_KEY = b"study_hash", b"file"  # metadata of a file's schema: which study's it is, and where it belongs


class TableFile(NamedTuple):
    """A file with rows of one table: a shard, or the published table, which has no shard's name."""

    table: str
    shard: str = ""

    @property
    def path(self) -> str:
        """Where it lies in the study's storage."""
        return f"ledger/{self.table}/{self.shard}" if self.shard else f"{self.table}.parquet"

    @property
    def level(self) -> int:
        """How often a shard was merged."""
        return int(self.shard.partition("-")[0])

    @property
    def lease(self) -> int:
        """The number of the lease under which a shard was written; 0 for one of before there were numbers."""
        parts = self.shard.split("-")
        return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else 0

    def partner(self, table: str) -> TableFile:
        """The file of another table that holds rows of the same runs."""
        return self._replace(table=table)


class Ledger:
    """Reads and writes the shards of one study.

    Its hash and the schemas of its tables follow from the plan, unless they are given.
    """

    def __init__(
        self,
        storage: Storage,
        plan: Plan,
        *,
        study_hash: str | None = None,
        table_schemas: dict[str, pa.Schema] | None = None,
    ) -> None:
        self.storage = storage
        self.plan = plan  # a driver puts a larger one in its place when the study is extended, with the same hash
        self.study_hash = study_hash or plan.spec.hash
        self.schemas = table_schemas or schemas(plan.names)
        self._lease = 0
        self._older: set[TableFile] = set()  # shards of older leases, as they were when this one began

    def begin(self, lease: int) -> None:
        """Write under the lease of this number from now on; of older ones the shards that are there now count."""
        found = [file for table in self.schemas for file in self.all_shards(table)]
        self._lease, self._older = lease, {file for file in found if file.lease < lease}

    def commit(self, *, runs: list[Row], points: dict[str, list[Any]], attempts: list[Row]) -> None:
        """Add rows for good: those of ``runs`` and ``attempts``, and columns of ``points``, with equal numbers of rows.

        The rows of ``runs`` are written last, and a run counts only with its row.
        """
        if attempts:
            name = self._shard_name([f"{row['run_id']}/{row['attempt']}" for row in attempts])
            self._write("attempts", name, pa.Table.from_pylist(attempts, self.schemas["attempts"]))
        if runs:
            name = self._shard_name([row["run_id"] for row in runs])
            schema = self.schemas["trajectories"]
            count = len(points.get("run_id", []))
            columns = [pa.array(points.get(f.name, [None] * count), f.type) for f in schema]
            self._write("trajectories", name, pa.Table.from_arrays(columns, schema=schema))
            self._write("runs", name, pa.Table.from_pylist(runs, self.schemas["runs"]))

    def shards(self, table: str) -> list[TableFile]:
        """The shards of a table that count."""
        return [file for file in self.all_shards(table) if not self._is_late(file)]

    def delete_late_shards(self, *tables: str) -> None:
        """Delete the shards of ``tables`` that do not count, because they came too late."""
        for file in (file for table in tables for file in self.all_shards(table) if self._is_late(file)):
            self.storage.delete(file.path)

    def all_shards(self, table: str) -> list[TableFile]:
        """The shards of a table, those that came too late included."""
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
            with self.opened(file, again=True) as parquet:
                count += parquet.metadata.num_rows
        return count

    def compact(self) -> None:
        """Merge shards where one level holds :data:`FAN_IN` of them."""
        for tables in (("attempts",), ("trajectories", "runs")):
            levels: dict[int, list[str]] = {}
            for file in self.all_shards(tables[-1]):
                if self._is_late(file):
                    self.storage.delete(file.path)
                    continue
                levels.setdefault(file.level, []).append(file.shard)
            for level, shards in sorted(levels.items()):
                if len(shards) >= FAN_IN:
                    self._merge(tables, shards, self._shard_name(shards, level + 1))

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
                    for batch in self.batches(file):
                        writer.write(batch.filter(pc.not_equal(batch["status"], "failed")))
                dropped += count
        return dropped

    @contextmanager
    def opened(self, file: TableFile, *, again: bool = False) -> Iterator[pq.ParquetFile]:
        """A file for reading, once all its bytes are known to be what this study wrote at this place.

        Files from before there were checksums are not checked. With ``again``, a file that was found whole a moment
        ago is opened; the checksums of its pages are verified as they are read. Raises NewerSchemaError,
        DamagedFileError, or StorageError where the storage fails.
        """
        where = f"{self.storage.uri}/{file.path}"
        with self.storage.open(file.path) as stream:
            if again:
                parquet = opened_again(stream, where)
            else:
                is_small = stream.size() <= IN_MEMORY
                parquet = opened_whole(pa.BufferReader(self.storage.read(file.path)) if is_small else stream, where)
            check_version(parquet.schema_arrow, where)
            check_origin(parquet.schema_arrow, self.study_hash, file, where)
            try:
                yield parquet
            except (StorageError, DamagedFileError):
                raise
            except UNREADABLE as error:
                raise DamagedFileError(where, one_line(error)) from error

    def read(self, file: TableFile, columns: list[str] | None = None) -> pa.Table:
        """A file as a table."""
        with self.opened(file) as parquet:
            table: pa.Table = parquet.read(columns=columns)
        return table

    def batches(self, file: TableFile) -> Iterator[pa.RecordBatch]:
        """The rows of a file, a few thousand at a time, with the columns of today's schema."""
        with self.opened(file) as parquet:
            for batch in parquet.iter_batches(batch_size=16_384):
                yield conformed(batch, self.schemas[file.table])

    @contextmanager
    def replacing(self, file: TableFile) -> Iterator[ChecksummedWriter]:
        """A writer of a file that takes its place only when the block ends without an exception."""
        with (
            self.storage.replacing(file.path) as sink,
            ChecksummedWriter(sink, self._schema(file), COMPRESSION) as writer,
        ):
            yield writer

    def _write(self, table: str, name: str, content: pa.Table) -> None:
        file, sink = TableFile(table, name), pa.BufferOutputStream()
        with ChecksummedWriter(sink, self._schema(file), COMPRESSION) as writer:
            writer.write(content)
        self.storage.write(file.path, sink.getvalue())

    def _is_late(self, file: TableFile) -> bool:
        return file.lease < self._lease and file not in self._older

    def _shard_name(self, keys: Sequence[str], level: int = 0) -> str:
        lease = f"{self._lease}-" if self._lease else ""
        return f"{level}-{lease}{digest(sorted(keys))[:16]}.parquet"

    def _schema(self, file: TableFile) -> pa.Schema:
        """The schema of a file, with what says where it belongs."""
        schema = self.schemas[file.table]
        origin = {STUDY_KEY: self.study_hash.encode(), FILE_KEY: file.path.encode()}
        return schema.with_metadata({**schema.metadata, **origin})

    def _merge(self, tables: Sequence[str], shards: Sequence[str], target: str) -> None:
        for table in tables:
            with self.replacing(TableFile(table, target)) as writer:
                for shard in shards:
                    for batch in self.batches(TableFile(table, shard)):
                        writer.write(batch)
        for table in reversed(tables):  # runs first: a trajectories shard without its runs is an orphan
            for shard in shards:
                self.storage.delete(TableFile(table, shard).path)


def check_origin(found: pa.Schema, study_hash: str | None, file: TableFile, where: str) -> None:
    """Raise DamagedFileError for a file that another study wrote, or that belongs at another place of this one.

    Files from before there were checksums do not say where they belong.
    """
    if not is_checksummed(found):
        return
    study, path = (found.metadata.get(key, b"").decode(errors="replace") for key in (STUDY_KEY, FILE_KEY))
    if study_hash not in (None, study):
        raise DamagedFileError(where, f"it belongs to another study, with the hash {study}")
    if path != file.path:
        raise DamagedFileError(where, f"it was written as {path}")
