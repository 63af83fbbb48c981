"""How the benchmarks measure: interleaved repeats, medians with their spread, and the machine they ran on."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

Arm = TypeVar("Arm", bound=Hashable)
Found = TypeVar("Found")


def interleaved(arms: Mapping[Arm, Callable[[], Found]], repeats: int) -> dict[Arm, list[Found]]:
    """What each arm returns, once in every repeat; every repeat starts with another arm: none is always first."""
    names = list(arms)
    found: dict[Arm, list[Found]] = {name: [] for name in names}
    for repeat in range(repeats):
        gc.collect()
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(arms[name]())
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest and largest, and all of them in the order of the repeats."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repeats": list(values)}


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio within each repeat: what slowed both arms of a repeat cancels."""
    return [a / b for a, b in zip(above, below, strict=True)]


def machine() -> dict[str, object]:
    """The processor, the versions, and how busy the machine was when the measurement began."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(path: Path, report: dict[str, object]) -> None:
    """The report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten: {path}")
