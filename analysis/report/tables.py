"""A table of the report: raw numbers for CSV, formatted cells for readers, and the reasons for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from analysis.frames import NotComputable
from analysis.report.view import StudyView
from analysis.statistics.intervals import Estimate
from analysis.statistics.records import bounded, to_plain
from analysis.statistics.summary import ModelSummary

R = TypeVar("R")
Columns = Sequence[tuple[str, Callable[[R], str]]]  # header, and the cell of a row as a reader sees it
Raw = dict[str, Any]  # column of the CSV file -> value


@dataclass(frozen=True, kw_only=True)
class Found(Generic[R]):
    """A row of a table, or the reason why it is missing, with the study and the model that it belongs to."""

    study: str
    model: str | None = None
    row: R | NotComputable


def found_by_model(
    views: Sequence[StudyView], rows: Callable[[ModelSummary], Iterable[R | NotComputable]]
) -> list[Found[R]]:
    """The rows that every model of every study has for a table, or the reasons for those that are missing."""
    return [
        Found(study=view.study.name, model=model, row=row)
        for view in views
        for model, parts in view.summary.models.items()
        for row in rows(parts)
    ]


def each(rows: Sequence[R] | NotComputable) -> Sequence[R | NotComputable]:
    """The rows, or the one reason why there are none."""
    return [rows] if isinstance(rows, NotComputable) else rows


def raw_columns(record: Any, **more: Any) -> Raw:
    """A record's columns in a CSV file: its plain fields, ``more``, then each of its estimates with its bounds."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    columns = {name: value for name, value in values.items() if not isinstance(value, Estimate | tuple)} | more
    for name, value in values.items():
        if isinstance(value, Estimate):
            columns |= bounded(name, value)
    return columns


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report. ``gaps`` says, by study and model, what is missing from it and why."""

    name: str  # of its files
    title: str
    note: str  # the definition of what it shows
    headers: list[str]
    cells: list[list[str]] = field(repr=False)  # as a reader sees them
    rows: list[Raw] = field(repr=False)  # raw numbers
    gaps: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The formatted table as GitHub's Markdown, with title, definition and gaps."""
        lines = ["| " + " | ".join(self.headers) + " |", "|" + " --- |" * len(self.headers)]
        lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in self.cells]
        missing = [f"Not computed: {gap}." for gap in self.gaps]
        table = ["\n".join(lines)] if self.rows else []
        return "\n\n".join([f"## {self.title}", *table, *self.note.splitlines(), *missing]) + "\n"


def make_table(
    found: Sequence[Found[R]],
    columns: Columns[R],
    raw: Callable[[R], Raw],
    *,
    name: str,
    title: str,
    note: str,
    several: bool,
) -> Table:
    """The table of the rows ``found``, with leading columns for the model and, of ``several`` studies, the study."""
    by_model = any(part.model is not None for part in found)
    cells, rows = [], []
    for part in found:
        if not isinstance(part.row, NotComputable):
            place = [part.study] * several + [part.model or ""] * by_model
            cells.append(place + [cell(part.row) for _, cell in columns])
            where = {"study": part.study} | ({"model": part.model} if part.model else {})
            rows.append(to_plain(where | raw(part.row)))
    headers = ["study"] * several + ["model"] * by_model + [header for header, _ in columns]
    return Table(
        name=name, title=title, note=note, headers=headers, cells=cells, rows=rows, gaps=gaps(found, several=several)
    )


def gaps(found: Iterable[Found[R]], *, several: bool) -> list[str]:
    """The reasons for what is missing, each once, after the study (of ``several``) and the model that it concerns."""
    reasons: dict[str, None] = {}
    for part in found:
        if isinstance(part.row, NotComputable):
            where = " · ".join([part.study] * several + ([part.model] if part.model else []))
            reasons[f"{where}: {part.row.reason}" if where else part.row.reason] = None
    return list(reasons)


def write_tables(tables: Sequence[Table], folder: Path) -> tuple[Path, ...]:
    """Write each table that has rows as ``{name}.csv`` (raw numbers), and every one as ``{name}.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        if table.rows:
            written.append(folder / f"{table.name}.csv")
            pd.DataFrame(table.rows).to_csv(written[-1], index=False, lineterminator="\n")
        written.append(folder / f"{table.name}.md")
        written[-1].write_text(table.markdown(), encoding="utf-8")
    return tuple(written)
