"""A study's results: the one place where the service asks the analysis.

Used by ``t1t2 results``, ``t1t2 report``, ``t1t2 export`` and :class:`service.StudyClient`. The analysis is imported
in the functions, so that a driver or a status never loads it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Exported, Study, Summary


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that has been written: where its parts are (paths or URIs), and the statistics of each study in it."""

    html: str
    summary: str
    figures: tuple[str, ...]
    statistics: tuple[Summary, ...]

    def main_figures(self) -> list[tuple[str, ...]]:
        """The first study's main figures as lines of text: a label, then a text for each model."""
        from analysis import main_figures

        return main_figures(self.statistics[0])


def open_study(uri: str, columns: Sequence[str] | None = None) -> Study:
    """The study's tables.

    Raises:
        StudyError: there is no study, no run of it has finished yet, or its tables cannot be read.
    """
    import analysis
    from service.records.progress import read_status

    found = read_status(uri)
    if found.total_done == 0:
        raise StudyError(f"{uri}: no run has finished yet (state {found.state}, {found.total_planned:,} planned)")
    try:
        return analysis.load_study(uri, columns=columns)
    except analysis.StudyError as error:
        raise StudyError(str(error)) from None


def frame_of(study: Study, table: str) -> pd.DataFrame:
    """``runs``, ``trajectories`` or ``attempts`` of a study.

    Raises:
        StudyError: the table is damaged. That shows when its values are read, not before.
    """
    import analysis

    try:
        frame: pd.DataFrame = getattr(study, table)
    except analysis.StudyError as error:
        raise StudyError(str(error)) from None
    return frame


def parquet_place(study: Study, table: str) -> str:
    """Where the Parquet of a table is: the published file, or the shards of a study that has published nothing yet."""
    base = study.location.partition("?")[0].rstrip("/")
    return f"{base}/{table}.parquet" if study.info.get("tables") else f"{base}/ledger/{table}/*.parquet"


def select(
    frame: pd.DataFrame,
    *,
    columns: str | None = None,
    query: str | None = None,
    arm: str | None = None,
    model: str | None = None,
    sort: str | None = None,
) -> pd.DataFrame:
    """The rows and columns asked for, as the options of ``t1t2 results`` and ``t1t2 export`` say.

    Raises:
        StudyError: an option names a column, an arm or a model that is not there, or the query is not valid.
    """
    for column, wanted in (("arm", arm), ("model", model)):
        if wanted is not None:
            frame = _named(frame, column, wanted)
    if query is not None:
        frame = _query(frame, query)
    if sort is not None:
        keys = _words(sort)
        names = [name.removeprefix("-") for name in keys]
        _check_columns("--sort", names, frame)
        # Stable, so that ties stay in the order of the plan.
        frame = frame.sort_values(names, ascending=[not name.startswith("-") for name in keys], kind="stable")
    if columns is not None:
        asked = _words(columns)
        _check_columns("--columns", asked, frame)
        frame = frame[asked]
    return frame


def _named(frame: pd.DataFrame, column: str, names: str) -> pd.DataFrame:
    known = list(frame[column].unique()) if column in frame else []
    asked = _words(names)
    if unknown := [name for name in asked if name not in known]:
        allowed = ", ".join(sorted(known)) or f"none: this table has no column {column}"
        raise StudyError(f"--{column} {', '.join(unknown)}: must be among {allowed}")
    return frame[frame[column].isin(asked)]


def _query(frame: pd.DataFrame, query: str) -> pd.DataFrame:
    import pandas as pd

    hint = f"must be a pandas query such as \"t2_loss < 0.2 and arm == 'online'\" over {', '.join(frame.columns)}"
    if "@" in query:  # pandas would read variables of this program
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


def write(uris: Sequence[str], out: Path | None, beside: Sequence[str] = ()) -> Report:
    """Write the report of one study or several, into an object store by way of a temporary directory.

    The runs of the studies ``beside`` are laid over the region of each of them.

    Raises:
        StudyError: a study cannot be read, or the place cannot be written.
    """
    import analysis

    opened, others = ([open_study(uri) for uri in each] for each in (uris, beside))
    location = opened[0].location
    to_store = out is None and len(opened) == 1 and "://" in location
    with tempfile.TemporaryDirectory() as temporary:
        place = out or (Path(temporary) if to_store else Path(location) if len(opened) == 1 else Path("report"))
        try:
            paths = analysis.write_report(opened, place, beside=others)
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

        return Report(
            html=shown(paths.html),
            summary=shown(paths.summary),
            figures=tuple(map(shown, paths.figures)),
            statistics=paths.statistics,
        )


def export(uri: str, to: str, out: str, *, arm: str | None, model: str | None, query: str | None) -> Exported:
    """Write the runs asked for in the format of another tool, as the directory ``out``.

    Raises:
        StudyError: the study cannot be read, an option is not valid, a package is missing, or ``out`` cannot be made.
    """
    import analysis

    study = open_study(uri)
    chosen = select(frame_of(study, "runs"), arm=arm, model=model, query=query)
    try:
        return analysis.export_study(study, to, out, chosen)
    except analysis.StudyError as error:
        raise StudyError(str(error)) from None


def _copy_to_store(place: Path, location: str) -> None:
    from pyarrow import fs

    filesystem, root = fs.FileSystem.from_uri(location)
    fs.copy_files(str(place), root, destination_filesystem=filesystem)
