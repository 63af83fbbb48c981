"""Packs trained by long-lived Ray actors, each reused for many runs. The cluster may grow and shrink meanwhile."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from service.errors import StudyError
from service.executors.base import Lost, Notice, Outcome, Place, Task, WorkerSetup
from service.executors.ray_cluster import Cluster, first_line
from service.executors.worker import Job, Reply, Worker, job_of
from service.spec.execution import ExecutionConfig
from trainers.config import ConfigError

CALL_S = 0.2  # how long one call to an actor should take: very short packs are sent several at once
LARGEST_CALL = 256
QUEUE_UP_TO_S = 5.0  # an actor gets a second call while one is running only if packs are shorter than this
POLL_S = 2.0  # how often to look at the cluster's nodes
START_FAILURES = 3  # in a row, with no actor working, before the study ends with the reason


class RayWorker:
    """The process of an actor: a worker that knows its node."""

    def __init__(self, setup: WorkerSetup) -> None:
        context = ray.get_runtime_context()
        self._worker = Worker(setup, context.get_node_id(), str(ray.util.get_node_ip_address()))  # type: ignore[no-untyped-call]

    def prepare(self) -> Place:
        """Import and load everything; where this is."""
        self._worker.prepare()
        return self._worker.place

    def run(self, jobs: list[Job]) -> list[Reply]:
        """Train several jobs, one after the other."""
        return [self._worker.attempt(job) for job in jobs]


@dataclass(eq=False)
class Actor:
    """What the driver's process knows of an actor."""

    handle: Any
    starting: ray.ObjectRef[Any] | None  # until it is ready
    place: Place = field(default_factory=Place)
    calls: deque[tuple[ray.ObjectRef[Any], list[Task]]] = field(default_factory=deque)  # oldest first
    draining: bool = False  # its node is leaving, so it gets no more work

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return self.starting is None and not self.draining

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
        """What it has been asked and has not answered."""
        return [self.starting] if self.starting is not None else [ref for ref, _ in self.calls]

    def call(self, tasks: list[Task]) -> None:
        """Send it several tasks at once."""
        self.calls.append((self.handle.run.remote([job_of(task) for task in tasks]), tasks))


