"""What a command takes: seconds on the clock, and seconds of the processor in all processes that it starts."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import psutil

INTERVAL_S = 0.1


class Usage(NamedTuple):
    """Seconds until a command has ended, and seconds of the processor (user and system) that it took until then."""

    wall_s: float
    cpu_s: float


def usage(command: Sequence[str], env: Mapping[str, str] | None = None) -> Usage:
    """Run ``command`` to its end, and look ten times a second at it and at all processes below it.

    The operating system adds up the times of children that their parent waits for, but Ray's node does not wait for
    its workers: their work would be missing, and it is most of all. So each process is looked at while it lives, and at
    most the last tenth of a second of each is not seen. A process that leaves the tree, as a daemon does, is not seen.
    What else runs on the machine is not counted, as it would be in the numbers of the whole machine.

    Raises :class:`SystemExit` with the end of the output where the command fails.
    """
    seen: dict[tuple[int, float], float] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        started = time.perf_counter()
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        while True:
            try:
                code = process.wait(timeout=INTERVAL_S)
                break
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                with suppress(psutil.Error):
                    for each in [process, *process.children(recursive=True)]:
                        look(each, seen)
        wall = time.perf_counter() - started
        if code:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()[-4000:]}")
    return Usage(wall, sum(seen.values()))


def look(process: psutil.Process, seen: dict[tuple[int, float], float]) -> None:
    """Note what the process has taken so far; its number may come again, so the time of its birth goes with it."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        seen[process.pid, process.create_time()] = times.user + times.system
