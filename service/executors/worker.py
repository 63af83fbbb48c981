"""What a worker does with a pack: load the problem once, train, keep checkpoints, hand back plain values."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from service.errors import DamagedFileError, StorageError, StudyError
from service.executors.base import Failed, Finished, Place, Task, Trained, WorkerSetup
from service.executors.checkpoints import checkpoint_name, packed, unpacked
from service.executors.received import Received, reason
from service.spec.plan import PlannedRun
from service.storage.files import Storage, open_storage
from service.storage.lease_record import check_number
from trainers.config import ConfigError
from trainers.references import resolve

if TYPE_CHECKING:
    from trainers import Problem
    from trainers.records import Checkpoint, Record

log = logging.getLogger(__name__)
Trainer = Callable[..., Iterable["Record"]]


class Job(NamedTuple):
    """What a worker is told of a task: little, because it is sent through the cluster."""

    model: int
    tuned: bool
    runs: tuple[PlannedRun, ...]


def job_of(task: Task) -> Job:
    """The job that a task stands for."""
    return Job(task.pack.model, task.pack.arm.tuned, task.runs)


class Reply(NamedTuple):
    """What a worker says about a job: what its training gave, or the error that ended it."""

    place: Place
    started_at: float
    finished_at: float
    result: Trained | str
    silence_s: float = 0.0  # the longest time between two signs of life: its begin, its records, its end

    def outcome(self, task: Task) -> Finished | Failed:
        """The end of the task whose job it was."""
        place, started, finished, result, _ = self
        if isinstance(result, str):
            return Failed(task=task, place=place, started_at=started, finished_at=finished, error=result)
        return Finished(task=task, place=place, started_at=started, finished_at=finished, trained=result)


class Worker:
    """Trains packs, one at a time. Problems are loaded once and kept."""

    def __init__(self, setup: WorkerSetup, node_id: str = "", node_ip: str = "127.0.0.1") -> None:
        self.setup = setup
        self._node_id, self._node_ip = node_id, node_ip
        self._problems: dict[int, Problem] = {}
        self.signs_of_life = 0  # records yielded and jobs ended
        self._last_sign = self._silence_s = 0.0
        self._storage = _checkpoints(setup) if setup.storage and setup.checkpoint_every else None
        if setup.threads:
            import torch

            torch.set_num_threads(min(setup.threads, cores()))
        if setup.device != "cpu":
            import torch

            # By default cuDNN rounds the factors of convolutions in float32 to ten bits (TF32). A study on a GPU would
            # differ from one on a CPU in the fourth digit, where float32 keeps seven. Matrix products are not rounded
            # like that unless they are told to be.
            torch.backends.cudnn.allow_tf32 = False

    @cached_property
    def place(self) -> Place:
        """Where this worker runs."""
        device = self.setup.device
        if device != "cpu":
            import torch

            device = f"{device} {torch.cuda.get_device_name()}"
        return Place(self._node_id, self._node_ip, device, os.getpid())

    def prepare(self) -> None:
        """Import and load everything now rather than with the first pack; raises what is wrong with it."""
        for model in range(len(self.setup.configs)):
            self._trainer(model)

    def attempt(self, job: Job) -> Reply:
        """Train a job; an exception in its training is part of the reply."""
        started = time.time()
        self._last_sign, self._silence_s = time.monotonic(), 0.0
        result: Trained | str
        try:
            result = self.train(job)
        except KeyboardInterrupt:  # Ctrl-C, where the worker is in the driver's own process
            raise
        except BaseException as error:  # a user's trainer may also call sys.exit
            result = reason(error)
        self._give_sign_of_life()
        return Reply(self.place, started, time.time(), result, self._silence_s)

    def train(self, job: Job) -> Trained:
        """Train a job, from its last checkpoint if there is one; raises what the trainer raises."""
        from trainers.records import Checkpoint, Member

        name = checkpoint_name(job.runs)
        resume, points = self._load(name)
        received = Received(job.runs, points)
        for record in self._trainer(job.model)(
            self.setup.configs[job.model],
            [Member(run.seed, run.initial) for run in job.runs],
            online=job.tuned,
            checkpoint_every=self.setup.checkpoint_every,
            resume=resume,
        ):
            self._give_sign_of_life()
            if isinstance(record, Checkpoint):
                self._save(name, record, received.points())
            else:
                received.add(record)
        return received.trained()

    def _give_sign_of_life(self) -> None:
        now = time.monotonic()
        self._silence_s = max(self._silence_s, now - self._last_sign)
        self._last_sign = now
        self.signs_of_life += 1

    def _trainer(self, model: int) -> Trainer:
        if self.setup.trainer != "t1t2":
            return self._own_trainer
        from trainers import load_problem, train

        problem = self._problems.get(model)
        if problem is None:
            problem = load_problem(self.setup.configs[model], self.setup.device)
            if self.setup.data_hash not in (None, problem.data_hash):
                raise RuntimeError(
                    f"the data here have the hash {problem.data_hash}, the study's have "
                    f"{self.setup.data_hash}: every node must hold the same files"
                )
            self._problems[model] = problem
        return partial(train, problem)

    @cached_property
    def _own_trainer(self) -> Trainer:
        return load_trainer(self.setup.trainer)

    def _load(self, name: str) -> tuple[Checkpoint | None, dict[str, list[Any]]]:
        if self._storage is None:
            return None, {}
        try:
            return unpacked(name, self._storage.read(name))
        except FileNotFoundError:
            return None, {}
        except (DamagedFileError, StorageError) as error:
            log.warning("checkpoint %s: its pack starts again", error)
            return None, {}

    def _save(self, name: str, checkpoint: Checkpoint, points: dict[str, list[Any]]) -> None:
        """Keep a checkpoint. A storage that refuses it fails no training: only its next attempt begins further back."""
        if self._storage is None:
            return
        content = packed(name, checkpoint, points)
        try:
            self._storage.write(name, content)
        except StorageError as error:
            log.warning("a checkpoint is not kept: %s", error)


def cores() -> int:
    """How many cores this process may use. More threads than that would only wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_trainer(reference: str) -> Trainer:
    """The trainer of the user's own that ``module:function`` names; raises :class:`StudyError`."""
    try:
        return cast(Trainer, resolve(reference, "trainer"))
    except ConfigError as error:
        raise StudyError(str(error)) from None


def _checkpoints(setup: WorkerSetup) -> Storage:
    """Where checkpoints are kept. Each is written only while the driver whose worker this is holds the study."""
    storage = open_storage(str(setup.storage))
    return storage.fenced(lambda: check_number(storage, setup.lease)) if setup.lease else storage
