"""One actor: what its process does, and what the driver's process knows of it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray

from service.executors.base import Place, Task, WorkerSetup
from service.executors.watch import Patience, Pulse, Signs
from service.executors.worker import Job, Reply, Worker, job_of

WATCH = "watch"  # the name of the thread of an actor that answers while another one trains


class RayWorker:
    """The process of an actor: a worker that knows its node."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        context = ray.get_runtime_context()
        node_ip = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._place = Place(context.get_node_id(), node_ip, "", os.getpid())
        self._worker: Worker | None = None
        self._clock: int | None = None  # of the thread that trains

    def prepare(self) -> Place:
        """Import and load everything; where this is."""
        if hasattr(time, "pthread_getcpuclockid"):  # not on macOS
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._worker = Worker(self._setup, self._place.node_id, self._place.node_ip)
        self._worker.prepare()
        return self._worker.place

    def run(self, jobs: list[Job]) -> list[Reply]:
        """Train several jobs, one after the other, in the thread that has prepared everything."""
        assert self._worker is not None  # `prepare` comes first
        return [self._worker.attempt(job) for job in jobs]

    @ray.method(concurrency_group=WATCH)
    def signs(self) -> Signs:
        """Where this is, and its signs of life so far; answered at once, in another thread."""
        cpu_s = time.process_time() if self._clock is None else time.clock_gettime(self._clock)
        return Signs(self._place, self._worker.signs_of_life if self._worker else 0, cpu_s)


@dataclass(eq=False)
class Actor:
    """What the driver's process knows of an actor. Its answer to the first question tells that it is up."""

    handle: Any
    starting: ray.ObjectRef[Any] | None  # until it is ready
    pulse: Pulse
    place: Place = field(default_factory=Place)
    calls: deque[tuple[ray.ObjectRef[Any], list[Task]]] = field(default_factory=deque)  # oldest first
    draining: bool = False  # its node is leaving, so it gets no more work
    placed: bool = False  # it is known to have a process

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return self.starting is None and not self.draining

    @property
    def up(self) -> bool:
        """Whether it was ever heard of."""
        return bool(self.place.pid)

    @property
    def load(self) -> int:
        """Tasks that it has."""
        return sum(len(tasks) for _, tasks in self.calls)

    @property
    def takes_calls(self) -> bool:
        """Whether it may get a further call: not while it has a task that asked for a worker to itself."""
        return self.ready and not (self.calls and self.calls[0][1][0].alone)

    @property
    def refs(self) -> list[ray.ObjectRef[Any]]:
        """What it has been told to do and has not done."""
        return [self.starting] if self.starting is not None else [ref for ref, _ in self.calls]

    @property
    def at_work_on(self) -> list[Task]:
        """The tasks of the call that it answers next."""
        return self.calls[0][1] if self.calls else []

    def call(self, tasks: list[Task], now: float) -> None:
        """Send it several tasks at once."""
        if not self.calls:
            self.pulse.begins(now)
        self.calls.append((self.handle.run.remote([job_of(task) for task in tasks]), tasks))

    def ended_call(self, now: float) -> None:
        """It has answered the oldest call, and begins the next one."""
        self.calls.popleft()
        self.pulse.begins(now)

    def silence(self, now: float, patience: Patience) -> float | None:
        """For how many seconds it has given no sign of life, if that is too long; asks it where there is doubt.

        Raises what Ray says of an actor that has died.
        """
        pulse, tasks = self.pulse, self.at_work_on
        if not self.refs:
            return None  # it has nothing to do
        if pulse.question is not None and ray.wait([pulse.question], timeout=0)[0]:
            signs: Signs = ray.get(pulse.question)
            if not self.up:
                self.place = signs.place
                pulse.begins(now)  # to prepare itself
            pulse.answers(signs, now, computing_counts=patience.computing_counts(tasks))
        limit_s = patience.limit_s(tasks)
        if pulse.is_due(now, limit_s):
            pulse.asks(self.handle.signs.remote(), now)
        return now - pulse.heard_at if pulse.is_hung(now, limit_s) else None
