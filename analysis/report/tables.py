"""A table of the report: raw numbers for CSV, formatted cells for readers, and the reasons for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report.text import number_cell, p_cell, share_cell, word_cell

Row = dict[str, Any]
Cell = Callable[[Row], str]


@dataclass(frozen=True)
class Table:
    """A table of the report. ``rows`` hold the raw numbers, ``columns`` say how a reader sees them.

    ``gaps`` says, by study and model, what is missing from the table and why.
    """

    section: str
    name: str  # of its files
    title: str
    note: str  # the definition of what it shows
    rows: list[Row] = field(repr=False)
    columns: Sequence[tuple[str, Cell]] = field(repr=False)
    gaps: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """The formatted rows."""
        return [[cell(row) for _, cell in self.columns] for row in self.rows]

    def headers(self) -> list[str]:
        """The formatted columns' names."""
        return [header for header, _ in self.columns]

    def markdown(self) -> str:
        """The formatted table as GitHub's Markdown, with title, definition and gaps."""
        lines = ["| " + " | ".join(self.headers()) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in self.cells()]
        missing = [f"Not computed: {gap}." for gap in self.gaps]
        table = ["\n".join(lines)] if self.rows else []
        return "\n\n".join([f"## {self.title}", *table, *self.note.splitlines(), *missing]) + "\n"


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


class Collector:
    """Gathers the rows of one table over studies and models, and the reasons for those that are missing."""

    def __init__(self, several: bool) -> None:
        self.rows: list[Row] = []
        self.gaps: list[str] = []
        self._several = several

    def place(self, study: Row, model: str | None = None) -> Row:
        """The leading columns of a row."""
        return {"study": study["study"]["name"]} | ({} if model is None else {"model": model})

    def known(self, part: Any, study: Row, model: str | None = None) -> bool:
        """Whether ``part`` was computed; if not, its reason is kept."""
        if not isinstance(part, Mapping) or "not_computable" not in part:
            return part is not None
        where = [study["study"]["name"]] if self._several else []
        reason = f"{' · '.join([*where, *([model] if model else [])])}: {part['not_computable']}".removeprefix(": ")
        if reason not in self.gaps:
            self.gaps.append(reason)
        return False


def word(name: str) -> Cell:
    """A column shown as it is."""
    return lambda row: word_cell(row.get(name))


def number(name: str, digits: int = 3) -> Cell:
    """A number, with its interval where the row has one."""
    return lambda row: number_cell(row, name, digits)


def share(name: str) -> Cell:
    """A share in per cent, with its interval where the row has one."""
    return lambda row: share_cell(row, name)


def p_value(name: str) -> Cell:
    """A p-value."""
    return lambda row: p_cell(row.get(name))
