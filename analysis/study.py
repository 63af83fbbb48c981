"""A study's tables from its Parquet files: on disk or in an object store, finished or still running."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from analysis import frames, queries
from analysis.checksums import UNREADABLE
from analysis.files import (
    SCHEMA_VERSION,
    TABLES,
    Files,
    StudyError,
    below,
    check_published,
    check_version,
    has_runs,
    list_files,
    open_location,
    read_info,
)

_REQUIRED = ("run_id", "config_index", "arm", "replicate", "model", "status")  # of runs
BASELINES = "baselines"  # the directory, in that of a study, of the searches that were run beside it
_ATTEMPTS_TO_LIST = 5  # the listing is made again where a running study replaces its shards by larger ones meanwhile


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """One study: its spec and its tables.

    ``runs``, ``trajectories`` and ``attempts`` are read when first asked for, and kept. ``trajectories`` is the whole
    table in memory: for a large study ask :meth:`sql` for what is needed, which streams.
    """

    location: str
    name: str
    spec: dict[str, Any]  # the resolved spec; empty where there is no study.json
    info: dict[str, Any]  # study.json: spec, study_hash, schema_version, provenance
    skipped: tuple[str, ...]  # damaged shards of a running study; resuming the study trains their runs again
    _columns: tuple[str, ...] | None = field(repr=False)
    _filter: pc.Expression | None = field(repr=False)
    _filesystem: pafs.FileSystem = field(repr=False)
    _root: str = field(repr=False)  # of the study, in the file system
    _files: Files = field(repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)  # tables whose published file was found sound

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
            tables.append(self._read(part, columns))
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

    @cached_property
    def baselines(self) -> Study | None:
        """The searches that `t1t2 baselines` has run beside the study, whole; None where no run of them has ended.

        They are a study of their own in the directory ``baselines``. The columns and filters of this one do not hold
        there. They are their own baselines, so that they can be reported without the study beside which they were run.
        Raises StudyError where their tables are damaged.
        """
        if BASELINES in self.info:
            return self
        root = f"{self._root}/{BASELINES}"
        if not has_runs(self._filesystem, root):
            return None
        return _open(self._filesystem, root, below(self.location, BASELINES), columns=None, filters=None)

    def has(self, table: str) -> bool:
        """Whether the study has anything of ``table``: runs, trajectories or attempts."""
        return any(self._files[table].values())

    def sql(self, query: str) -> pd.DataFrame:
        """Ask DuckDB about the views ``runs``, ``trajectories`` and ``attempts``.

        Only the columns and rows that the query needs are read, in streaming, within 1 GB; the filters given to
        :func:`load_study` hold in every view.
        """
        with tempfile.TemporaryDirectory() as spill, self._connected(spill) as connection:
            frame: pd.DataFrame = connection.sql(query).to_arrow_table().to_pandas()
            return frame

    def schema(self, table: str) -> pa.Schema:
        """The columns of ``runs``, ``trajectories`` or ``attempts``: names, types and, as metadata, descriptions.

        Empty where the study has no such table.
        """
        parts = self._parts(table)
        return next(iter(parts.values())).schema if parts else pa.schema([])

    def stream(self, table: str, run_ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of ``table`` that belong to ``run_ids``, run by run in the order of these, in batches.

        Within a run they are in the order of their steps or attempts. The rows are sorted on the disk, within 1 GB of
        memory: a table of any size can be read.
        """
        schema = self.schema(table)
        with tempfile.TemporaryDirectory() as spill, self._connected(spill) as connection:
            for batch in queries.stream(connection, table, run_ids, Path(spill) / "rows.parquet"):
                yield batch.cast(schema) if schema.names else batch

    @contextmanager
    def _connected(self, spill: str) -> Iterator[Any]:
        """A connection to DuckDB with the three views; ``spill`` is where it puts what exceeds its memory."""
        tables = {table: self._parts(table) for table in TABLES}
        run_ids = {}
        for table, parts in tables.items():
            if self._filter is not None or (table == "trajectories" and "shards" in parts):
                run_ids[table] = self._run_ids
        try:
            with queries.connected(tables, run_ids, spill) as connection:
                yield connection
        except Exception:
            self._name_damage()  # or the query is wrong
            raise

    def best(
        self, metric: str = "t2_loss", *, n: int = 1, arm: str | None = None, model: str | None = None
    ) -> pd.DataFrame:
        """The ``n`` completed runs with the lowest ``metric``, the best first: one row for each.

        Its columns are model, arm, config_index, replicate, each hyperparameter under its own name (its value at the
        end of the run, which is its value throughout where it is fixed), the losses and errors, and run_id. ``metric``
        is ``t2_loss`` or ``t2_error``. ``arm`` and ``model`` limit the choice; without them all runs compete.

        Luck makes the chosen run's T2 loss look too good, and not its test loss: so the test set chooses nothing here.
        No table is held in memory.

        Raises StudyError for a metric, an arm or a model that is not there, and where no run has completed.
        """
        from analysis.overview import best_runs

        return best_runs(self.sql, metric=metric, n=n, arm=arm, model=model, where=self.location)

    def __repr__(self) -> str:
        """``<Study 'mnist' at studies/mnist: 891 runs, published>``; what is wrong, where it cannot be read."""
        try:
            number = int(self.sql("SELECT count(*) AS runs FROM runs")["runs"][0])
            what = f"{number:,} run{'s' * (number != 1)}, {'' if self._is_published else 'not yet '}published"
        except Exception as error:  # a debugger shows objects, too: nothing may come out of here
            what = _first_line(error)
        return f"<Study {self.name!r} at {self.location}: {what}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a small table, and where runs start and end; a sentence if it cannot be read."""
        from analysis.notebook import as_html, as_sentence
        from analysis.overview import overview

        try:
            return as_html(self.name, self.location, self._is_published, overview(self.sql, self.spec))
        except Exception as error:  # a notebook would show a traceback in place of the study
            return as_sentence(self.name, _first_line(error))

    @property
    def _is_published(self) -> bool:
        """Whether all runs that are done stand in the published table."""
        return bool(self._files["runs"]["top"]) and not self._files["runs"]["shards"]

    @cached_property
    def _run_ids(self) -> pa.Table:
        """The ids of the committed runs that the filters keep: an Arrow table with the one column run_id."""
        tables = [self._read(part, ["run_id"]) for part in self._parts("runs").values()]
        return pa.concat_tables(tables).combine_chunks()

    def _read(self, part: ds.Dataset, columns: Sequence[str]) -> pa.Table:
        try:
            return part.to_table(columns=columns, filter=self._filter)
        except (OSError, UnicodeDecodeError) as error:
            self._name_damage()
            raise StudyError(f"{self.location}: {', '.join(part.files)} cannot be read ({error})") from error

    def _name_damage(self) -> None:
        """Raise StudyError for the first published table of which a page is damaged, if any is."""
        for files in self._files.values():
            for path in files["top"]:
                check_published(self._filesystem, path, self.location, self.info, whole=True)

    def _parts(self, table: str) -> queries.Parts:
        """The published file (``top``) and the shards (``shards``) of a table, each as a dataset where it exists."""
        files = self._files[table]
        if table not in self._checked:
            for path in files["top"]:  # the shards have been checked as they were listed
                check_published(self._filesystem, path, self.location, self.info)
            self._checked.add(table)
        pages_checked = ds.ParquetFileFormat(page_checksum_verification=True)
        try:
            return {
                name: ds.dataset(paths, format=pages_checked, filesystem=self._filesystem)
                for name, paths in files.items()
                if paths
            }
        except UNREADABLE as error:
            raise StudyError(f"{self.location}: {table} cannot be read ({error})") from error


