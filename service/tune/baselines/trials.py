"""One training of a search: what its rows in the tables tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Trial:
    """Compute is in inner-step equivalents."""

    arm: str
    number: int  # in the order of the starts
    seed: int
    initial: dict[str, float]
    reports: list[dict[str, Any]] = field(default_factory=list)  # of its points; the last one may have the result
    compute: float = 0.0
    seconds: float = 0.0
    spent: float = 0.0  # of the whole search, when this training ended
    spent_s: float = 0.0
    error: str | None = None

    @property
    def status(self) -> str:
        """As in the table of runs; ``stopped`` is what a scheduler, or the end of the budget, has cut off."""
        if self.error is not None:
            return "failed"
        return str(self.reports[-1].get("status", "stopped")) if self.reports else "stopped"

    @property
    def final(self) -> dict[str, float]:
        """The hyperparameters at its end."""
        return {name: float(self.reports[-1][name]) for name in self.initial} if self.reports else dict(self.initial)
