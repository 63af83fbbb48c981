"""Small studies for the tests, and the comparison that decides whether two are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from service import StudySpec, StudyStatus, run_study
from service.executors.serial import SerialExecutor

# What may differ between two runs of a study: times, and who did the work.
VARYING = ["train_time_s", "attempt"]


def toy_spec(**values: Any) -> StudySpec:
    """A study of toy runs: 3 configurations, 2 models, all arms, a grid of 6 cells."""
    return StudySpec.from_dict(
        {
            "name": "toy",
            "seed": 5,
            "configurations": 3,
            "arms": ["initial", "online", "rerun", "grid"],
            "models": [{"hidden": [8]}, {"hidden": [4, 4]}],
            "hyperparameters": {
                "log10_l2": {"low": -5.0, "high": -2.0, "scope": "layer"},
                "input_noise_std": {"low": 0.0, "high": 1.0},
            },
            "grid": {"points": {"log10_l2": 3, "input_noise_std": 2}, "replicates": 2},
            "trainer": "tests.service.toy:train",
        }
        | values
    )


def run_serially(spec: StudySpec, out: Path | str, **options: Any) -> StudyStatus:
    """Run a study in this process."""
    return run_study(spec, out, executor=SerialExecutor(), **options)


def table(out: Path | str, name: str = "runs") -> pd.DataFrame:
    """A published table of a local study."""
    frame: pd.DataFrame = pq.read_table(f"{out}/{name}.parquet").to_pandas()
    return frame


def assert_same_results(first: Path, second: Path, ids: bool = True) -> None:
    """Same rows in the same order; times and attempts aside, and ids where the trainers' names differ."""
    varying = VARYING if ids else [*VARYING, "run_id"]
    for name in ("runs", "trajectories"):
        a, b = (table(out, name).drop(columns=varying, errors="ignore") for out in (first, second))
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def assert_complete(out: Path, spec: StudySpec) -> None:
    """Every planned run is there once, and every rerun starts from its online's final values."""
    runs = table(out)
    cells = len(spec.models) * spec.grid.cells * spec.grid.replicates if "grid" in spec.arms else 0
    arms = [arm for arm in spec.arms if arm != "grid"]
    assert len(runs) == len(spec.models) * spec.configurations * spec.replicates * len(arms) + cells
    assert runs["run_id"].is_unique
    key = ["model", "config_index", "replicate"]
    online, rerun = (runs[runs["arm"] == arm].set_index(key).sort_index() for arm in ("online", "rerun"))
    assert online.index.equals(rerun.index)
    for final in [column for column in map(str, runs) if column.endswith("_final")]:
        for column in (final, final.replace("_final", "_initial")):
            pd.testing.assert_series_equal(rerun[column], online[final], check_exact=True, check_names=False)
