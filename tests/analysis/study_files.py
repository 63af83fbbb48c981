"""The files of a study directory: schemas, attempts, and a ledger of shards. Nothing here imports analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def schema(table: str, columns: list[str]) -> pa.Schema:
    f64, i64, i32, string = pa.float64(), pa.int64(), pa.int32(), pa.string()
    if table == "runs":
        hyper = {f"{c}_{end}": f64 for c in columns for end in ("initial", "final")}
        losses = dict.fromkeys(("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error"), f64)
        fields = {
            "run_id": string,
            "config_index": i32,
            "arm": string,
            "replicate": i32,
            "model": string,
            "dataset": string,
            "status": string,
            "seed": i64,
            **hyper,
            **losses,
            "steps": i64,
            "train_time_s": f64,
            "attempt": i32,
            "error": string,
        }
    elif table == "trajectories":
        hyper = dict.fromkeys(columns, f64) | {f"hypergradient_{c}": f64 for c in columns}
        fields = {
            "run_id": string,
            "model": string,
            "arm": string,
            "config_index": i32,
            "replicate": i32,
            "step": i64,
            **hyper,
            "t1_loss": f64,
            "t2_loss": f64,
        }
    else:
        when = pa.timestamp("us", tz="UTC")
        fields = {
            "run_id": string,
            "attempt": i32,
            "outcome": string,
            "node_id": string,
            "node_ip": string,
            "device": string,
            "pid": i64,
            "started_at": when,
            "finished_at": when,
            "error": string,
        }
    return pa.schema(list(fields.items()))


def attempts(runs: pd.DataFrame) -> pd.DataFrame:
    began = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(runs)), unit="s")
    return pd.DataFrame(
        {
            "run_id": runs["run_id"],
            "attempt": 1,
            "outcome": runs["status"],
            "node_id": "n0",
            "node_ip": "127.0.0.1",
            "device": "cpu",
            "pid": 1,
            "started_at": began,
            "finished_at": began + pd.Timedelta(seconds=10),
            "error": None,
        }
    )


def write_table(path: Path, table: str, frame: pd.DataFrame, columns: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False, schema=schema(table, columns)), path)


def write_ledger(
    directory: Path, parts: list[tuple[pd.DataFrame, pd.DataFrame]], columns: list[str], shards: int
) -> None:
    """The first half at the top level, the rest in shards; the first shard also repeats rows of the top level."""
    runs = pd.concat([p[0] for p in parts], ignore_index=True)
    trajectories = pd.concat([p[1] for p in parts], ignore_index=True)
    half = len(runs) // 2
    pieces = {"": runs.iloc[:half]}
    for k, index in enumerate(np.array_split(np.arange(half, len(runs)), shards)):
        pieces[f"{k:05d}"] = runs.iloc[np.concatenate([np.arange(0, 3), index]) if k == 0 else index]
    for key, piece in pieces.items():
        for table, frame in (
            ("runs", piece),
            ("trajectories", trajectories[trajectories["run_id"].isin(piece["run_id"])]),
            ("attempts", attempts(piece)),
        ):
            path = directory / f"{table}.parquet" if key == "" else directory / "ledger" / table / f"{key}.parquet"
            write_table(path, table, frame, columns)
