"""The commands that read a study's tables: ``results`` and ``report``, and the summary that ends ``run``."""

from __future__ import annotations

import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import JsonOption, StudyArgument, console, example, print_json, study_at
from service.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from service.client.results import Report

TABLE_LIMIT = 40  # rows shown on a terminal where no limit is given
HIDDEN = ("run_id", "dataset", "seed", "attempt", "error")  # columns not shown in the table unless named

commands = typer.Typer()


class TableName(StrEnum):
    """The published tables."""

    runs = "runs"
    trajectories = "trajectories"
    attempts = "attempts"


@commands.command(epilog=example('t1t2 results quickstart --columns model,arm,t2_loss --query "t2_loss < 0.2"'))
def results(
    study: StudyArgument,
    table: Annotated[TableName, typer.Option(help="Which of the tables.")] = TableName.runs,
    columns: Annotated[str | None, typer.Option(help="Columns to show, separated by commas.")] = None,
    query: Annotated[
        str | None, typer.Option(help="Rows to show, as a pandas query: \"t2_loss < 0.2 and model == 'mlp-64'\".")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Only this arm (or arms, separated by commas).")] = None,
    sort: Annotated[
        str | None, typer.Option(help="Columns to sort by, separated by commas; '-' before one for descending.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="At most so many rows; 0 for all. By default all in JSON and CSV, else 40."),
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show a study's runs as a table, JSON or CSV.

    While the study runs and afterwards. Says where the Parquet is.
    """
    if as_json and as_csv:
        raise StudyError("--json and --csv: choose one")
    from service.client.results import frame_of, open_study, parquet_place, select

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unreadable shards, told below
        opened = open_study(study_at(study))
    for shard in opened.skipped:
        print(
            f"warning: {opened.location}/{shard} cannot be read and is left out; resuming trains its runs again",
            file=sys.stderr,
        )
    frame = select(frame_of(opened, table.value), columns=columns, query=query, arm=arm, sort=sort)
    parquet = parquet_place(opened, table.value)
    total = len(frame)
    if limit is None:
        limit = 0 if as_json or as_csv else TABLE_LIMIT
    frame = frame.head(limit) if limit else frame
    if as_json:
        print_json({"study": opened.name, "parquet": parquet, "total_rows": total, "rows": frame.to_dict("records")})
    elif as_csv:
        frame.to_csv(sys.stdout, index=False)
        print(f"parquet: {parquet}", file=sys.stderr)
    else:
        shown = frame if columns else frame.drop(columns=[name for name in HIDDEN if name in frame])
        _print_table(shown)
        rest = f" ({total - len(frame):,} more: --limit 0 shows all)" if total > len(frame) else ""
        print(f"{len(frame):,} of {total:,} rows{rest}\nparquet: {parquet}")


@commands.command(epilog=example("t1t2 report studies/quickstart --out report"))
def report(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="One study, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for report.html and figures/; by default the study's own."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="STUDY", help="A study whose runs are laid over the region, such as an imported search."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write statistics, pictures and report.html.

    From the Parquet of one study, or of several to compare.
    """
    from service.client.results import write

    written = write([study_at(study) for study in studies], out, [study_at(study) for study in beside or ()])
    if as_json:
        print_json(report_places(written))
    else:
        print_report(written)


def _print_table(frame: pd.DataFrame) -> None:
    from service.cli.tables import print_table

    numbers = [place for place, dtype in enumerate(frame.dtypes) if dtype.kind in "iuf"]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    print_table(console(), list(map(str, frame.columns)), rows, numbers=numbers)


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN, NaT
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def print_summary(written: Report) -> None:
    """The first study's main figures, a column for each model."""
    from service.cli.tables import print_table

    screen = console()
    screen.print()
    headings = ["95 % intervals in brackets", *written.statistics[0].models]
    print_table(screen, headings, [list(line) for line in written.main_figures()], keys=1)
    screen.print()


def report_places(written: Report) -> dict[str, Any]:
    """Where the parts of a report are, for ``--json``."""
    return {"report": written.html, "summary": written.summary, "figures": list(written.figures)}


def print_report(written: Report) -> None:
    """Where the report and the pictures are."""
    print(f"report:  {written.html}\nsummary: {written.summary}")
    pictures = [figure for figure in written.figures if figure.endswith(".png")]  # the same as .svg beside them
    print("figures:" + "\n        ".join(f" {picture}" for picture in pictures))
