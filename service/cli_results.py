"""The commands that read a study's tables: ``results`` and ``report``, and the summary that ends ``run``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from service.cli_console import JsonOption, StudyArgument, console, print_json, study_at
from service.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Study

TABLE_LIMIT = 40  # rows shown on a terminal where no limit is given
HIDDEN = ("run_id", "dataset", "seed", "attempt", "error")  # columns not shown in the table unless named


class Written(TypedDict):
    """Paths or URIs of a report's parts."""

    report: str
    summary: str
    figures: list[str]


class TableName(StrEnum):
    """The published tables."""

    runs = "runs"
    trajectories = "trajectories"
    attempts = "attempts"


def results(
    study: StudyArgument,
    table: Annotated[TableName, typer.Option(help="Which of the tables.")] = TableName.runs,
    columns: Annotated[str | None, typer.Option(help="Columns to show, separated by commas.")] = None,
    query: Annotated[str | None, typer.Option(
        help='Rows to show, as a pandas query: "t2_loss < 0.2 and model == \'mlp-64\'".')] = None,
    arm: Annotated[str | None, typer.Option(help="Only this arm (or arms, separated by commas).")] = None,
    sort: Annotated[str | None, typer.Option(
        help="Columns to sort by, separated by commas; '-' before one for descending.")] = None,
    limit: Annotated[int | None, typer.Option(
        min=0, help="At most so many rows; 0 for all. By default all in JSON and CSV, else 40.")] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """The study's runs as a table, JSON or CSV, while it runs and afterwards; says where the Parquet is."""
    if as_json and as_csv:
        raise StudyError("--json and --csv: choose one")
    opened = open_study(study)
    frame = select(getattr(opened, table.value), columns=columns, query=query, arm=arm, sort=sort)
    parquet = f"{opened.location.rstrip('/')}/{table.value}.parquet"
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


def report(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="One study, or several to compare.")],
    out: Annotated[Path | None, typer.Option(
        metavar="DIR", help="Directory for report.html and figures/; by default the study's own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Statistics, pictures and a self-contained report.html from the Parquet of one study or several."""
    written = write(studies, out)
    if as_json:
        print_json(written)
    else:
        print_written(written)


def open_study(study: str, columns: Sequence[str] | None = None) -> Study:
    """The study's tables.

    Raises:
        StudyError: there is no study, no run of it has finished yet, or its tables cannot be read.
    """
    import analysis
    from service import read_status

    uri = study_at(study)
    found = read_status(uri)
    if found.total_done == 0:
        raise StudyError(f"{uri}: no run has finished yet (state {found.state}, {found.total_planned:,} planned)")
    try:
        return analysis.load_study(uri, columns=columns)
    except analysis.StudyError as error:
        raise StudyError(str(error)) from None


def select(frame: pd.DataFrame, *, columns: str | None = None, query: str | None = None, arm: str | None = None,
           sort: str | None = None) -> pd.DataFrame:
    """The rows and columns asked for, as the options of ``t1t2 results`` say.

    Raises:
        StudyError: an option names a column or an arm that is not there, or the query is none.
    """
    if arm is not None:
        known = sorted(frame["arm"].unique()) if "arm" in frame else []
        asked = _words(arm)
        if unknown := [name for name in asked if name not in known]:
            allowed = ", ".join(known) or "none: this table has no column arm"
            raise StudyError(f"--arm {', '.join(unknown)}: must be among {allowed}")
        frame = frame[frame["arm"].isin(asked)]
    if query is not None:
        frame = _query(frame, query)
    if sort is not None:
        asked = _words(sort)
        names = [name.removeprefix("-") for name in asked]
        _check_columns("--sort", names, frame)
        # Stable, so that ties stay in the order of the plan.
        frame = frame.sort_values(names, ascending=[not name.startswith("-") for name in asked], kind="stable")
    if columns is not None:
        asked = _words(columns)
        _check_columns("--columns", asked, frame)
        frame = frame[asked]
    return frame


def _query(frame: pd.DataFrame, query: str) -> pd.DataFrame:
    import pandas as pd

    hint = f"must be a pandas query such as \"t2_loss < 0.2 and arm == 'online'\" over {', '.join(frame.columns)}"
    if "@" in query:  # would read this program's own variables
        raise StudyError(f"--query {query!r}: must not use '@'")
    try:
        kept = frame.query(query)
    except Exception as error:  # pandas names no closed list: NameError, SyntaxError, TypeError, ValueError, …
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"--query {query!r}: {reason}; {hint}") from None
    if not isinstance(kept, pd.DataFrame):
        raise StudyError(f"--query {query!r}: {hint}")
    return kept


def _check_columns(option: str, asked: list[str], frame: pd.DataFrame) -> None:
    if unknown := [name for name in asked if name not in frame.columns]:
        raise StudyError(f"{option} {', '.join(unknown)}: must be among {', '.join(frame.columns)}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _print_table(frame: pd.DataFrame) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, dtype in frame.dtypes.items():
        table.add_column(str(name), justify="right" if dtype.kind in "iuf" else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    screen = console()
    # Rather too wide than cut: a cut number is a wrong number.
    screen.print(table, width=max(screen.width, screen.measure(table).maximum), soft_wrap=True)


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN, NaT
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def write(studies: Sequence[str], out: Path | None) -> Written:
    """Write the report of one study or several, into an object store by way of a temporary directory.

    Raises:
        StudyError: a study cannot be read, or the place cannot be written.
    """
    import analysis

    opened = [open_study(study) for study in studies]
    location = opened[0].location
    to_store = out is None and len(opened) == 1 and "://" in location
    with tempfile.TemporaryDirectory() as temporary:
        place = out or (Path(temporary) if to_store else Path(location) if len(opened) == 1 else Path("report"))
        try:
            paths = analysis.write_report(opened, place)
            if to_store:
                _copy_to_store(place, location)
        except analysis.StudyError as error:
            raise StudyError(str(error)) from None
        except OSError as error:
            where = location if to_store else f"--out {str(place)!r}"
            raise StudyError(f"{where}: must be a directory that can be written ({error.strerror or error})") from None

        def shown(path: Path) -> str:
            base = location.partition("?")[0].rstrip("/")
            return f"{base}/{path.relative_to(place).as_posix()}" if to_store else str(path)

        return {"report": shown(paths.html), "summary": shown(paths.summary), "figures": list(map(shown, paths.figures))}


def _copy_to_store(place: Path, location: str) -> None:
    from pyarrow import fs

    filesystem, root = fs.FileSystem.from_uri(location)
    fs.copy_files(str(place), root, destination_filesystem=filesystem)


def print_written(written: Written) -> None:
    """Where the report and the pictures are."""
    print(f"report:  {written['report']}\nsummary: {written['summary']}")
    figures = written["figures"]
    if figures:
        print(f"figures: {figures[0]}" + "".join(f"\n         {figure}" for figure in figures[1:]))
