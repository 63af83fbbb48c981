"""The ten lines of the README, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
(LINES,) = re.findall(
    r"^```python\n(from ray import tune\n.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.slow
def test_ten_lines_run_t1t2_in_a_tuner(tmp_path: Path) -> None:
    assert len([line for line in LINES.splitlines() if line.strip()]) <= 10
    home = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}  # below which Tune keeps its results
    ran = subprocess.run([sys.executable, "-c", LINES], cwd=ROOT, env=home, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    noise, strength, loss = map(float, ran.stdout.splitlines()[-1].split())
    assert 0 <= noise <= 0.8
    assert -5.5 <= strength <= -2.5
    assert 0.1 < loss < 0.6
