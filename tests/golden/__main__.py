"""Compare what two checkouts compute, to the last bit, on this machine.

python -m tests.golden CHECKOUT    compare this checkout with another, for example a git worktree of an older commit
python -m tests.golden --record    print this checkout's record as JSON
python -m tests.golden --keep      write it, and one checkpoint, beside this file, where the tests compare with them
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_name("record.json.gz")
CHECKPOINT = Path(__file__).with_name("checkpoint.safetensors")


def recorded(checkout: Path) -> dict[str, Any]:
    """The record of a checkout, made by its own code in a process of its own."""
    command = [sys.executable, "-m", "tests.golden", "--record"]
    done = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def compare(other: Path) -> int:
    """Print where this checkout and the other differ; the exit code."""
    from tests.golden.cases import differences

    ours, theirs = recorded(ROOT), recorded(other)
    lines = list(differences(ours, theirs))
    print("\n".join(lines[:50]))
    print(f"{len(ours)} cases: {'equal to the last bit' if not lines else f'{len(lines)} numbers differ'}")
    return int(bool(lines))


def main(arguments: list[str]) -> int:
    """See the module's docstring."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] not in ("--record", "--keep"):
        return compare(Path(arguments[0]))
    import torch

    from tests.golden.cases import CONTINUED, configurations, first_checkpoint, record
    from trainers.checkpoint import save

    torch.set_num_threads(1)
    text = json.dumps(record())
    if arguments[0] == "--record":
        print(text)
    else:
        KEPT.write_bytes(gzip.compress(text.encode(), mtime=0))
        save(first_checkpoint(dict(configurations())[CONTINUED]), CHECKPOINT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
