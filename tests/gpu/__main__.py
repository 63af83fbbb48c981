"""All that needs a GPU, and what it found: ``make gpu``.

    python -m tests.gpu                     # the tests, two benchmarks and a small study
    python -m tests.gpu --only packing      # one of them

Each part runs in a process of its own and fails on its own. Where something is missing (a GPU, Ray, another package),
the part is not done, and the report says why. A part that is not done now leaves in the file what an earlier call has
measured. Nothing is installed; only the study needs Ray.

Exits with 1 where a part failed, or where none could be done.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "results" / "benchmarks" / "gpu.json"
MARK = "pytest.mark.gpu"
VERSIONS = ("torch", "numpy", "safetensors", "pytest", "ray", "higher", "torchopt")

CUDA_PROBE = """
import json, torch
if not torch.cuda.is_available():
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    print(json.dumps(f"torch {torch.__version__} sees no CUDA device ({build})"))
else:
    found = torch.cuda.get_device_properties(0)
    torch.ones(2, device="cuda").sum().item()
    print(json.dumps({
        "name": found.name, "memory_gib": round(found.total_memory / 2**30, 1), "cuda": torch.version.cuda,
        "capability": f"{found.major}.{found.minor}", "devices": torch.cuda.device_count(),
    }))
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing to do: a command that writes a file, and what is read from that file."""

    title: str
    needs: tuple[str, ...]  # the packages without which it cannot be done
    command: Callable[[argparse.Namespace, Path], list[str]]  # the arguments of Python, given where to write
    read: Callable[[str], dict[str, Any]]
    notes: Callable[[dict[str, Any]], list[str]]  # what it could not do, or what it found, in words


def tests_command(options: argparse.Namespace, out: Path) -> list[str]:
    """The tests marked ``gpu``, from the files that have some: others import what may be missing here.

    Without pytest-timeout, pytest would refuse the setting that is meant for it.
    """
    files = [str(path) for path in sorted(ROOT.glob("tests/trainers/**/test_*.py")) if MARK in path.read_text()]
    command = ["-m", "pytest", "-q", "-m", "gpu", f"--junitxml={out}", *files]
    if importlib.util.find_spec("pytest_timeout") is None:
        command += [
            "-o",
            "addopts=--import-mode=importlib --strict-markers",
            "-W",
            "ignore::pytest.PytestConfigWarning",
        ]
    return command


def read_tests(text: str) -> dict[str, Any]:
    """How many passed, and the names of those that did not, from pytest's JUnit file."""
    found: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}}
    for case in ET.fromstring(text).iter("testcase"):  # our own pytest's
        name = f"{case.get('classname')}::{case.get('name')}"
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if problem is None:
            found["passed"] += 1
        else:
            kind = "skipped" if problem.tag == "skipped" else "failed"
            found[kind][name] = (problem.get("message") or "").splitlines()[:1]
    return found


def packing_command(options: argparse.Namespace, out: Path) -> list[str]:
    """The packs up to 4,096; those of the CPU are measured by ``make bench-packing``."""
    sizes = ["--largest-on-cpu", "1", "--largest-on-gpu", str(options.largest)]
    numbers = ["--steps", str(options.steps), "--repeats", str(options.repeats)]
    return ["-m", "tests.benchmarks.packing", *sizes, *numbers, "--out", str(out)]


def overhead_command(options: argparse.Namespace, out: Path) -> list[str]:
    """On the GPU; on the CPU it is measured by ``make bench-overhead``."""
    numbers = ["--steps", str(options.steps), "--repeats", str(options.repeats)]
    return ["-m", "tests.benchmarks.overhead", "--device", "cuda", *numbers, "--out", str(out)]


