"""A small study by four actors that share one GPU, beside the same study on the CPU, in this process."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

SPEC: dict[str, Any] = {
    "name": "gpu", "seed": 3, "configurations": 8, "dtype": "float64", "record_every": 30,
    "arms": ["initial", "online", "rerun", "grid"],
    "data": {"name": "digits", "t1_size": 600, "t2_size": 300, "test_size": 300},
    "models": [{"hidden": [16]}, {"name": "cnn", "channels": [2, 3], "batch_norm": True}],
    "inner": {"steps": 60},
    "outer": {"every": 5},
    "grid": {"points": {"log10_l2": 2}, "replicates": 1},
}  # fmt: skip
SHARED = {"actors": 4, "gpus_per_actor": 0.25, "runs_per_actor": 4}
TOLERANCE = 1e-6  # of a loss after 60 steps in float64, relative: devices add in other orders


def rows(out: Path, table: str, key: str) -> dict[Any, dict[str, Any]]:
    """A published table by the values of a column."""
    import pyarrow.parquet as pq

    return {row[key]: row for row in pq.read_table(out / f"{table}.parquet").to_pylist()}


def compare(gpu: Path, cpu: Path) -> dict[str, Any]:
    """What both studies say of every run, and what is wrong with it in words."""
    here, there = rows(cpu, "runs", "run_id"), rows(gpu, "runs", "run_id")
    workers = rows(gpu, "attempts", "pid")
    devices = sorted({row["device"] or "" for row in workers.values()})
    problems = [f"run {run}: {row['status']} on the GPU" for run, row in there.items() if row["status"] != "completed"]
    problems += [f"runs were trained on {device!r}" for device in devices if not device.startswith("cuda")]
    if here.keys() != there.keys():
        problems.append(f"{len(there)} runs on the GPU, {len(here)} on the CPU")
    differences = {
        run: abs(there[run]["t2_loss"] - row["t2_loss"]) / row["t2_loss"]
        for run, row in here.items()
        if run in there and there[run]["t2_loss"] is not None and row["t2_loss"] is not None
    }
    largest = max(differences.values(), default=math.nan)
    if not largest <= TOLERANCE:
        problems.append(f"a T2 loss differs by {largest:.1e} of itself from that of the CPU: at most {TOLERANCE:g}")
    return {
        "runs": len(there),
        "devices": devices,
        "actors": len(workers),
        "largest_relative_difference_of_a_t2_loss": largest,
        "problems": problems,
    }


def main() -> int:
    """Run both, write the comparison; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from service import StudySpec, run_study
    from service.executors.serial import SerialExecutor

    with tempfile.TemporaryDirectory() as place:
        gpu, cpu = Path(place) / "gpu", Path(place) / "cpu"
        run_study(StudySpec.from_dict(SPEC | {"execution": SHARED}), gpu)
        run_study(StudySpec.from_dict(SPEC), cpu, executor=SerialExecutor())
        found = compare(gpu, cpu)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(found["problems"]))


if __name__ == "__main__":
    sys.exit(main())
