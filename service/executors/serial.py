"""The simplest executor: one worker in the driver's own process."""

from __future__ import annotations

import time
from collections import deque

from service.executors.base import Notice, Outcome, Task, train
from service.executors.worker import Worker, WorkerSetup


class SerialExecutor:
    """One worker in the driver's own process: for tests, debugging and machines without Ray."""

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()
        self._worker: Worker | None = None

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """Make the worker."""
        self._worker = Worker(setup)

    def room(self) -> int:
        """One task at a time."""
        return 1 - len(self._queue)

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Train the queued task."""
        assert self._worker is not None, "start() comes first"
        if not self._queue:
            time.sleep(timeout_s)
            return []
        task = self._queue.popleft()
        return [train(self._worker, task.pack, task.members).outcome(task)]

    def workers(self) -> int:
        """Always one."""
        return 1

    def close(self) -> None:
        """Nothing to stop."""