PARTS = {
    "tests": Part(
        title="tests marked gpu",
        needs=("torch", "pytest", "numpy", "safetensors"),
        command=tests_command,
        read=read_tests,
        notes=lambda found: [f"{name}: {' '.join(why)}" for name, why in (found["failed"] | found["skipped"]).items()],
    ),
    "packing": Part(
        title="packs of runs",
        needs=("torch", "numpy", "sklearn"),
        command=packing_command,
        read=json.loads,
        notes=lambda found: [f"{kind}: does not fit, {why}" for kind, why in found["cuda"]["did_not_fit"].items()],
    ),
    "overhead": Part(
        title="overhead of T1-T2",
        needs=("torch", "numpy"),
        command=overhead_command,
        read=json.loads,
        notes=lambda found: [f"{name}: not installed, so not compared with" for name in found["not_installed"]],
    ),
    "study": Part(
        title="study of four actors on one GPU",
        needs=("torch", "ray", "pyarrow", "pydantic", "sklearn"),
        command=lambda options, out: ["-m", "tests.gpu.study", "--out", str(out)],
        read=json.loads,
        notes=lambda found: list(found["problems"]),
    ),
}


def done(part: Part, options: argparse.Namespace, device: dict[str, Any] | str) -> dict[str, Any]:
    """Do a part, or say why not."""
    missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if missing or isinstance(device, str):
        why = f"not installed: {', '.join(missing)}" if missing else device
        return {"status": "not done", "reason": why}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found"
        code = subprocess.run([sys.executable, *part.command(options, out)], cwd=ROOT, check=False).returncode
        outcome: dict[str, Any] = {
            "status": "done" if code == 0 else "failed",
            "seconds": round(time.monotonic() - started, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device,
            "versions": versions(),
        }
        if code:
            outcome["reason"] = f"the command ended with {code}; what it printed stands above"
        if out.exists():
            found = part.read(out.read_text())
            outcome |= {"notes": part.notes(found), "found": found}
        elif not code:
            outcome |= {"status": "failed", "reason": "the command wrote nothing"}
    return outcome


def cuda_device() -> dict[str, Any] | str:
    """The GPU that torch computes on, or why there is none; asked in a process of its own, whose crash is an answer."""
    if importlib.util.find_spec("torch") is None:
        return f"torch is not installed for {sys.executable}"
    ran = subprocess.run([sys.executable, "-c", CUDA_PROBE], capture_output=True, text=True, check=False)
    if ran.returncode:
        return f"torch cannot compute on a GPU: {(ran.stderr.strip() or str(ran.returncode)).splitlines()[-1]}"
    answer: dict[str, Any] | str = json.loads(ran.stdout)
    return answer


def versions() -> dict[str, str | None]:
    """Of what the figures depend on; null for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What the file is to say: a part that could not be done now does not take the place of one that was."""
    kept = {name for name, part in now.items() if part["status"] == "not done" and before.get(name, {}).get("found")}
    return before | {name: part for name, part in now.items() if name not in kept}


def show(found: dict[str, Any]) -> None:
    """A line for each part, then what it could not do."""
    print()
    for name, outcome in found.items():
        print(f"{PARTS[name].title:36}{outcome['status']:10}{outcome.get('reason', '')}".rstrip())
        for note in outcome.get("notes", []):
            print(f"    {note}")


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="the parts to do")
    parser.add_argument("--steps", type=int, default=500, help="inner steps of a timed training")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats of every row")
    parser.add_argument("--largest", type=int, default=4096, help="members of the largest pack, or what fits")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    device = cuda_device()
    print(device if isinstance(device, str) else f"{device['name']}, {device['memory_gib']} GiB", flush=True)
    found: dict[str, Any] = {}
    for name in options.only:
        found[name] = done(PARTS[name], options, device)
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(merged(before, {name: found[name]}), indent=1) + "\n")
    show(found)
    print(f"\nwritten: {options.out}")
    statuses = {outcome["status"] for outcome in found.values()}
    return int("failed" in statuses or statuses == {"not done"})


if __name__ == "__main__":
    sys.exit(main())
