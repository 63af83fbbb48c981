"""What a ledger holds, for who only looks: whatever can be read is counted, and nothing is moved or deleted.

It needs no plan, so it also tells of a study whose other files are damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.ledger.checksums import UNREADABLE
from service.ledger.schema import TABLES
from service.ledger.shards import STUDY_KEY
from service.spec.arms import ARMS
from service.storage.files import Storage

RUNS = TABLES[0]


@dataclass(kw_only=True)
class Survey:
    """What the files with rows of runs hold, the published one and the shards."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)  # (arm, status) → runs, each counted once
    unreadable: list[str] = field(default_factory=list)  # paths

    def of_arm(self, arm: str) -> int:
        """The committed runs of an arm."""
        return sum(count for (each, _), count in self.counts.items() if each == arm)

    def of_status(self, status: str) -> int:
        """The committed runs that are completed, diverged or failed."""
        return sum(count for (_, each), count in self.counts.items() if each == status)


def survey(storage: Storage) -> Survey:
    """What is committed in ``storage``. A run that stands both in a shard and in the published table counts once."""
    found = Survey()
    columns = ["run_id", "arm", "status"]
    schema = pa.schema([(name, pa.string()) for name in columns])
    tables = [table.cast(schema) for table in _tables(storage, columns, found.unreadable)]
    if tables:
        unique = pa.concat_tables(tables).group_by(columns).aggregate([])
        counted = unique.group_by(["arm", "status"]).aggregate([("run_id", "count")])
        rows = zip(*(counted[name].to_pylist() for name in ("arm", "status", "run_id_count")), strict=True)
        found.counts = {(arm, status): count for arm, status, count in rows}
    return found


def configurations(storage: Storage) -> int:
    """How many configurations a study must have for all of its committed runs to be of one."""
    highest = 0
    for table in _tables(storage, ["arm", "config_index"], []):
        of_grid = pc.is_in(table["arm"], pa.array([name for name, arm in ARMS.items() if arm.on_grid], pa.string()))
        last = pc.max(table["config_index"].filter(pc.invert(of_grid))).as_py()
        highest = max(highest, -1 if last is None else int(last))
    return highest + 1


def study_hashes(storage: Storage) -> set[str]:
    """The studies that wrote the tables' files, as these say; files of earlier versions say nothing."""
    found = set()
    for path in (path for table in TABLES for path in _paths(storage, table)):
        try:
            with storage.open(path) as source:
                metadata = pq.read_schema(source).metadata or {}
        except (FileNotFoundError, *UNREADABLE):
            continue
        if STUDY_KEY in metadata:
            found.add(metadata[STUDY_KEY].decode(errors="replace"))
    return found


def is_published(storage: Storage) -> bool:
    """Whether there is a published table of runs."""
    return storage.exists(f"{RUNS}.parquet")


def _paths(storage: Storage, table: str = RUNS) -> list[str]:
    published = f"{table}.parquet"
    return [*([published] if storage.exists(published) else []), *storage.files(f"ledger/{table}", ".parquet")]


def _tables(storage: Storage, columns: Sequence[str], unreadable: list[str]) -> Iterator[pa.Table]:
    """These columns of each file of runs; a file that cannot be read is noted."""
    for path in _paths(storage):
        try:
            with storage.open(path) as source:
                table = pq.read_table(source, columns=columns, page_checksum_verification=True)
            yield table.select(columns)
        except FileNotFoundError:  # compacted meanwhile: its rows are in another file
            continue
        except (KeyError, *UNREADABLE):
            unreadable.append(path)
