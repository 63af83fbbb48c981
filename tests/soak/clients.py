"""The command line beside a soak: commands that are killed in their middle, and the one that must work after."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from service.records.manifest import MANIFEST
from tests.service.drive import ROOT
from tests.soak.journal import Journal
from tests.soak.places import Place

ANSWERS_WITHIN_S = 120.0


class Clients:
    """Commands on a study, and what they said."""

    def __init__(self, place: Place, directory: Path, journal: Journal) -> None:
        self._place, self._uri = place, place.uri
        self._log, self._journal = directory / "clients.log", journal
        self._waiting: list[tuple[subprocess.Popen[bytes], int, float]] = []
        self._read = self._log.stat().st_size if self._log.exists() else 0

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """``t1t2 COMMAND`` on the study; ``extend`` adds a configuration."""
        where, _, options = self._uri.partition("?")
        root = f"{where.rpartition('/')[0]}{'?' if options else ''}{options}"
        arguments = [command, root if command == "list" else self._uri]
        if command == "extend":
            arguments += ["--configurations", str(self.configurations() + 1)]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.cli", *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
            )

    def configurations(self) -> int:
        """How many the study has now."""
        return int(json.loads(self._place.read(MANIFEST))["spec"]["configurations"])

    def kill(self, process: subprocess.Popen[bytes], number: int) -> None:
        """SIGKILL a command, and ask for the status until there is an answer."""
        self._journal.note("client_killed", of=number, ended_before=process.poll())
        process.kill()
        process.wait()
        self._waiting.append((self.start("status"), number, time.time()))

    def tend(self) -> None:
        """Write down which statuses have come."""
        for entry in list(self._waiting):
            process, number, since = entry
            code = process.poll()
            if code is None:
                continue
            self._waiting.remove(entry)
            after = time.time() - since
            if code == 0 or after > ANSWERS_WITHIN_S:
                self._journal.note("status_answered", of=number, code=code, after_s=round(after, 3))
            else:
                self._waiting.append((self.start("status"), number, since))
        self._look_for_tracebacks()

    def end(self) -> None:
        """SIGKILL all."""
        for process, _, _ in self._waiting:
            process.kill()
            process.wait()

    def _look_for_tracebacks(self) -> None:
        if not self._log.exists() or self._log.stat().st_size == self._read:
            return
        with self._log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        if b"Traceback" in new:
            self._journal.note("traceback", text=new.decode(errors="replace")[-2000:])
        self._read += len(new)
