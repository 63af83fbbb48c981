"""The tables of baselines: those of a study, and three more columns that say what a run and its search have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from service.executors.received import plain_text
from service.ledger.publish import Published
from service.ledger.schema import FLOAT, TABLES, conformed, described, schemas
from service.ledger.shards import Ledger, Row, TableFile
from service.spec.study_spec import digest
from service.tune.baselines.methods import METHODS
from service.tune.baselines.search import Search
from service.tune.baselines.trials import Trial

COSTS = {
    "compute": "inner-step equivalents of this run, its evaluations of T2 included",
    "spent": "inner-step equivalents that its search had spent when this run ended; a rerun's, with the first training",
    "spent_s": "the same in seconds of training and evaluation",
}
STATUSES = "completed, diverged (a loss was not finite), stopped (early, or as the budget ended) or failed (see error)"
DESCRIPTIONS = {  # of columns that mean something else here than in a study
    "arm": "the method; of T1-T2 also with rerun: a fixed training with its final values",
    "config_index": "number of the trial in its search, by its start",
    "replicate": "number of the repetition; all methods have the same starts in it",
    "status": STATUSES,
    "outcome": STATUSES,
    "seed": "seed of initial weights, batch order and noise",
    "train_time_s": "seconds of training and evaluation",
    "started_at": "null: not noted",
    "finished_at": "null: not noted",
}
MEASURED = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
SORTED_BY = {  # the rows of each table, after the place of their run
    "runs": (),
    "trajectories": ("step",),
    "attempts": (),
}


def table_schemas(names: Sequence[str]) -> dict[str, pa.Schema]:
    """The schema of each table; ``names`` are the hyperparameters."""
    known = {table: described(schema, DESCRIPTIONS) for table, schema in schemas(names).items()}
    runs = known["runs"]
    for name, description in COSTS.items():
        runs = runs.append(pa.field(name, FLOAT, metadata={"description": description}))
    return known | {"runs": runs}


def arms() -> list[str]:
    """The arms of all methods, in the order of the tables."""
    return [arm for each in METHODS.values() for arm in ([each.name, each.rerun] if each.is_tuned else [each.name])]


def commit(ledger: Ledger, search: Search, trials: Sequence[Trial]) -> None:
    """Keep a whole search: all of its rows, or none."""
    runs: list[Row] = []
    points: dict[str, list[Any]] = {field.name: [] for field in ledger.schemas["trajectories"]}
    attempts: list[Row] = []
    for trial in trials:
        place = _place(ledger, search, trial)
        runs.append(_run(search, trial, place))
        attempts.append(_attempt(trial, place["run_id"]))
        for point in _points(trial):
            for name, values in points.items():
                values.append((place | point).get(name))
    ledger.commit(runs=runs, points=points, attempts=attempts)


def finished(ledger: Ledger) -> set[tuple[str, str, int]]:
    """The model, method and repetition of each search that is committed."""
    found: set[tuple[str, str, int]] = set()
    for file in ledger.inputs("runs"):
        rows = ledger.read(file, ["model", "arm", "replicate"])
        found |= set(zip(*(rows[name].to_pylist() for name in ("model", "arm", "replicate")), strict=True))
    return found


def publish(ledger: Ledger) -> dict[str, Published]:
    """Write the three tables from all shards, sorted by model, arm, repetition and trial."""
    order: pa.Array | None = None
    published = {}
    for table in TABLES:
        schema = ledger.schemas[table]
        rows = pa.concat_tables([conformed(ledger.read(file), schema) for file in ledger.inputs(table)])
        if order is None:
            order = _order(rows)
        rows = _sorted(rows, order, SORTED_BY[table])
        with ledger.replacing(TableFile(table)) as writer:
            writer.write(rows.select(schema.names).cast(schema))
        published[table] = Published(rows.num_rows, writer.sha256)
    return published


def _order(runs: pa.Table) -> pa.Array:
    """The ids of the runs in their order, each once."""
    frame = runs.select(["run_id", "model", "arm", "replicate", "config_index"]).to_pandas().drop_duplicates("run_id")
    rank = {arm: place for place, arm in enumerate(arms())}
    frame = frame.assign(arm=frame["arm"].map(rank)).sort_values(["model", "arm", "replicate", "config_index"])
    return pa.array(frame["run_id"], pa.string())


def _sorted(rows: pa.Table, order: pa.Array, ties: Sequence[str]) -> pa.Table:
    rows = rows.append_column("place", pc.index_in(rows["run_id"], order))
    keys = ["place", *ties]
    rows = rows.filter(pc.is_valid(rows["place"])).sort_by([(key, "ascending") for key in keys])
    first = rows.select(keys).to_pandas().drop_duplicates().index  # a crash may have left a row in two files
    return rows.take(pa.array(first))


def _place(ledger: Ledger, search: Search, trial: Trial) -> Row:
    place = [search.model, trial.arm, search.repetition, trial.number]
    return {
        "run_id": digest([ledger.study_hash, *place])[:20],
        **dict(zip(("model", "arm", "replicate", "config_index"), place, strict=True)),
    }


def _run(search: Search, trial: Trial, place: Row) -> Row:
    last = trial.reports[-1] if trial.reports else {}
    measured = MEASURED if trial.status == "completed" else ("t2_loss",) if trial.status == "stopped" else ()
    return place | {
        "dataset": search.spec.data.name,
        "status": trial.status,
        "seed": trial.seed,
        **{f"{name}_initial": value for name, value in trial.initial.items()},
        **{f"{name}_final": value for name, value in trial.final.items()},
        **{name: _finite(last.get(name)) for name in measured},
        "steps": last.get("step"),
        "train_time_s": trial.seconds,
        "attempt": 1,
        "error": None if trial.error is None else plain_text(trial.error),
        "compute": trial.compute,
        "spent": trial.spent,
        "spent_s": trial.spent_s,
    }


def _points(trial: Trial) -> list[Row]:
    """Its reports as rows. What Tune is told of a loss that is not finite, infinity, is NaN here as in a study."""
    values = [{name: value for name, value in report.items() if name != "status"} for report in trial.reports]
    return [row | {"t2_loss": row["t2_loss"] if math.isfinite(row["t2_loss"]) else math.nan} for row in values]


def _attempt(trial: Trial, run_id: str) -> Row:
    error = None if trial.error is None else plain_text(trial.error)
    return {"run_id": run_id, "attempt": 1, "outcome": trial.status, "device": "cpu", "error": error}


def _finite(value: Any) -> Any:
    return value if value is None or math.isfinite(value) else None
