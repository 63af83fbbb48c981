"""How many runs are committed, for who only looks: whatever can be read is counted, and nothing is moved or deleted."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from service.ledger.schema import TABLES
from service.storage.files import Storage

COLUMNS = ["run_id", "arm", "status"]
RUNS = TABLES[0]
Counts = dict[tuple[str, str], int]  # (arm, status) → runs


def committed_counts(storage: Storage) -> tuple[Counts, list[str]]:
    """The committed runs of the study in ``storage`` by arm and status, and the files that cannot be read.

    A run that stands both in a shard and in the published table counts once.
    """
    tables, unreadable = [], []
    published = f"{RUNS}.parquet"
    for path in [*([published] if storage.exists(published) else []), *storage.files(f"ledger/{RUNS}", ".parquet")]:
        try:
            with storage.open(path) as source:
                table = pq.read_table(source, columns=COLUMNS, page_checksum_verification=True)
            tables.append(table.select(COLUMNS).cast(pa.schema([(name, pa.string()) for name in COLUMNS])))
        except FileNotFoundError:  # compacted meanwhile: its rows are in another file
            continue
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            unreadable.append(path)
    if not tables:
        return {}, unreadable
    unique = pa.concat_tables(tables).group_by(COLUMNS).aggregate([])
    counted = unique.group_by(["arm", "status"]).aggregate([("run_id", "count")])
    rows = zip(*(counted[name].to_pylist() for name in ("arm", "status", "run_id_count")), strict=True)
    return {(arm, status): count for arm, status, count in rows}, unreadable
