"""DuckDB over a study's tables: views of them, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

Parts = dict[str, ds.Dataset]  # of a table: the published file (``top``), and the shards (``shards``)
_KEYS = {"runs": ("run_id",), "trajectories": ("run_id", "step"), "attempts": ("run_id", "attempt")}
_MEMORY_LIMIT = "1GB"  # of DuckDB, which spills to a temporary directory above it
_BATCH_ROWS = 20_000  # of a stream of rows


@contextmanager
def connected(tables: Mapping[str, Parts], run_ids: Mapping[str, pa.Table], spill: str) -> Iterator[Any]:
    """A connection to DuckDB with a view for each of ``tables``, which has no row where the table has no part.

    ``run_ids`` limits the views of the tables that it names to these runs, in its column run_id. ``spill`` is the
    directory for what exceeds DuckDB's memory.
    """
    import duckdb  # here: reading a runs table needs no database

    config: dict[str, Any] = {"memory_limit": _MEMORY_LIMIT, "temp_directory": spill, "threads": 2}
    with duckdb.connect(config=config) as connection:
        if _has_progress_bar(connection):  # it would go to standard output
            connection.execute("SET enable_progress_bar = false")
        for table, parts in tables.items():
            _make_view(connection, table, parts, run_ids.get(table))
        yield connection


def stream(connection: Any, table: str, run_ids: Sequence[str], file: Path) -> Iterator[pa.RecordBatch]:
    """The rows of ``table`` that belong to ``run_ids``, in the order of these, within a run by step or attempt.

    They are sorted into ``file``, on the disk, and read from there in batches.
    """
    asked = pa.table({"run_id": pa.array(run_ids, pa.string()), "place": pa.array(range(len(run_ids)), pa.int64())})
    connection.register("asked", asked)
    order = ", ".join(["asked.place", *(f"t.{name}" for name in _KEYS[table][1:])])
    rows = f"SELECT t.* FROM {table} t JOIN asked ON t.run_id = asked.run_id ORDER BY {order}"
    connection.execute(f"COPY ({rows}) TO '{file}' (FORMAT parquet)")
    with pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(batch_size=_BATCH_ROWS)


def _make_view(connection: Any, table: str, parts: Parts, run_ids: pa.Table | None) -> None:
    if not parts:
        columns = {"step": "BIGINT", "attempt": "INTEGER"}
        empty = ", ".join(f"NULL::{columns.get(name, 'VARCHAR')} AS {name}" for name in _KEYS[table])
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM (SELECT {empty}) WHERE false")
        return
    for name, part in parts.items():
        connection.register(f"{table}_{name}", part)
    source = f"{table}_top"
    if "shards" in parts:  # a row may stand in the published file and in a shard, with equal content
        union = " UNION ALL BY NAME ".join(f"SELECT * FROM {table}_{name}" for name in parts)
        source = f"(SELECT DISTINCT ON ({', '.join(_KEYS[table])}) * FROM ({union}))"
    where = ""
    if run_ids is not None:
        connection.register("chosen_runs", run_ids)
        where = " WHERE run_id IN (SELECT run_id FROM chosen_runs)"
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}{where}")


def _has_progress_bar(connection: Any) -> bool:
    """Whether it is on. In a notebook without ipywidgets it is off, and DuckDB refuses to have it switched off."""
    [(on,)] = connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()
    return bool(on)
