"""Trajectories far larger than the memory they may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.analysis.synthetic import write_study

ANALYSE = """
import resource, sys
from analysis import NotComputable, distance_over_steps, find_region, load_study
study = load_study(sys.argv[1])
region = find_region(study.runs, "mlp-64", study.boxes)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frame = distance_over_steps(study, region)
print(len(frame), int(frame["n"].sum()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_the_distance_over_steps_streams(tmp_path: Path) -> None:
    """8,000,000 recorded points, over 1 GB as a frame, take less than half of it."""
    directory = write_study(
        tmp_path / "s", models=("mlp-64",), configurations=10_000, arms=("online", "grid"), points=800, record_every=1
    )
    assert pq.read_metadata(directory / "trajectories.parquet").num_rows > 8_000_000
    done = subprocess.run(
        [sys.executable, "-c", ANALYSE, str(directory)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    steps, points, megabytes = map(int, done.stdout.split())
    assert steps == 101  # the starts, and a hundred of the recorded steps
    assert points == 101 * 10_000
    assert megabytes < 500
