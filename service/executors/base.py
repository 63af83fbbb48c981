"""What the driver asks of whoever does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from service.executors.worker import Finished, Place, Worker, WorkerSetup
from service.spec.plan import Member, Pack


class Task(NamedTuple):
    """One attempt at a pack."""

    number: int  # unique within a driver
    pack: Pack
    members: tuple[Member, ...]
    attempt: int
    alone: bool = False  # give it a worker to itself: an earlier attempt was lost, perhaps by this pack's own doing

    @property
    def runs(self) -> int:
        """The number of runs in it."""
        return len(self.members)


@dataclass(slots=True)
class Outcome:
    """The end of a task."""

    task: Task
    kind: Literal["finished", "failed", "lost"]
    place: Place = field(default_factory=Place)
    finished: Finished | None = None  # for "finished"
    error: str | None = None  # for "failed" and "lost"
    started_at: float | None = None  # seconds since the epoch
    finished_at: float = field(default_factory=time.time)
    charged: bool = True  # "lost": whether its worker had nothing else, so that no other pack can have been the cause


Notice = Callable[[str, str, dict[str, object]], None]  # an event: kind, message, fields


class Executor(Protocol):
    """Trains packs somewhere. All methods are called from the driver's thread."""

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """Get workers ready, now or later; raises :class:`service.errors.ResourceError`."""

    def room(self) -> int:
        """How many more tasks it takes now without letting them wait for long."""

    def submit(self, task: Task) -> None:
        """Take a task."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        """The tasks that have ended; waits up to ``timeout_s`` for the first."""

    def workers(self) -> int:
        """How many workers are ready."""

    def close(self) -> None:
        """Stop every worker; tasks in flight are abandoned."""


class Reply(NamedTuple):
    """What a worker says about a pack: either what it gave or what went wrong."""

    place: Place
    started_at: float
    finished_at: float
    finished: Finished | None
    error: str | None

    def outcome(self, task: Task) -> Outcome:
        """The end of the task whose pack it was."""
        return Outcome(
            task,
            "finished" if self.error is None else "failed",
            self.place,
            self.finished,
            self.error,
            self.started_at,
            self.finished_at,
        )


def train(worker: Worker, pack: Pack, members: Sequence[Member]) -> Reply:
    """Train a pack; an exception is its own failure, not the worker's."""
    started = time.time()
    try:
        finished = worker.train(pack.arm, pack.model, members)
        return Reply(worker.place, started, time.time(), finished, None)
    except Exception as error:
        return Reply(worker.place, started, time.time(), None, describe(error))


def describe(error: BaseException) -> str:
    """An exception in one line, at most 500 characters."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:500]
