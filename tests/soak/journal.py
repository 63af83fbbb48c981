"""What a soak has done, one JSON object a line, so that it can go on where it was stopped and be tallied."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Journal:
    """Blows have a ``number`` and a ``kind``; all other lines are notes. Times are seconds since 1970."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[Line] = []
        if path.exists():
            whole = path.read_text().rpartition("\n")[0]  # a soak that was killed may have left half a line
            self.lines = [json.loads(line) for line in whole.splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def blow(self, number: int, kind: str, at: float, facts: Line) -> None:
        """A blow has been dealt."""
        self._add({"number": number, "kind": kind, "at": round(at, 3), **facts})

    def note(self, what: str, **facts: Any) -> None:
        """Something else has happened, now."""
        self._add({"note": what, "at": round(time.time(), 3), **facts})

    def blows(self) -> list[Line]:
        """All blows, in their order."""
        return [line for line in self.lines if "number" in line]

    def notes(self, what: str) -> list[Line]:
        """All notes of one name."""
        return [line for line in self.lines if line.get("note") == what]

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
