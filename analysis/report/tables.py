"""A table of the report: raw numbers for CSV, formatted cells for readers, and the reasons for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from analysis.report.view import StudyView
from analysis.statistics.frames import NotComputable
from analysis.statistics.records import to_plain
from analysis.statistics.summary import ModelSummary

R = TypeVar("R")
Columns = Sequence[tuple[str, Callable[[R], str]]]  # header, and the cell of a row as a reader sees it
Raw = dict[str, Any]  # column of the CSV file -> value


@dataclass(frozen=True, kw_only=True)
class Found(Generic[R]):
    """What one study, or one of its models, has for a table: some rows, or why it has none."""

    study: str
    model: str | None = None
    rows: Sequence[R] | NotComputable


def found_by_model(
    views: Sequence[StudyView], part: Callable[[ModelSummary], Sequence[R] | NotComputable]
) -> Iterator[Found[R]]:
    """One part of every model's statistics."""
    for view in views:
        for model, summary in view.summary.models.items():
            yield Found(study=view.study.name, model=model, rows=part(summary))


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
    found: Iterable[Found[R]],
    columns: Columns[R],
    raw: Callable[[R], Raw],
    *,
    name: str,
    title: str,
    note: str,
    several: bool,
) -> Table:
    """The table of the rows ``found``, with leading columns for the model and, of ``several`` studies, the study."""
    found = list(found)
    by_model = any(part.model is not None for part in found)
    cells, rows = [], []
    for part in found:
        place = [part.study] * several + [part.model or ""] * by_model
        for row in () if isinstance(part.rows, NotComputable) else part.rows:
            cells.append(place + [cell(row) for _, cell in columns])
            rows.append(to_plain({"study": part.study} | ({"model": part.model} if part.model else {}) | raw(row)))
    headers = ["study"] * several + ["model"] * by_model + [header for header, _ in columns]
    return Table(
        name=name, title=title, note=note, headers=headers, cells=cells, rows=rows, gaps=gaps(found, several=several)
    )


def gaps(found: Iterable[Found[R]], *, several: bool) -> list[str]:
    """The reasons for what is missing, each once, after the study (of ``several``) and the model that it concerns."""
    reasons: dict[str, None] = {}
    for part in found:
        if isinstance(part.rows, NotComputable):
            where = " · ".join([part.study] * several + ([part.model] if part.model else []))
            reasons[f"{where}: {part.rows.reason}" if where else part.rows.reason] = None
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
