"""The published tables: all rows of a study, sorted by plan order, written in bounded memory.

Each row has a position in the sorted table. Row groups of the inputs are located by the range of positions that they
hold; then the output is made window by window, each from the row groups that overlap it. Shards are written roughly in
plan order, so few overlap any window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from service.ledger.checksums import sha256_of
from service.ledger.schema import TABLES, conformed
from service.ledger.shards import PLACE, Ledger, TableFile

Positions = npt.NDArray[np.int64]
WINDOW_ROWS = 250_000


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a table is sorted: by ``position``, which follows from the columns ``keys``, then by the columns ``ties``.

    Rows at a negative position are left out: those of runs that are not committed. Of rows that are equal in position
    and ties one is kept.
    """

    position: Callable[[pa.Table], Positions]
    keys: Sequence[str]
    ties: Sequence[str] = ()


class RowGroup(NamedTuple):
    """A part of a Parquet file, and the lowest and highest position of its rows."""

    file: TableFile
    number: int
    first: int
    last: int
    rows: int


class Published(NamedTuple):
    """A published table: its number of rows, and the SHA-256 of its file."""

    rows: int
    sha256: str


def publish(ledger: Ledger, window_rows: int = WINDOW_ROWS) -> dict[str, Published]:
    """Write ``runs``, ``trajectories`` and ``attempts``.parquet; returns what they are, by their names.

    Afterwards every row is in both the shards and the tables; :func:`discard_shards` follows once the manifest says so.
    """

    def by_place(table: pa.Table) -> Positions:
        return ledger.plan.order(*(table[name].to_pylist() for name in PLACE))

    def by_run(table: pa.Table) -> Positions:
        positions: Positions = pc.fill_null(pc.index_in(table["run_id"], order), -1).to_numpy().astype(np.int64)
        return positions

    ledger.delete_late_shards(*TABLES)
    found = {"runs": write_sorted(ledger, "runs", Order(position=by_place, keys=PLACE), window_rows)}
    order = ledger.read(TableFile("runs"), ["run_id"])["run_id"].combine_chunks()
    for table, tie in (("trajectories", "step"), ("attempts", "attempt")):
        found[table] = write_sorted(ledger, table, Order(position=by_run, keys=["run_id"], ties=[tie]), window_rows)
    return found


def is_published(ledger: Ledger, rows: Mapping[str, Any] | None, checksums: Mapping[str, str]) -> bool:
    """Whether the published tables have these numbers of rows and checksums, and there are no shards besides.

    Tables from before there were checksums have none.
    """
    if not rows or ledger.shards("attempts"):
        return False
    for table in TABLES:
        file = TableFile(table)
        if not ledger.storage.exists(file.path) or ledger.rows(table) != rows[table]:
            return False
        if table in checksums:
            with ledger.storage.open(file.path) as source:
                if sha256_of(source) != checksums[table]:  # of this study, but of another day
                    return False
    return True


def discard_shards(ledger: Ledger) -> None:
    """Delete the shards, whose rows the published tables hold, and the checkpoints."""
    shards = [file.path for table in TABLES for file in ledger.all_shards(table)]
    for path in (*shards, *ledger.storage.files("checkpoints")):
        ledger.storage.delete(path)


def discard_tables(ledger: Ledger) -> None:
    """Delete what a publication has left that ended before the manifest named it: every row is still in the shards."""
    for table in TABLES:
        ledger.storage.delete(TableFile(table).path)


def write_sorted(ledger: Ledger, table: str, order: Order, window_rows: int) -> Published:
    """Write a table anew from all its files, about ``window_rows`` rows at a time."""
    groups = [group for file in ledger.inputs(table) for group in _row_groups(ledger, file, order)]
    end = max((group.last for group in groups), default=-1) + 1
    windows = max(1, -(-sum(group.rows for group in groups) // window_rows))
    width = max(1, -(-end // windows))
    written = 0
    with ledger.replacing(TableFile(table)) as writer:
        for start in range(0, end, width):
            overlapping = [group for group in groups if group.first < start + width and group.last >= start]
            if overlapping:
                window = _window(ledger, overlapping, order, range(start, start + width))
                if window.num_rows:  # an empty one would be a row group, too
                    writer.write(window)
                written += window.num_rows
    return Published(written, writer.sha256)


def _row_groups(ledger: Ledger, file: TableFile, order: Order) -> list[RowGroup]:
    """The row groups of a file that have rows to keep."""
    found = []
    with ledger.opened(file) as parquet:
        for number in range(parquet.num_row_groups):
            positions = order.position(parquet.read_row_group(number, columns=order.keys))
            kept = positions[positions >= 0]
            if len(kept):
                found.append(RowGroup(file, number, int(kept.min()), int(kept.max()), len(kept)))
    return found


def _window(ledger: Ledger, groups: Sequence[RowGroup], order: Order, positions: range) -> pa.Table:
    """The sorted rows at ``positions``, all of which are in ``groups``."""
    schema = ledger.schemas[groups[0].file.table]
    pieces = []
    for file in dict.fromkeys(group.file for group in groups):
        with ledger.opened(file, again=True) as parquet:  # _row_groups has checked the whole of it
            for number in (group.number for group in groups if group.file == file):
                piece = conformed(parquet.read_row_group(number), schema)
                at = order.position(piece)
                inside = (at >= positions.start) & (at < positions.stop)
                pieces.append(piece.append_column("position", pa.array(at)).filter(pa.array(inside)))
    window = pa.concat_tables(pieces)
    keys = ["position", *order.ties]
    window = window.take(pc.sort_indices(window, sort_keys=[(key, "ascending") for key in keys]))
    if window.num_rows > 1:
        values = [window[key].to_numpy() for key in keys]
        is_new = np.concatenate([[True], np.logical_or.reduce([v[1:] != v[:-1] for v in values])])
        window = window.filter(pa.array(is_new))
    return window.select(schema.names).cast(schema)
