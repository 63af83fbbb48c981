"""A data set as the Hugging Face Hub expects it: Parquet, and a card that names a configuration for each table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from analysis.exports.selection import Selection
from analysis.exports.tables import columns
from analysis.files import TABLES

# The Hub's words for the number of rows.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_LARGER = "10M<n<100M"
_WHAT = {
    "runs": "one row for each training, with its hyperparameters at the start and at the end and its losses",
    "trajectories": "one row for each recorded step of each training",
    "attempts": "one row for each execution of a training: where and when it ran, and how it ended",
}


def write(selection: Selection, folder: Path, place: Path) -> str:
    """``data/*.parquet`` and the card, ``README.md``; all rows are in the split ``train``, as the Hub has it."""
    (folder / "data").mkdir()
    rows: dict[str, int] = {}
    for table in TABLES:
        schema = selection.study.schema(table)
        if schema.names:
            rows[table] = 0
            with pq.ParquetWriter(folder / "data" / f"{table}.parquet", schema) as writer:
                for batch in selection.table(table):
                    writer.write_batch(batch)
                    rows[table] += batch.num_rows
    (folder / "README.md").write_text(_card(selection, rows, place), encoding="utf-8")
    return f"datasets.load_dataset({str(place)!r}, 'runs', split='train')"


def _card(selection: Selection, rows: dict[str, int], place: Path) -> str:
    """The card: a header that the library reads, then what a person reads."""
    size = next((word for limit, word in _SIZES if max(rows.values()) < limit), _LARGER)
    title = json.dumps(f"T1-T2 study {selection.study.name}")  # JSON is YAML, whatever the name holds
    header = [f"pretty_name: {title}", f'size_categories: ["{size}"]', "configs:"]
    for table in rows:
        header += [f"- config_name: {table}", "  data_files:", f"  - {{split: train, path: data/{table}.parquet}}"]
        header += ["  default: true"] if table == "runs" else []
    lines = ["---", *header, "---", "", f"# T1-T2 study `{selection.study.name}`", ""]
    lines += ["A study of online hyperparameter optimisation. T1-T2 tunes hyperparameters while a network trains.", ""]
    lines += ["| of this study | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in selection.about().items()]
    for table, count in rows.items():
        lines += ["", f"## `{table}`: {count:,} rows", "", f"There is {_WHAT[table]}.", ""]
        lines += ["| column | type | what it holds |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {_cell(text)} |" for name, kind, text in columns(selection, table)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
