"""What the driver asks of whoever does the work: packs of runs go out as tasks, and come back as outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from service.spec.plan import Pack, PlannedRun
from trainers.config import TrainConfig

if TYPE_CHECKING:
    from trainers.records import Result


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """All that a worker must know of its study."""

    configs: tuple[TrainConfig, ...]  # by model
    trainer: str = "t1t2"
    data_hash: str | None = None  # of the study's data; None: not checked
    storage: str | None = None  # where checkpoints are kept
    lease: int = 0  # the number of the driver's lease: once there is a higher one, no checkpoint is kept; 0: any time
    checkpoint_every: int | None = None  # inner steps
    threads: int | None = None
    device: str = "cpu"


class Place(NamedTuple):
    """Where a worker runs."""

    node_id: str = ""
    node_ip: str = ""
    device: str = ""
    pid: int = 0


class Task(NamedTuple):
    """One attempt at a pack."""

    number: int  # unique within a driver
    pack: Pack
    runs: tuple[PlannedRun, ...]
    attempt: int
    alone: bool = False  # give it a worker to itself: an earlier attempt was lost, perhaps by this pack's own doing


class Trained(NamedTuple):
    """What the training of a pack gave: a result for each of its runs, and the points of all of them as columns."""

    results: list[Result]
    points: dict[str, list[Any]]  # member (the position in the pack), step, t1_loss, t2_loss, two for each name


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task whose pack was trained. Times are seconds since the epoch."""

    task: Task
    place: Place
    started_at: float
    finished_at: float
    trained: Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A task whose training raised an exception. Its worker goes on."""

    task: Task
    place: Place
    started_at: float
    finished_at: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A task whose worker died, or was stopped."""

    task: Task
    place: Place
    finished_at: float  # when the loss was noticed
    error: str
    sole: bool = True  # whether the worker had no other task, so that no other one can have been the cause


Outcome = Finished | Failed | Lost
Notice = Callable[[str, str, dict[str, object]], None]  # an event: kind, message, fields


class Executor(Protocol):
    """Trains packs somewhere. All methods are called from the driver's thread.

    ``tests/service/executors/conformance.py`` holds what every executor must do.
    """

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
        """Stop every worker. Tasks in flight are abandoned: they never come back."""
