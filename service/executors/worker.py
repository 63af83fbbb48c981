"""What an actor does with a pack: load the problem once, train, keep checkpoints, hand back plain values."""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import StudyError
from service.spec.plan import Member
from service.spec.study_spec import digest
from service.storage.files import open_storage
from trainers.config import TrainConfig

if TYPE_CHECKING:
    from trainers import Problem
    from trainers.records import Checkpoint, Point, Record, Result

log = logging.getLogger(__name__)
Trainer = Callable[..., Iterable["Record"]]


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker must know of its study."""

    configs: tuple[TrainConfig, ...]  # by model
    trainer: str = "t1t2"
    data_hash: str | None = None  # of the study's data; None: not checked
    storage: str | None = None  # where checkpoints are kept
    checkpoint_every: int | None = None  # inner steps
    threads: int | None = None
    device: str = "cpu"


class Place(NamedTuple):
    """Where a worker runs."""

    node_id: str = ""
    node_ip: str = ""
    device: str = ""
    pid: int = 0


class Finished(NamedTuple):
    """A trained pack: one result for each member, and all members' points as columns."""

    results: list[Result]
    points: dict[str, list[Any]]  # member, step, t1_loss, t2_loss, and two for each name


class Worker:
    """Trains packs, one at a time. Problems are loaded once and kept."""

    def __init__(self, setup: WorkerSetup, node_id: str = "", node_ip: str = "127.0.0.1") -> None:
        self.setup = setup
        self._node_id, self._node_ip = node_id, node_ip
        self._problems: dict[int, Problem] = {}
        self._storage = open_storage(setup.storage) if setup.storage and setup.checkpoint_every else None
        if setup.threads:
            import torch

            torch.set_num_threads(setup.threads)

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

    def train(self, arm: str, model: int, members: Sequence[Member]) -> Finished:
        """Train one pack, from its last checkpoint if there is one."""
        from trainers.records import Checkpoint, Point
        from trainers.records import Member as Trained

        config = self.setup.configs[model]
        name = checkpoint_name(members)
        resume, points = self._load(name)
        finished = Finished([], points)
        trained = [Trained(member.seed, member.initial) for member in members]
        for record in self._trainer(model)(
            config, trained, online=arm == "online", checkpoint_every=self.setup.checkpoint_every, resume=resume
        ):
            if isinstance(record, Point):
                add_point(finished.points, record)
            elif isinstance(record, Checkpoint):
                self._save(name, record, finished.points)
            else:
                finished.results.append(record)
        if sorted(result.member for result in finished.results) != list(range(len(members))):
            raise RuntimeError(
                f"the trainer gave results for members {[r.member for r in finished.results]} "
                f"of a pack of {len(members)}: must be one for each"
            )
        finished.results.sort(key=lambda result: result.member)
        return finished

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
        loaded = problem
        return lambda config, members, **options: train(loaded, config, members, **options)

    @cached_property
    def _own_trainer(self) -> Trainer:
        return load_function(self.setup.trainer)

    def _load(self, name: str) -> tuple[Checkpoint | None, dict[str, list[Any]]]:
        if self._storage is None:
            return None, {}
        from trainers.checkpoint import loads

        try:
            with zipfile.ZipFile(io.BytesIO(self._storage.read(name))) as archive:
                return loads(archive.read("checkpoint.safetensors")), json.loads(archive.read("points.json"))
        except FileNotFoundError:
            return None, {}
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            log.warning("checkpoint %s is unusable (%s): its pack starts again", name, error)
            return None, {}

    def _save(self, name: str, checkpoint: Checkpoint, points: dict[str, list[Any]]) -> None:
        if self._storage is None:
            return
        from trainers.checkpoint import dumps

        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:  # the points so far belong to it; its CRCs show a damaged file
            archive.writestr("points.json", json.dumps(points))
            archive.writestr("checkpoint.safetensors", dumps(checkpoint))
        self._storage.write(name, content.getvalue())


def checkpoint_name(members: Sequence[Member]) -> str:
    """The checkpoint file of a pack: the same for every attempt at the same runs."""
    return f"checkpoints/{digest([member.run_id for member in members])[:20]}.zip"


def add_point(columns: dict[str, list[Any]], point: Point) -> None:
    """Append a point to columns."""
    row: dict[str, Any] = {
        "member": point.member,
        "step": point.step,
        "t1_loss": point.t1_loss,
        "t2_loss": point.t2_loss,
        **point.hyperparameters,
    }
    row |= {f"hypergradient_{name}": value for name, value in point.hypergradient.items()}
    for name, value in row.items():
        columns.setdefault(name, []).append(value)


def load_function(reference: str) -> Trainer:
    """The function that ``module:function`` names; raises :class:`StudyError`."""
    module, _, name = reference.partition(":")
    try:
        function: Trainer = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise StudyError(f"trainer = {reference!r}: cannot be imported ({error})") from None
    return function
