"""How far a study gets is decided by the test, not by who is quicker: see :func:`tests.service.toy.ticketed`."""

from __future__ import annotations

from pathlib import Path


class Tickets:
    """The directory from which runs take their tickets: closed at first, so that a run waits for one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.environment = {"TOY_TICKETS": str(directory)}
        self._given = 0

    def give(self, count: int) -> None:
        """Let ``count`` more runs be trained."""
        for _ in range(count):
            self._given += 1
            (self.directory / f"ticket-{self._given}").touch()

    def open(self) -> None:
        """Let every run be trained."""
        (self.directory / "open").touch()

    def close(self) -> None:
        """Let no run be trained without a ticket from now on."""
        for path in self.directory.iterdir():
            path.unlink(missing_ok=True)
