"""A study's tables from its Parquet files: on disk or in an object store, finished or still running."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from analysis import frames
from analysis.study_json import verified

SCHEMA_VERSION = 1  # the newest layout that this reader knows
TABLES = ("runs", "trajectories", "attempts")
_REQUIRED = ("run_id", "config_index", "arm", "replicate", "model", "status")  # of runs
_MEMORY_LIMIT = "1GB"  # of DuckDB, which spills to a temporary directory above it
_ATTEMPTS_TO_LIST = 5  # the listing is made again where a running study replaces its shards by larger ones meanwhile


Files = dict[str, dict[str, list[str]]]  # table -> {"top": the published file, "shards": those of a running study}


class StudyError(ValueError):
    """A study that cannot be read; the message names the place, what is wrong, and what is expected there."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study: its spec and its tables.

    ``runs``, ``trajectories`` and ``attempts`` are read when first asked for, and kept. ``trajectories`` is the whole
    table in memory: for a large study ask :meth:`sql` for what is needed, which streams.
    """

    location: str
    name: str
    spec: dict[str, Any]  # the resolved spec; empty where there is no study.json
    info: dict[str, Any]  # study.json: spec, study_hash, schema_version, provenance
    skipped: tuple[str, ...]  # unreadable shards of a running study; resuming the study trains their runs again
    _columns: tuple[str, ...] | None = field(repr=False)
    _filter: pc.Expression | None = field(repr=False)
    _filesystem: pafs.FileSystem = field(repr=False)
    _files: Files = field(repr=False)

    @property
    def study_hash(self) -> str | None:
        """The hash of what decides the study's results; None where there is no study.json."""
        value = self.info.get("study_hash")
        return None if value is None else str(value)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each committed run, in the order of the plan; unique by run_id."""
        parts = self._parts("runs")
        asked = None if self._columns is None else list(dict.fromkeys(("run_id", *self._columns)))
        tables = []
        for part in parts.values():
            columns = part.schema.names if asked is None else asked
            _check_columns(columns, part.schema.names, self.location)
            tables.append(part.to_table(columns=columns, filter=self._filter))
        frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        if "shards" in parts:
            frame = frame.drop_duplicates("run_id", ignore_index=True)
        keep = asked if self._columns is None or "run_id" in self._columns else list(self._columns)
        return frame if keep is None else frame[keep]

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """One row for each recorded step of each run in ``runs``: all of it in memory."""
        frame = self.sql("SELECT * FROM trajectories")
        place = pd.Series(range(len(self._run_ids)), index=self._run_ids["run_id"].to_pandas())
        place = place[~place.index.duplicated()]
        return (
            frame.assign(_place=frame["run_id"].map(place))
            .sort_values(["_place", "step"], ignore_index=True)
            .drop(columns="_place")
        )

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """One row for each execution of a run; empty where the study has no such table."""
        return self.sql("SELECT * FROM attempts")

    @cached_property
    def models(self) -> list[str]:
        """The models in the order in which the runs name them."""
        return list(dict.fromkeys(self.runs["model"]))

    @cached_property
    def boxes(self) -> frames.Boxes:
        """Hyperparameter -> (low, high), per-layer ones tied."""
        return frames.boxes(self.runs, self.spec)

    def has(self, table: str) -> bool:
        """Whether the study has anything of ``table``: runs, trajectories or attempts."""
        return any(self._files[table].values())

    def sql(self, query: str) -> pd.DataFrame:
        """Ask DuckDB about the views ``runs``, ``trajectories`` and ``attempts``.

        Only the columns and rows that the query needs are read, in streaming, within 1 GB; the filters given to
        :func:`load_study` hold in every view.
        """
        import duckdb  # here: reading a runs table needs no database

        with tempfile.TemporaryDirectory() as spill:
            config: dict[str, Any] = {"memory_limit": _MEMORY_LIMIT, "temp_directory": spill, "threads": 2}
            with duckdb.connect(config=config) as connection:
                connection.execute("SET enable_progress_bar = false")  # it would go to standard output
                for table in TABLES:
                    self._register(connection, table)
                frame: pd.DataFrame = connection.sql(query).to_arrow_table().to_pandas()
                return frame

    def _register(self, connection: Any, table: str) -> None:
        """Make the view ``table``: no row where the study has no such table."""
        parts = self._parts(table)
        if not parts:
            step = ", NULL::BIGINT AS step" if table == "trajectories" else ""
            connection.execute(
                f"CREATE VIEW {table} AS SELECT * FROM (SELECT NULL::VARCHAR AS run_id{step}) WHERE false"
            )
            return
        for name, part in parts.items():
            connection.register(f"{table}_{name}", part)
        source = f"{table}_top"
        key = {"runs": "run_id", "trajectories": "run_id, step", "attempts": "run_id, attempt"}[table]
        if "shards" in parts:  # a row may stand in the published file and in a shard, with equal content
            union = " UNION ALL BY NAME ".join(f"SELECT * FROM {table}_{name}" for name in parts)
            source = f"(SELECT DISTINCT ON ({key}) * FROM ({union}))"
        where = ""
        if self._filter is not None or (table == "trajectories" and "shards" in parts):
            connection.register("chosen_runs", self._run_ids)
            where = " WHERE run_id IN (SELECT run_id FROM chosen_runs)"
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}{where}")

    @cached_property
    def _run_ids(self) -> pa.Table:
        """The ids of the committed runs that the filters keep: an Arrow table with the one column run_id."""
        tables = [part.to_table(columns=["run_id"], filter=self._filter) for part in self._parts("runs").values()]
        return pa.concat_tables(tables).combine_chunks()

    def _parts(self, table: str) -> dict[str, ds.Dataset]:
        """The published file (``top``) and the shards (``shards``) of a table, each as a dataset where it exists."""
        return {
            name: ds.dataset(paths, format="parquet", filesystem=self._filesystem)
            for name, paths in self._files[table].items()
            if paths
        }


def load_study(location: str | Path, columns: Sequence[str] | None = None, filters: Any | None = None) -> Study:
    """Open the study at ``location``: a directory or an object-store URI such as ``s3://bucket/studies/mnist``.

    ``columns`` of the runs table to read (all by default) and ``filters`` on its rows, a :class:`pyarrow.compute.\
Expression` or a list such as ``[("arm", "==", "online"), ("t2_loss", "<", 0.2)]``, are pushed down to the
    files; trajectories and attempts are then those of the chosen runs. A study that is still running gives the runs
    committed so far; a directory with nothing but the Parquet files gives everything but the spec.

    Raises StudyError where there is no study, a published table is unreadable, or a column does not exist.
    """
    filesystem, root, shown = _open(location)
    info = _read_info(filesystem, root, shown)
    for _ in range(_ATTEMPTS_TO_LIST):
        try:
            files, skipped = _list_files(filesystem, root, shown)
            break
        except FileNotFoundError:  # a shard went between the listing and the check: the study has just compacted
            continue
    else:
        raise StudyError(f"{shown}: its shards change faster than they can be listed; try again")
    if not any(files["runs"].values()):
        raise StudyError(f"{shown}: no study here: runs.parquet or ledger/runs/*.parquet is expected")
    for name in skipped:
        warnings.warn(
            f"{shown}: {name} is unreadable and left out; resuming the study trains its runs again", stacklevel=2
        )
    spec = info.get("spec", {})
    columns = None if columns is None else tuple(columns)
    study = Study(
        location=shown,
        name=str(spec.get("name") or Path(root).name),
        spec=spec,
        info=info,
        skipped=tuple(skipped),
        _columns=columns,
        _filter=_expression(filters, shown),
        _filesystem=filesystem,
        _files=files,
    )
    known = next(iter(study._parts("runs").values()))
    _check_version((known.schema.metadata or {}).get(b"schema_version", SCHEMA_VERSION), shown)
    _check_columns([*_REQUIRED, *(columns or ())], known.schema.names, shown)
    try:
        known.scanner(columns=["run_id"], filter=study._filter)
    except pa.ArrowInvalid as error:
        raise StudyError(f"{shown}: filters = {filters!r}: {error}") from error
    return study


def _open(location: str | Path) -> tuple[pafs.FileSystem, str, str]:
    text = str(location)
    try:
        if "://" in text:
            filesystem, root = pafs.FileSystem.from_uri(text)
        else:
            filesystem, root = pafs.LocalFileSystem(), str(Path(text).expanduser().resolve())
        kind = filesystem.get_file_info(root).type
    except (pa.ArrowInvalid, OSError) as error:
        raise StudyError(f"{text}: not a directory or object-store URI that can be opened: {error}") from error
    if kind == pafs.FileType.File:
        raise StudyError(f"{text}: a file; the study's directory is expected")
    if kind == pafs.FileType.NotFound:
        raise StudyError(f"{text}: there is nothing here; a study's directory is expected")
    return filesystem, root.rstrip("/"), text


def _read_info(filesystem: pafs.FileSystem, root: str, shown: str) -> dict[str, Any]:
    path = f"{root}/study.json"
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return {}
    with filesystem.open_input_stream(path) as stream:
        content = stream.read()
    try:
        info = verified(content)
    except ValueError as error:
        raise StudyError(f"{shown}/study.json: is damaged ({error})") from error
    if not isinstance(info.get("spec", {}), dict):
        raise StudyError(f'{shown}/study.json: an object with the spec under "spec" is expected')
    _check_version(info.get("schema_version", SCHEMA_VERSION), shown)
    return info


def _check_version(version: Any, shown: str) -> None:
    try:
        known = int(version) <= SCHEMA_VERSION
    except (TypeError, ValueError):
        known = False
    if not known:
        raise StudyError(f"{shown}: schema_version = {version!r}: this version reads up to {SCHEMA_VERSION}")


def _list_files(filesystem: pafs.FileSystem, root: str, shown: str) -> tuple[Files, list[str]]:
    """The files of each table, and the names of unreadable shards; the footer of every file has been read."""
    files: Files = {}
    skipped = []
    for table in TABLES:
        path = f"{root}/{table}.parquet"
        top = [path] if filesystem.get_file_info(path).type == pafs.FileType.File else []
        for found in top:
            reason = _unreadable(filesystem, found)
            if reason:
                raise StudyError(f"{shown}/{table}.parquet: not a readable Parquet file ({reason})")
        selector = pafs.FileSelector(f"{root}/ledger/{table}", allow_not_found=True)
        shards = []
        for found in sorted(i.path for i in filesystem.get_file_info(selector) if i.path.endswith(".parquet")):
            if _unreadable(filesystem, found):
                skipped.append(found.removeprefix(f"{root}/"))
            else:
                shards.append(found)
        files[table] = {"top": top, "shards": shards}
    return files, skipped


def _unreadable(filesystem: pafs.FileSystem, path: str) -> str | None:
    try:
        with filesystem.open_input_file(path) as source:
            pq.read_metadata(source)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _expression(filters: Any, shown: str) -> pc.Expression | None:
    if filters is None or isinstance(filters, pc.Expression):
        return filters
    try:
        return pq.filters_to_expression(filters)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise StudyError(
            f"{shown}: filters = {filters!r}: a list of (column, operator, value) is expected, for "
            'example [("arm", "==", "online")]'
        ) from error


def _check_columns(asked: Sequence[str], known: Sequence[str], shown: str) -> None:
    unknown = [c for c in asked if c not in known]
    if unknown:
        raise StudyError(f"{shown}: no column {', '.join(unknown)} in runs; there are: {', '.join(known)}")
