"""The simplest executor: one worker in the driver's own process."""

from __future__ import annotations

import time

from service.executors.base import Notice, Outcome, Task, WorkerSetup
from service.executors.worker import Worker, job_of


class SerialExecutor:
    """One worker in the driver's own process: for tests, debugging and machines without Ray."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._worker: Worker | None = None

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """Make the worker."""
        self._worker = Worker(setup)

    def room(self) -> int:
        """One task at a time."""
        return int(self._worker is not None and self._task is None)

    def submit(self, task: Task) -> None:
        """Take a task; :meth:`wait` trains it."""
        self._task = task

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Train the task that was submitted."""
        task, self._task = self._task, None
        if task is None or self._worker is None:
            time.sleep(timeout_s)
            return []
        return [self._worker.attempt(job_of(task)).outcome(task)]

    def workers(self) -> int:
        """One, from start to close."""
        return int(self._worker is not None)

    def close(self) -> None:
        """Forget the worker, and the task that it has not begun."""
        self._task = self._worker = None
