"""A search of another program becomes a study: its tables, and a ``study.json`` that says where it comes from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.errors import StudyError
from service.imports.names import Fixed, Like, Names, read_like, resolve
from service.imports.optuna_storage import is_storage, read_storage
from service.imports.ray_tune import ITERATION, read_experiment
from service.imports.rows import ARM, Tables, make_rows, without_value
from service.imports.trials import Source
from service.ledger.checksums import ChecksummedWriter
from service.ledger.publish import Published
from service.ledger.schema import TABLES, described, schemas
from service.ledger.shards import COMPRESSION, FILE_KEY, STUDY_KEY, TableFile
from service.records.manifest import IMPORTED, MANIFEST, Manifest
from service.records.progress import PROGRESS, write_completed
from service.spec.study_spec import check_name, digest
from service.storage.files import Storage, open_storage

UNKNOWN = "unknown"  # the data set, where nobody says
STATUSES = "completed, diverged (a loss was not finite), stopped (by a scheduler) or failed (see error)"
DESCRIPTIONS = {  # of columns that mean something else here than in a study of a spec
    "config_index": "number of the trial, by its start",
    "arm": f"{ARM}: a trial of another program's search",
    "replicate": "0",
    "seed": "null: not known",
    "status": STATUSES,
    "outcome": STATUSES,
    "steps": "the step of the last report, as the other program counts them",
    "step": "the step of the report, as the other program counts them",
    "train_time_s": "seconds of the trial, as the other program measures them",
    "started_at": "start of the trial; null where it is not known",
    "finished_at": "end of the trial, or of its last report",
}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What has been imported: where it is, how its trials ended, and what is not there."""

    study: str
    source: str
    kind: str
    name: str
    statuses: dict[str, int]  # how the trials ended → how many
    left_out: dict[str, int]  # why → how many trials, or lines of their records
    without_value: dict[str, int]  # parameter → how many trials have no number for its hyperparameter
    not_taken: list[str]  # parameters that have no column


def import_study(
    source: str | Path,
    out: str | Path,
    *,
    maps: Iterable[str] = (),
    metrics: Iterable[str] = (),
    settings: Iterable[str] = (),
    like: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    name: str | None = None,
    study_name: str | None = None,
    step: str | None = None,
) -> Imported:
    """Write the search at ``source`` as a study into the new directory, or at the URI, ``out``.

    ``source`` is the directory of a Ray Tune experiment, the URL of a database of Optuna, or a file of either SQLite or
    Optuna's journal; ``study_name`` is the study in it. ``maps``, ``metrics`` and ``settings`` are texts as the options
    ``--map``, ``--metric`` and ``--set`` of ``t1t2 import`` take them. ``like`` is a study that gives the names, boxes,
    model and data set. The same source and options give the same bytes.

    Raises:
        StudyError: the source cannot be read, an option does not fit it, or ``out`` is not empty. Nothing is written.
        StorageError: ``out`` cannot be written.
    """
    storage = open_storage(out)
    if storage.files("") or storage.directories():
        raise StudyError(f"{storage.uri}: is not empty; give a new directory")
    given = read_like(like) if like else None
    label = _label(model, given)
    found = _read(str(source), study_name=study_name, step=step)
    names = resolve(found, maps, metrics, settings, given)
    data = dataset or (given.dataset if given else UNKNOWN)
    title = check_name(name or _name_like(found.name))
    tables = make_rows(found, names, model=label, dataset=data)
    boxes = {each.column: _box(each.column, given) for each in names.hyperparameters}
    spec = _spec(title, runs=len(tables.runs), model=label, dataset=data, boxes=boxes)
    _write(storage, tables, _manifest(spec, found, names))
    statuses = sorted(row["status"] for row in tables.runs)
    mapped = {each.name for each in names.hyperparameters if not isinstance(each, Fixed)}
    return Imported(
        study=storage.uri,
        source=found.location,
        kind=found.kind,
        name=title,
        statuses=dict(Counter(statuses)),
        left_out=dict(found.left_out),
        without_value=without_value(found, names),
        not_taken=[parameter for parameter in found.parameters if parameter not in mapped],
    )


