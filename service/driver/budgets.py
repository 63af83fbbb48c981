"""How often a run may be lost, and how often it may fail, before it is given up."""

from __future__ import annotations

from collections import Counter
from enum import Enum


class Failure(Enum):
    """Why an attempt gave no result."""

    LOST = "lost"  # its worker, node or actor died
    FAILED = "failed"  # its training raised an exception


class RetryBudget:
    """Counts the losses and the failures of runs, each against its own limit. Remembers only runs in trouble."""

    def __init__(self, *, losses: int, failures: int) -> None:
        self._limits = {Failure.LOST: losses, Failure.FAILED: failures}
        self._charges: dict[str, Counter[Failure]] = {}

    def charge(self, run_id: str, failure: Failure) -> bool:
        """Count a failure of a run; whether it may be tried again."""
        charges = self._charges.setdefault(run_id, Counter())
        charges[failure] += 1
        return charges[failure] <= self._limits[failure]

    def forget(self, run_id: str) -> None:
        """A run has ended."""
        self._charges.pop(run_id, None)
