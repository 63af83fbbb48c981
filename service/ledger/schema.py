"""The columns of the three published tables: an Arrow schema with a description on every field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import pyarrow as pa

from service.errors import NewerSchemaError
from service.spec.arms import ARMS

SCHEMA_VERSION = 1
VERSION_KEY = b"schema_version"
TABLES = ("runs", "trajectories", "attempts")
TEXT, FLOAT, INT32, INT64, TIME = pa.string(), pa.float64(), pa.int32(), pa.int64(), pa.timestamp("us", tz="UTC")
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
*_FIRST, _LAST = ARMS
_ONE_ARM = f"{', '.join(_FIRST)} or {_LAST}"
_ON_GRID = f"in arm {' and '.join(arm.name for arm in ARMS.values() if arm.on_grid)}"


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


def _schema(table: str, fields: Sequence[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode(), b"table": table.encode()})


def runs_schema(names: Sequence[str]) -> pa.Schema:
    """One row for each run; ``names`` are the study's hyperparameters, in order."""
    return _schema(
        "runs",
        [
            _field("run_id", TEXT, "hash of what affects the run's result and of its place in the study"),
            _field("config_index", INT32, f"number of the configuration; {_ON_GRID}, of the cell (row-major)"),
            _field("arm", TEXT, _ONE_ARM),
            _field("replicate", INT32, f"number of the replicate: another seed, and but {_ON_GRID} another start"),
            _field("model", TEXT, "label of the model"),
            _field("dataset", TEXT, "name of the data set"),
            _field("status", TEXT, "completed, diverged (a loss was not finite) or failed (see error)"),
            _field("seed", INT64, "seed of initial weights, batch order and noise, shared by a configuration's arms"),
            *(
                _field(f"{name}_{end}", FLOAT, f"{name} {words} of the run; null where the model has none")
                for name in names
                for end, words in (("initial", "at the start"), ("final", "at the end"))
            ),
            _field("t1_loss", FLOAT, "mean cross-entropy on T1 at the end, nats, without noise or penalty"),
            _field("t2_loss", FLOAT, "mean cross-entropy on T2 at the end, nats"),
            _field("t2_error", FLOAT, "share of T2 classified wrongly at the end"),
            _field("test_loss", FLOAT, "mean cross-entropy on the test set at the end, nats"),
            _field("test_error", FLOAT, "share of the test set classified wrongly at the end"),
            _field("steps", INT64, "inner steps taken"),
            _field("train_time_s", FLOAT, "seconds in inner and outer steps, divided by the size of the pack"),
            _field("attempt", INT32, "number of the attempt that gave this row, from 1"),
            _field("error", TEXT, "why the run failed; null unless status is failed"),
        ],
    )


def trajectories_schema(names: Sequence[str]) -> pa.Schema:
    """One row for each recorded step of a run."""
    return _schema(
        "trajectories",
        [
            _field("run_id", TEXT, "the run"),
            _field("model", TEXT, "label of the model"),
            _field("arm", TEXT, _ONE_ARM),
            _field("config_index", INT32, "number of the configuration or of the grid's cell"),
            _field("replicate", INT32, "number of the replicate"),
            _field("step", INT64, "inner steps taken so far"),
            *(_field(name, FLOAT, f"{name} after the step") for name in names),
            *(
                _field(
                    f"hypergradient_{name}",
                    FLOAT,
                    f"estimated derivative of the T2 loss by {name} in the latest outer step; NaN where there was none",
                )
                for name in names
            ),
            _field("t1_loss", FLOAT, "cross-entropy of the latest T1 batch with its noise, nats"),
            _field("t2_loss", FLOAT, "mean cross-entropy on T2, nats"),
        ],
    )


def attempts_schema() -> pa.Schema:
    """One row for each execution of a run."""
    return _schema(
        "attempts",
        [
            _field("run_id", TEXT, "the run"),
            _field("attempt", INT32, "number of the attempt, from 1"),
            _field("outcome", TEXT, "completed, diverged, failed (exception) or lost (worker, node or driver died)"),
            _field("node_id", TEXT, "Ray's identifier of the node"),
            _field("node_ip", TEXT, "address of the node"),
            _field("device", TEXT, "what trained the run, for example cpu or cuda:0 NVIDIA A100"),
            _field("pid", INT64, "process of the actor"),
            _field("started_at", TIME, "start of the pack's training; null where it never began or is not known"),
            _field("finished_at", TIME, "end of the attempt, or when its loss was noticed"),
            _field("error", TEXT, "exception or cause of the loss; null otherwise"),
        ],
    )


def schemas(names: Sequence[str]) -> dict[str, pa.Schema]:
    """The schema of every table."""
    return {"runs": runs_schema(names), "trajectories": trajectories_schema(names), "attempts": attempts_schema()}


def described(schema: pa.Schema, descriptions: Mapping[str, str]) -> pa.Schema:
    """``schema`` with other descriptions of some of its columns."""
    fields = [
        each.with_metadata({"description": descriptions[each.name]}) if each.name in descriptions else each
        for each in schema
    ]
    return pa.schema(fields, schema.metadata)


def conformed(rows: Rows, schema: pa.Schema) -> Rows:
    """``rows`` with the columns of ``schema``: null in those that there were not yet when the rows were written."""
    known = set(rows.schema.names)
    columns = [rows[f.name].cast(f.type) if f.name in known else pa.nulls(rows.num_rows, f.type) for f in schema]
    same: Rows = type(rows).from_arrays(columns, schema=schema)
    return same


def check_version(schema: pa.Schema, where: str) -> None:
    """Raise :class:`NewerSchemaError` if ``schema`` was written by a newer version of this package."""
    check_version_number(int((schema.metadata or {}).get(VERSION_KEY, b"0")), where)


def check_version_number(version: int, where: str) -> None:
    """Raise :class:`NewerSchemaError` if ``version`` is above what this package can read."""
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{where}: written in schema version {version}, this package reads up to {SCHEMA_VERSION}; upgrade it"
        )
