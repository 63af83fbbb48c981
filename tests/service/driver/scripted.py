"""A driver whose workers are a test: it says how each task ends, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from service import StudySpec
from service.driver.driver import Driver
from service.driver.run import _recover
from service.executors.base import Failed, Lost, Notice, Outcome, Place, Task, WorkerSetup
from service.executors.worker import Worker, job_of
from service.ledger.shards import Ledger
from service.records.events import Event, EventLog
from service.records.manifest import Manifest, find_study
from service.spec.plan import make_plan
from service.storage.files import Storage
from service.storage.lease import Lease
from tests.service.studies import toy_spec

PLACE = Place("node", "10.0.0.1", "cpu", 7)


class ScriptedExecutor:
    """Holds tasks until the test says how they end. A task that finishes gives what a worker would have given."""

    def __init__(self, spec: StudySpec, room: int = 2) -> None:
        self.tasks: list[Task] = []  # in flight, oldest first
        self.submitted: list[Task] = []
        self._worker = Worker(WorkerSetup(configs=spec.train_configs(), trainer=spec.trainer))
        self._room = room
        self._ended: list[Outcome] = []

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """It needs no preparation."""

    def room(self) -> int:
        return self._room - len(self.tasks)

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self.submitted.append(task)

    def wait(self, timeout_s: float) -> list[Outcome]:
        ended, self._ended = self._ended, []
        self.tasks = [task for task in self.tasks if task not in [outcome.task for outcome in ended]]
        return ended

    def workers(self) -> int:
        return 1

    def close(self) -> None:
        self.tasks.clear()

    def finish(self, task: Task) -> None:
        """The task is trained."""
        self._ended.append(self._worker.attempt(job_of(task)).outcome(task))

    def fail(self, task: Task) -> None:
        """The task's training raises an exception."""
        self._ended.append(
            Failed(task=task, place=PLACE, started_at=1.0, finished_at=2.0, error="RuntimeError: told to")
        )

    def lose(self, task: Task, sole: bool = True) -> None:
        """The task's worker dies."""
        self._ended.append(Lost(task=task, place=PLACE, finished_at=2.0, error="the node died", sole=sole))


def small_spec(**values: Any) -> StudySpec:
    """Two configurations and two cells of one model, in all arms: 8 runs."""
    return toy_spec(
        **{
            "configurations": 2,
            "models": [{"hidden": [8]}],
            "grid": {"points": {"log10_l2": 2}, "replicates": 1},
            "execution": {"loss_retries": 1, "failure_retries": 1},
        }
        | values
    )


def open_driver(
    storage: Storage, executor: ScriptedExecutor, spec: StudySpec, on_event: Callable[[Event], None] | None = None
) -> Driver:
    """A driver of the study in ``storage``, new or as it was left, as :func:`service.run_study` makes it."""
    spec, stored = find_study(spec, storage)
    plan = make_plan(spec, stored.pack_size if stored else None)
    manifest = (stored or Manifest.of(plan)).extended(plan)
    manifest.save(storage)
    log = EventLog(storage, on_event)
    ledger = Ledger(storage, plan)
    return Driver(
        plan,
        ledger,
        executor,
        recovered=_recover(ledger, log, "driver of before", ()),
        log=log,
        lease=Lease(storage),
        on_extended=lambda larger: manifest.extended(larger).save(storage),
    )


def rows(storage: Storage, driver: Driver, table: str) -> list[dict[str, Any]]:
    """The rows of a table that are committed."""
    ledger = Ledger(storage, driver.plan)
    tables = [ledger.read(file) for file in ledger.inputs(table)]
    found: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist() if tables else []
    return found
