"""The published tables: all rows of a study, sorted by plan order, written in bounded memory.

Row groups of the inputs are located by the range of positions that they hold; then the output is made window by
window, each from the row groups that overlap it. Shards are written roughly in plan order, so few overlap any window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.ledger.shards import COMPRESSION, Ledger

Positions = npt.NDArray[np.int64]
WINDOW_ROWS = 250_000


def publish(ledger: Ledger, window_rows: int = WINDOW_ROWS) -> dict[str, int]:
    """Write ``runs``, ``trajectories`` and ``attempts``.parquet; returns their numbers of rows.

    Afterwards every row is in both the shards and the tables; :func:`discard_shards` follows once the manifest says so.
    """

    def by_place(table: pa.Table) -> Positions:
        columns = (table[name].to_pylist() for name in ("arm", "config_index", "replicate", "model"))
        return ledger.plan.order(*columns)

    keys = ["arm", "config_index", "replicate", "model"]
    counts = {"runs": write_sorted(ledger, "runs", by_place, keys, [], window_rows)}
    order = ledger.read("runs.parquet", ["run_id"])["run_id"].combine_chunks()

    def by_run(table: pa.Table) -> Positions:
        found: Positions = pc.fill_null(pc.index_in(table["run_id"], order), -1).to_numpy().astype(np.int64)
        return found

    for name, tie in (("trajectories", "step"), ("attempts", "attempt")):
        counts[name] = write_sorted(ledger, name, by_run, ["run_id"], [tie], window_rows)
    return counts


def discard_shards(ledger: Ledger) -> None:
    """Delete the shards, whose rows the published tables hold."""
    for table in ("runs", "trajectories", "attempts"):
        for path in ledger.shards(table):
            ledger.storage.delete(path)
    for path in ledger.storage.files("checkpoints"):
        ledger.storage.delete(path)


def write_sorted(
    ledger: Ledger,
    table: str,
    position: Callable[[pa.Table], Positions],
    keys: list[str],
    ties: list[str],
    window_rows: int,
) -> int:
    """Sort the rows of ``table`` by ``position``, computed from the columns ``keys``, then by ``ties``; once each.

    Rows at a negative position, those of runs that are not committed, are left out.
    """
    groups: list[tuple[str, int, int, int]] = []  # path, row group, lowest and highest position
    total = 0
    inputs = ledger.inputs(table)
    for path in inputs:
        with ledger.storage.filesystem.open_input_file(ledger.storage.path(path)) as source:
            parquet = pq.ParquetFile(source)
            for number in range(parquet.num_row_groups):
                positions = position(parquet.read_row_group(number, columns=keys))
                kept = positions[positions >= 0]
                if len(kept):
                    groups.append((path, number, int(kept.min()), int(kept.max())))
                    total += len(kept)
    end = max((last for *_, last in groups), default=-1) + 1
    width = max(1, -(-end // max(1, -(-total // window_rows))))
    written = 0
    schema = ledger.schemas[table]
    with (
        ledger.storage.replacing(f"{table}.parquet") as file,
        pq.ParquetWriter(file, schema, compression=COMPRESSION) as writer,
    ):
        for start in range(0, end, width):
            overlapping = [group for group in groups if group[2] < start + width and group[3] >= start]
            window = _window(ledger, overlapping, position, (start, start + width), ties, schema)
            if window.num_rows:
                writer.write_table(window)
            written += window.num_rows
    return written


def _window(
    ledger: Ledger,
    groups: Sequence[tuple[str, int, int, int]],
    position: Callable[[pa.Table], Positions],
    limits: tuple[int, int],
    ties: list[str],
    schema: pa.Schema,
) -> pa.Table:
    pieces = []
    for path in dict.fromkeys(group[0] for group in groups):
        with ledger.storage.filesystem.open_input_file(ledger.storage.path(path)) as source:
            parquet = pq.ParquetFile(source)
            for number in (group[1] for group in groups if group[0] == path):
                piece = parquet.read_row_group(number).select(schema.names).cast(schema)
                positions = position(piece)
                inside = (positions >= limits[0]) & (positions < limits[1])
                pieces.append(piece.append_column("position", pa.array(positions)).filter(pa.array(inside)))
    if not pieces:
        return schema.empty_table()
    window = pa.concat_tables(pieces)
    keys = ["position", *ties]
    window = window.take(pc.sort_indices(window, sort_keys=[(key, "ascending") for key in keys]))
    if window.num_rows > 1:
        values = [window[key].to_numpy() for key in keys]
        new = np.concatenate([[True], np.logical_or.reduce([v[1:] != v[:-1] for v in values])])
        window = window.filter(pa.array(new))
    return window.select(schema.names).cast(schema)
