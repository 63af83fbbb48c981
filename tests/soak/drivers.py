"""The study's driver: one at work, started again whenever it ends, and those that were stopped and replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import StudySpec
from service.storage.lease_record import LEASE
from tests.service.drive import start_driver
from tests.soak.journal import Journal
from tests.soak.places import Place

TAIL = 400  # of a driver's last words, in the journal
FUTILE_STARTS = 20  # drivers in a row that end by themselves without one commit in between: the soak gives up
WORKS_ON = "works on"
ENDS_WITHIN_S = 120.0  # a driver that was replaced while it was stopped, once it goes on


@dataclass
class Zombie:
    """A driver that was stopped, replaced, and may go on now."""

    process: subprocess.Popen[bytes]
    number: int  # of the blow
    since: float


class Drivers:
    """Starts and ends drivers; ``tend`` is called a few times a second."""

    def __init__(self, place: Place, directory: Path, address: str, spec: StudySpec, journal: Journal) -> None:
        self._place, self._directory, self._address, self._journal = place, directory, address, journal
        self.spec = spec
        self.current: subprocess.Popen[bytes] | None = None
        self.stopped = False  # whether SIGSTOP holds the current one
        self.zombies: list[Zombie] = []
        self._futile = 0
        self._commits = 0

    def start(self) -> None:
        """A new driver, in the place of the current one."""
        self.current = start_driver(self.spec, self._place.uri, self._directory, self._address)
        self.stopped = False
        self._journal.note("driver_started", pid=self.current.pid)

    def kill(self) -> int:
        """SIGKILL the driver and start another; its process."""
        assert self.current is not None
        self.current.kill()
        self.current.wait()
        pid = self.current.pid
        self.start()
        return pid

    def stop(self) -> int:
        """SIGSTOP the driver; its process."""
        assert self.current is not None
        self.current.send_signal(signal.SIGSTOP)
        self.stopped = True
        return self.current.pid

    def go_on(self, process: subprocess.Popen[bytes]) -> None:
        """SIGCONT a driver that is stopped."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        if process is self.current:
            self.stopped = False

    def supersede(self, number: int) -> subprocess.Popen[bytes]:
        """Start another driver while the current one is stopped: that one is a zombie from now on."""
        assert self.current is not None
        zombie = self.current
        self.start()
        self.zombies.append(Zombie(zombie, number, float("inf")))
        return zombie

    def wake(self, process: subprocess.Popen[bytes]) -> None:
        """Let a zombie go on; it must end by itself."""
        self.go_on(process)
        for zombie in self.zombies:
            if zombie.process is process:
                zombie.since = time.time()

    def holds_lease(self) -> bool:
        """Whether the current driver has the study."""
        try:
            lease = json.loads(self._place.read(LEASE))
        except (OSError, ValueError):
            return False
        return self.current is not None and lease.get("pid") == self.current.pid and not lease.get("released")

    def tend(self) -> bool:
        """Start a driver where none is; whether the study has been completed instead."""
        self._bury()
        if self.current is None:
            self.start()
            return False
        code = self.current.poll()
        if code is None:
            return False
        if code == 0:
            return True
        tail = self.log()[-TAIL:]
        self._journal.note("driver_ended", pid=self.current.pid, code=code, tail=tail)
        commits = len(self._place.commits())
        self._futile = self._futile + 1 if commits == self._commits else 0
        self._commits = commits
        if self._futile >= FUTILE_STARTS:
            raise RuntimeError(f"{FUTILE_STARTS} drivers in a row have ended and done nothing; the last one: {tail}")
        self.start()
        return False

    def end(self) -> None:
        """SIGKILL all."""
        processes = [zombie.process for zombie in self.zombies] + ([self.current] if self.current else [])
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def log(self) -> str:
        """What all drivers have said."""
        path = self._directory / "driver.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _bury(self) -> None:
        """Write down which zombies have ended, and how; one that works on is ended and written down, too."""
        for zombie in list(self.zombies):
            code: Any = zombie.process.poll()
            if code is None and time.time() > zombie.since + ENDS_WITHIN_S:
                zombie.process.kill()
                code = WORKS_ON
            if code is not None:
                self.zombies.remove(zombie)
                after = round(time.time() - zombie.since, 3) if zombie.since < float("inf") else None
                self._journal.note("zombie_ended", of=zombie.number, pid=zombie.process.pid, code=code, after_s=after)


def end_leftovers(directory: Path) -> None:
    """SIGKILL drivers that a soak of this directory has left behind because it was killed itself."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if b"tests.service.drive" in arguments and str(directory / "spec.json").encode() in arguments:
                    os.kill(int(process.name), signal.SIGKILL)