def load_study(location: str | Path, columns: Sequence[str] | None = None, filters: Any | None = None) -> Study:
    """Open the study at ``location``: a directory or an object-store URI such as ``s3://bucket/studies/mnist``.

    ``columns`` of the runs table to read (all by default) and ``filters`` on its rows, a :class:`pyarrow.compute.\
Expression` or a list such as ``[("arm", "==", "online"), ("t2_loss", "<", 0.2)]``, are pushed down to the
    files; trajectories and attempts are then those of the chosen runs. A study that is still running gives the runs
    committed so far; a directory with nothing but the Parquet files gives everything but the spec.

    No value is taken from a file before it has been checked against the checksum that it carries: a published table
    when it is first asked for, shards at once. Files from before there were checksums are read as they are.

    Raises StudyError where there is no study, a published table is damaged, or a column does not exist.
    """
    return _open(*open_location(location), columns=columns, filters=filters)


def _open(
    filesystem: pafs.FileSystem, root: str, shown: str, *, columns: Sequence[str] | None, filters: Any | None
) -> Study:
    """The study in the directory ``root`` of a file system, which users know as ``shown``."""
    info = read_info(filesystem, root, shown)
    for _ in range(_ATTEMPTS_TO_LIST):
        try:
            files, skipped = list_files(filesystem, root, shown, info)
            break
        except FileNotFoundError:  # a shard went between the listing and the check: the study has just compacted
            continue
    else:
        raise StudyError(f"{shown}: its shards change faster than they can be listed; try again")
    if not any(files["runs"].values()):
        raise StudyError(f"{shown}: no study here: runs.parquet or ledger/runs/*.parquet is expected")
    for name in skipped:
        warnings.warn(
            f"{shown}: {name} is damaged and left out; resuming the study trains its runs again", stacklevel=3
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
        _root=root,
        _files=files,
    )
    known = next(iter(study._parts("runs").values()))
    check_version((known.schema.metadata or {}).get(b"schema_version", SCHEMA_VERSION), shown)
    _check_columns([*_REQUIRED, *(columns or ())], known.schema.names, shown)
    try:
        known.scanner(columns=["run_id"], filter=study._filter)
    except pa.ArrowInvalid as error:
        raise StudyError(f"{shown}: filters = {filters!r}: {error}") from error
    return study


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