class RayExecutor:
    """An :class:`Executor` on the Ray cluster at ``address``, or on one of this process's own."""

    def __init__(self, execution: ExecutionConfig, address: str | None = None) -> None:
        self._cluster = Cluster(execution, address)
        self._actors: list[Actor] = []
        self._queue: deque[Task] = deque()
        self._pack_s: float | None = None  # moving average of a pack's duration
        self._next_poll = 0.0
        self._next_start = 0.0
        self._start_failures = 0

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """Connect, check that some node can hold an actor, and start the first actors."""
        self._setup, self._notice = setup, notice
        self._cluster.connect(notice)
        need = self._cluster.need
        self._class: Any = ray.remote(RayWorker).options(
            num_cpus=need["CPU"],
            num_gpus=need.get("GPU", 0),
            memory=need.get("memory"),
            max_restarts=0,
            max_task_retries=0,
        )
        self._look_at_cluster()

    def room(self) -> int:
        """Enough for every ready actor to have its calls filled."""
        load = sum(actor.load for actor in self._actors) + len(self._queue)
        return self._calls_each() * self._tasks_a_call() * self.workers() - load

    def submit(self, task: Task) -> None:
        """Queue a task; :meth:`wait` sends it."""
        self._queue.append(task)

    def workers(self) -> int:
        """Actors that are ready and stay."""
        return sum(actor.ready for actor in self._actors)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Send what is queued, then gather what has ended."""
        if time.monotonic() >= self._next_poll:
            self._look_at_cluster()
        self._send()
        waiting = [ref for actor in self._actors for ref in actor.refs]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        done = set(ready)
        outcomes: list[Outcome] = []
        for actor in [actor for actor in self._actors if not done.isdisjoint(actor.refs)]:
            outcomes += self._gather(actor, done)
        return outcomes

    def close(self) -> None:
        """Kill the actors; leave the cluster as it was found."""
        for actor in list(self._actors):
            self._dismiss(actor)
        self._queue.clear()
        self._next_poll = float("inf")
        self._cluster.disconnect()

    # -- calls

    def _calls_each(self) -> int:
        """Calls that an actor may have at once: a second one bridges the time between two short packs."""
        return 2 if self._pack_s is not None and self._pack_s < QUEUE_UP_TO_S else 1

    def _tasks_a_call(self) -> int:
        if self._pack_s is None:
            return 1
        return max(1, min(LARGEST_CALL, int(CALL_S / max(self._pack_s, 1e-6))))

    def _send(self) -> None:
        """Give queued tasks to the actors with the fewest."""
        if not self._queue:
            return
        most = self._calls_each()
        free = [
            (len(actor.calls), actor.load, number)
            for number, actor in enumerate(self._actors)
            if len(actor.calls) < most and actor.takes_calls
        ]
        heapify(free)  # so that a task costs the logarithm of the number of actors, not their number
        while self._queue and free:
            calls, _, number = free[0]
            if self._queue[0].alone and calls:
                return  # it waits for an idle actor, and so does all that is queued behind it
            actor = self._actors[number]
            actor.call(self._next_call(len(free)))
            if len(actor.calls) < most and actor.takes_calls:
                heapreplace(free, (len(actor.calls), actor.load, number))
            else:
                heappop(free)

    def _next_call(self, actors: int) -> list[Task]:
        """Take the tasks of one call from the queue, which ``actors`` actors share."""
        tasks = [self._queue.popleft()]
        most = min(self._tasks_a_call(), -(-len(self._queue) // actors))
        while self._queue and len(tasks) < most and not tasks[0].alone and not self._queue[0].alone:
            tasks.append(self._queue.popleft())
        return tasks

    def _gather(self, actor: Actor, done: set[ray.ObjectRef[Any]]) -> list[Outcome]:
        """What an actor's finished calls gave; if it has died, its other calls are lost with it."""
        outcomes: list[Outcome] = []
        try:
            if actor.starting is not None:
                actor.place = ray.get(actor.starting)
                actor.starting = None
                self._start_failures = 0
                self._notice("actor_started", "", {"node": actor.place.node_ip, "pid": actor.place.pid})
            while actor.calls and actor.calls[0][0] in done:
                ref, tasks = actor.calls[0]
                replies: list[Reply] = ray.get(ref)
                self._learn_duration(replies)
                outcomes += [reply.outcome(task) for task, reply in zip(tasks, replies, strict=True)]
                actor.calls.popleft()
        except RayError as error:
            outcomes += self._lost(actor, error)
        else:
            if actor.draining and not actor.calls:
                self._dismiss(actor)
        return outcomes

    def _lost(self, actor: Actor, error: RayError) -> list[Lost]:
        """The tasks of an actor that has died."""
        self._dismiss(actor)
        if actor.starting is not None:
            self._failed_to_start(error)
        else:
            self._notice("actor_lost", _reason(error), {"node": actor.place.node_ip, "pid": actor.place.pid})
        self._next_poll = 0.0  # replace it now
        sole, at = actor.load == 1, time.time()
        return [
            Lost(task=task, place=actor.place, finished_at=at, error=_reason(error), sole=sole)
            for _, tasks in actor.calls
            for task in tasks
        ]

    def _learn_duration(self, replies: list[Reply]) -> None:
        mean = sum(reply.finished_at - reply.started_at for reply in replies) / len(replies)
        self._pack_s = mean if self._pack_s is None else 0.8 * self._pack_s + 0.2 * mean

    def _failed_to_start(self, error: RayError) -> None:
        """Try again later; raises StudyError where that is hopeless."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        self._notice("actor_lost", f"did not start: {_reason(cause or error)}", {})
        self._start_failures += 1
        self._next_start = time.monotonic() + min(30.0, 0.5 * 2**self._start_failures)
        hopeless = self._start_failures >= START_FAILURES or isinstance(cause, ConfigError | StudyError)
        if hopeless and self.workers() == 0:
            raise StudyError(f"no actor starts: {_reason(cause or error)}") from None

    # -- actors and nodes

    def _look_at_cluster(self) -> None:
        """Leave nodes that are draining, use new ones."""
        self._next_poll = time.monotonic() + POLL_S
        leaving = self._cluster.look()
        for actor in list(self._actors):
            if actor.place.node_id in leaving and not actor.draining:
                actor.draining = True
                if not actor.calls:
                    self._dismiss(actor)
        wanted = self._cluster.room_for_actors()
        kept = [actor for actor in self._actors if not actor.draining]
        if time.monotonic() >= self._next_start:
            for _ in range(wanted - len(kept)):
                handle = self._class.remote(self._setup)
                self._actors.append(Actor(handle, handle.prepare.remote()))
        for actor in [actor for actor in kept if actor.starting is not None][: max(0, len(kept) - wanted)]:
            self._dismiss(actor)  # it waits for a node that is gone

    def _dismiss(self, actor: Actor) -> None:
        self._actors.remove(actor)
        try:
            ray.kill(actor.handle)
        except (RayError, ValueError) as error:  # the connection is gone, and the actor with it
            self._notice("actor_lost", _reason(error), {})


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:300]