def _read(source: str, *, study_name: str | None, step: str | None) -> Source:
    """The search, which has a trial that has ended."""
    if is_storage(source):
        if step is not None:
            raise StudyError(f"--step {step}: is for experiments of Ray Tune; in Optuna a trial's reports have a step")
        found = read_storage(source, study_name)
    else:
        if study_name is not None:
            raise StudyError(f"--study-name {study_name}: is for storages of Optuna; {source} is none")
        found = read_experiment(source, step or ITERATION)
    if not found.trials:
        counts = ", ".join(f"{count} {why}" for why, count in found.left_out.items())
        raise StudyError(f"{found.location}: holds no trial that has ended{counts and f' ({counts})'}")
    return found


def _label(model: str | None, like: Like | None) -> str:
    if like is not None and model is None and len(like.models) == 1:
        return like.models[0]
    if not model:
        known = f", one of those of the --like study to be laid over it: {', '.join(like.models)}" if like else ""
        raise StudyError(f"--model: give a label for the network that the search has trained{known}")
    return model


def _name_like(name: str) -> str:
    """The nearest to the search's name that a study may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or ARM


def _spec(
    name: str, *, runs: int, model: str, dataset: str, boxes: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """What the analysis asks of a spec; what trains is not there."""
    return {
        "name": name,
        "configurations": runs,
        "arms": [ARM],
        "data": {"name": dataset},
        "models": [{"label": model}],
        "hyperparameters": dict(boxes),
    }


def _box(column: str, like: Like | None) -> dict[str, float]:
    """The box of ``like``; without one, the analysis takes the extent of the trials."""
    return dict(zip(("low", "high"), like.boxes[column], strict=True)) if like else {}


def _manifest(spec: dict[str, Any], source: Source, names: Names) -> Manifest:
    """What ``study.json`` says. ``trials`` are the source's ids, in the order of ``config_index``."""
    imported = {
        "kind": source.kind,
        "name": source.name,
        "source": source.location,
        "hyperparameters": [asdict(each) for each in names.hyperparameters],
        "metrics": [asdict(each) for each in names.metrics],
        "left_out": dict(source.left_out),
        "trials": [trial.id for trial in source.trials],
    }
    return Manifest(
        study_hash=digest([spec, imported]),
        spec=spec,
        pack_size=1,
        seeds={},
        created_at=_ended(source),
        provenance={IMPORTED: imported},
        planned={ARM: len(source.trials)},
    )


def _ended(source: Source) -> str:
    """When the last trial ended, ISO 8601; the time of the import would make each import another. Empty if unknown."""
    times = [trial.finished_at for trial in source.trials if trial.finished_at is not None]
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="milliseconds") if times else ""


def _write(storage: Storage, tables: Tables, manifest: Manifest) -> None:
    """Write all files, ``study.json`` last; where that fails, none of them stays."""
    keep = storage.nearest_directory()
    columns = schemas(list(manifest.spec["hyperparameters"]))
    statuses = Counter(row["status"] for row in tables.runs)
    try:
        published = {}
        for table in TABLES:
            rows = pa.Table.from_pylist(getattr(tables, table), columns[table])
            published[table] = _write_table(storage, TableFile(table), rows, manifest.study_hash)
        write_completed(storage, manifest, statuses, manifest.created_at)
        manifest.with_tables(published, at=manifest.created_at).save(storage)
    except BaseException:
        with suppress(OSError):
            for path in (*(TableFile(table).path for table in TABLES), PROGRESS, MANIFEST):
                storage.delete(path)
            storage.remove_empty(keep)
        raise


def _write_table(storage: Storage, file: TableFile, rows: pa.Table, study_hash: str) -> Published:
    origin = {STUDY_KEY: study_hash.encode(), FILE_KEY: file.path.encode()}
    schema = described(rows.schema, DESCRIPTIONS).with_metadata({**rows.schema.metadata, **origin})
    with storage.replacing(file.path) as sink, ChecksummedWriter(sink, schema, COMPRESSION) as writer:
        writer.write(rows.cast(schema))
    return Published(rows.num_rows, writer.sha256)
