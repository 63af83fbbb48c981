"""A driver as a process of its own, to be killed: ``python -m tests.service.drive SPEC.json OUT [ADDRESS]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from service import StudySpec, run_study

ROOT = Path(__file__).resolve().parents[2]


def start_driver(spec: StudySpec, out: Path | str, directory: Path, address: str = "", **environment: str) -> Any:
    """Start one; its output is in ``directory``."""
    path = directory / "spec.json"
    path.write_text(json.dumps(spec.to_dict()))
    with (directory / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.service.drive", str(path), str(out), address],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | environment,
        )


if __name__ == "__main__":
    values = json.loads(Path(sys.argv[1]).read_text())
    status = run_study(StudySpec.from_dict(values), sys.argv[2], address=sys.argv[3] or None)
    print(json.dumps(status.to_dict()))
