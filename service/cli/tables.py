"""Tables on a terminal: no number is cut, however narrow it is, and no text is taken for markup."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from service.cli.console import plain

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2  # between two columns
ROW = "row"


def print_table(
    screen: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[int] = (),
    keys: int = 0,
    styles: Mapping[tuple[int, int], str] | None = None,
) -> None:
    """Print a table; on a terminal that is too narrow for it in several parts, one below the other.

    ``numbers`` are the columns that are aligned to the right and never broken. Each part begins with the first ``keys``
    columns, or with the number of the row where there are none. ``styles`` are those of cells, by row and column. Where
    the output is no terminal, the table is whole.
    """
    columns = [[plain(cell) for cell in column] for column in zip(headings, *rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    parts = [range(keys, len(columns))]
    if screen.is_terminal and sum(widths) + GAP * (len(widths) - 1) > screen.width:
        if not keys:
            columns.insert(0, [ROW, *(str(number) for number in range(len(rows)))])
            widths.insert(0, max(map(cell_len, columns[0])))
            numbers, keys = {0, *(number + 1 for number in numbers)}, 1
        parts = list(_parts(widths, keys, screen.width))
    for number, part in enumerate(parts):
        if number:
            screen.print()
        shown = [*range(keys), *part]
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for column in shown:
            is_number = column in numbers
            table.add_column(
                Text(columns[column][0]),
                justify="right" if is_number else "left",
                no_wrap=is_number,
                overflow="fold",
                min_width=widths[column] if is_number else None,
            )
        for row in range(len(rows)):
            looks = [(styles or {}).get((row, column), "") for column in shown]
            cells = [columns[column][row + 1] for column in shown]
            table.add_row(*(Text(cell, style=look) for cell, look in zip(cells, looks, strict=True)))
        if not screen.is_terminal:  # rich cuts what is wider than the console, whatever width it is told to print
            screen.width = max(screen.width, sum(widths[column] + GAP for column in shown))
        screen.print(table)


def _parts(widths: Sequence[int], keys: int, room: int) -> Iterator[range]:
    """Runs of columns that fit beside the keys; at least one in each."""
    left = room - sum(width + GAP for width in widths[:keys])
    start, used = keys, 0
    for column in range(keys, len(widths)):
        needed = widths[column] + (GAP if used else 0)
        if used and used + needed > left:
            yield range(start, column)
            start, used, needed = column, 0, widths[column]
        used += needed
    if start < len(widths):
        yield range(start, len(widths))
