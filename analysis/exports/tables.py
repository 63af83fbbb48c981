"""CSV files, with a dictionary of their columns."""

from __future__ import annotations

import csv
from pathlib import Path

from pyarrow import csv as arrow_csv

from analysis.exports.selection import Selection
from analysis.files import TABLES


def write(selection: Selection, folder: Path, place: Path) -> str:
    """``runs.csv``, ``trajectories.csv``, ``attempts.csv``, and ``columns.csv``, which says what their columns mean."""
    for table in TABLES:
        schema = selection.study.schema(table)
        if schema.names:
            with arrow_csv.CSVWriter(folder / f"{table}.csv", schema) as writer:
                for batch in selection.table(table):
                    writer.write_batch(batch)
    with (folder / "columns.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["table", "column", "type", "description"])
        lines.writerows((table, *column) for table in TABLES for column in columns(selection, table))
    return f"pandas.read_csv({str(place / 'runs.csv')!r})"


def columns(selection: Selection, table: str) -> list[tuple[str, str, str]]:
    """The columns of a table: name, type, and what it holds, as far as the study's files say so."""
    return [
        (field.name, str(field.type), (field.metadata or {}).get(b"description", b"").decode())
        for field in selection.study.schema(table)
    ]
