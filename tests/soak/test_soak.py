"""The short form of ``make soak``: 60 blows, stopped in their middle and gone on with. See README.md."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.drive import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

BLOWS = 60
PATIENCE_S = 300.0


def test_sixty_blows_change_nothing(tmp_path: Path, fault_seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.soak", f"--kills={BLOWS}", f"--seed={fault_seed}"]
    command += [f"--directory={tmp_path / 'soak'}", f"--out={tmp_path / 'report.json'}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        await_blows(tmp_path / "soak" / "s3" / "journal.jsonl", 5)
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 130, said

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["sound"]
    assert report["blows"] == BLOWS == sum(row["dealt"] for row in report["kinds"].values())
    assert report["studies"]["s3"]["times_begun"] == 2
    for study in report["studies"].values():
        assert study["tracebacks_of_commands"] == 0
        assert study["runs"]["runs"] > 0
    killed = report["kinds"]["actor SIGKILL"]
    assert killed["noticed"]["count"] > 0
    assert killed["recovered"]["count"] > 0


def await_blows(journal: Path, count: int) -> None:
    """Wait until so many have been dealt."""
    end = time.monotonic() + PATIENCE_S
    while not journal.exists() or journal.read_text().count('"number"') < count:
        assert time.monotonic() < end, "nothing is dealt"
        time.sleep(0.2)
