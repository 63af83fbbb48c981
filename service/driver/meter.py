"""Rate, time left and utilisation of a study that is running."""

from __future__ import annotations

import time
from collections import deque

WINDOW_S = 60.0


class Meter:
    """Takes what has ended, tells how fast it goes. Its memory does not grow."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._ticks: deque[tuple[float, int]] = deque()  # the time of a tick, and all runs ended until then
        self._runs = 0
        self._busy_s = 0.0
        self._worker_s = 0.0
        self._last = self.started

    def ended(self, runs: int, busy_s: float) -> None:
        """Count runs that have ended after ``busy_s`` seconds of a worker."""
        self._runs += runs
        self._busy_s += busy_s

    def tick(self, workers: int) -> None:
        """Call about every second with the number of workers that are ready."""
        at = time.monotonic()
        self._worker_s += workers * (at - self._last)
        self._last = at
        self._ticks.append((at, self._runs))
        while len(self._ticks) > 2 and at - self._ticks[0][0] > WINDOW_S:
            self._ticks.popleft()

    @property
    def elapsed_s(self) -> float:
        """Since the driver began."""
        return time.monotonic() - self.started

    @property
    def runs_per_s(self) -> float | None:
        """Over the last minute; over all the time where nothing ended in it."""
        if len(self._ticks) >= 2:
            (start, before), (end, after) = self._ticks[0], self._ticks[-1]
            if after > before and end > start:
                return (after - before) / (end - start)
        return self._runs / self.elapsed_s if self._runs else None

    @property
    def utilisation(self) -> float | None:
        """The share of the workers' time that went into runs which have ended, since the first worker was ready."""
        return min(1.0, self._busy_s / self._worker_s) if self._worker_s > 0 and self._runs else None
