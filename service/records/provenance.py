"""Where a study's results come from: code, versions, hardware.

A checkout is asked itself. An image has neither a repository nor the lock file beside the installed packages; it names
them in the environment, as ``deploy/Dockerfile`` does.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("t1t2-study", "torch", "numpy", "ray", "pyarrow", "pydantic", "scikit-learn", "mlxtend")
SOURCE = Path(__file__).resolve().parents[2]
COMMIT_VARIABLE, LOCK_VARIABLE = "T1T2_GIT_COMMIT", "T1T2_LOCK_FILE"


def provenance() -> dict[str, Any]:
    """JSON-able; what cannot be known is null. ``data_hash`` is filled in once the data are loaded."""
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "HEAD") if commit else None
    return {
        "git_commit": (commit or os.environ.get(COMMIT_VARIABLE, "")).strip() or None,
        "dirty": bool(diff) if diff is not None else None,
        "diff_sha256": _sha256(diff.encode()) if diff else None,
        "lock_file_sha256": _lock_file_sha256(),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in PACKAGES},
        "hardware": {
            "platform": platform.platform(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "memory_gib": _memory_gib(),
        },
        "data_hash": None,
    }


def _lock_file_sha256() -> str | None:
    """Of the checkout's ``constraints.txt``, or of the file that the environment names; None if neither is there."""
    for place in (SOURCE / "constraints.txt", Path(os.environ.get(LOCK_VARIABLE) or os.devnull)):
        try:
            if place.is_file():
                return _sha256(place.read_bytes())
        except OSError:
            continue
    return None


def _git(*arguments: str) -> str | None:
    if not (SOURCE / ".git").exists():
        return None
    try:
        return subprocess.run(["git", "-C", str(SOURCE), *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
