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
from service.executors.base import Notice, Outcome, Reply, Task, train
from service.executors.ray_cluster import Cluster
from service.executors.worker import Place, Worker, WorkerSetup
from service.spec.execution import ExecutionConfig
from service.spec.plan import Member, Pack
from trainers.config import ConfigError

CALL_S = 0.2  # how long one call to an actor should take: very short packs are sent several at once
LARGEST_CALL = 256
QUEUE_UP_TO_S = 5.0  # an actor gets a second call while one is running only if packs are shorter than this
POLL_S = 2.0  # how often to look at the cluster's nodes
START_FAILURES = 3  # in a row, with no actor working, before the study ends with the reason


class RayWorker:
    """The actor: a worker that knows its node."""

    def __init__(self, setup: WorkerSetup) -> None:
        context = ray.get_runtime_context()
        self._worker = Worker(setup, context.get_node_id(), str(ray.util.get_node_ip_address()))  # type: ignore[no-untyped-call]

    def prepare(self) -> Place:
        """Import and load everything; where this is."""
        self._worker.prepare()
        return self._worker.place

    def run(self, packs: list[tuple[Pack, tuple[Member, ...]]]) -> list[Reply]:
        """Train several packs, one after the other."""
        return [train(self._worker, pack, members) for pack, members in packs]


@dataclass
class _Actor:
    handle: Any
    starting: ray.ObjectRef[Any] | None  # until it is ready
    place: Place = field(default_factory=Place)
    calls: deque[tuple[ray.ObjectRef[Any], list[Task]]] = field(default_factory=deque)
    draining: bool = False

    def load(self) -> int:
        return sum(len(tasks) for _, tasks in self.calls)

    def is_alone(self) -> bool:
        return bool(self.calls) and self.calls[0][1][0].alone


class RayExecutor:
    """An :class:`Executor` on the Ray cluster at ``address``, or on one of this process's own."""

    def __init__(self, execution: ExecutionConfig, address: str | None = None) -> None:
        self._execution = execution
        self._cluster = Cluster(execution, address)
        self._actors: list[_Actor] = []
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
        self._poll()

    def room(self) -> int:
        """Enough for every ready actor to have its calls filled."""
        return self._depth() * self._chunk() * self.workers() - sum(a.load() for a in self._actors) - len(self._queue)

    def submit(self, task: Task) -> None:
        """Queue a task; :meth:`wait` sends it."""
        self._queue.append(task)

    def workers(self) -> int:
        """Actors that are ready and stay."""
        return sum(actor.starting is None and not actor.draining for actor in self._actors)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Send what is queued, then gather what has ended."""
        if time.monotonic() >= self._next_poll:
            self._poll()
        self._send()
        waiting = [ref for actor in self._actors for ref in self._refs(actor)]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        done = set(ready)
        outcomes: list[Outcome] = []
        for actor in [a for a in self._actors if not done.isdisjoint(self._refs(a))]:
            outcomes += self._gather(actor, done)
        return outcomes

    def close(self) -> None:
        """Kill the actors; leave the cluster as it was found."""
        for actor in self._actors:
            self._kill(actor)
        self._actors.clear()
        self._cluster.disconnect()

    # -- calls

    def _depth(self) -> int:
        return 2 if self._pack_s is not None and self._pack_s < QUEUE_UP_TO_S else 1

    def _chunk(self) -> int:
        if self._pack_s is None:
            return 1
        return max(1, min(LARGEST_CALL, int(CALL_S / max(self._pack_s, 1e-6))))

    def _send(self) -> None:
        """Give queued tasks to the actors with the fewest."""
        if not self._queue:
            return
        depth = self._depth()
        free = [
            (len(actor.calls), actor.load(), number)
            for number, actor in enumerate(self._actors)
            if actor.starting is None and not actor.draining and len(actor.calls) < depth and not actor.is_alone()
        ]
        heapify(free)  # so that a task costs the logarithm of the number of actors, not their number
        while self._queue and free:
            if self._queue[0].alone and free[0][0]:
                return  # it waits for an idle actor, and all that is queued behind it
            actor = self._actors[free[0][2]]
            tasks = [self._queue.popleft()]
            fair = -(-len(self._queue) // len(free))
            while (
                self._queue
                and len(tasks) < min(self._chunk(), fair)
                and not tasks[0].alone
                and not self._queue[0].alone
            ):
                tasks.append(self._queue.popleft())
            actor.calls.append((actor.handle.run.remote([(task.pack, task.members) for task in tasks]), tasks))
            if len(actor.calls) < depth and not tasks[0].alone:
                heapreplace(free, (len(actor.calls), actor.load(), free[0][2]))
            else:
                heappop(free)

    @staticmethod
    def _refs(actor: _Actor) -> list[ray.ObjectRef[Any]]:
        return [actor.starting] if actor.starting is not None else [ref for ref, _ in actor.calls]

    def _gather(self, actor: _Actor, done: set[ray.ObjectRef[Any]]) -> list[Outcome]:
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
                self._time(replies)
                outcomes += [reply.outcome(task) for task, reply in zip(tasks, replies, strict=True)]
                actor.calls.popleft()
        except RayError as error:
            self._actors.remove(actor)
            self._kill(actor)
            if actor.starting is not None:
                self._failed_to_start(error)
            else:
                self._notice("actor_lost", _reason(error), {"node": actor.place.node_ip, "pid": actor.place.pid})
            lost = [task for _, tasks in actor.calls for task in tasks]
            outcomes += [
                Outcome(task, "lost", actor.place, error=_reason(error), charged=len(lost) == 1) for task in lost
            ]
            self._next_poll = 0.0  # replace it now
        if actor.draining and not actor.calls and actor in self._actors:
            self._actors.remove(actor)
            self._kill(actor)
        return outcomes

    def _time(self, replies: list[Reply]) -> None:
        mean = sum(reply.finished_at - reply.started_at for reply in replies) / len(replies)
        self._pack_s = mean if self._pack_s is None else 0.8 * self._pack_s + 0.2 * mean

    def _failed_to_start(self, error: RayError) -> None:
        cause = error.cause if isinstance(error, RayTaskError) else None
        self._notice("actor_lost", f"did not start: {_reason(cause or error)}", {})
        self._start_failures += 1
        self._next_start = time.monotonic() + min(30.0, 0.5 * 2**self._start_failures)
        hopeless = self._start_failures >= START_FAILURES or isinstance(cause, ConfigError | StudyError)
        if hopeless and self.workers() == 0:
            raise StudyError(f"no actor starts: {_reason(cause or error)}") from None

    # -- actors and nodes

    def _poll(self) -> None:
        """Look at the cluster: leave draining nodes, use new ones."""
        self._next_poll = time.monotonic() + POLL_S
        leaving = self._cluster.look()
        for actor in list(self._actors):
            if actor.place.node_id in leaving and not actor.draining:
                actor.draining = True
                if not actor.calls:
                    self._actors.remove(actor)
                    self._kill(actor)
        wanted = self._cluster.room_for_actors()
        kept = [actor for actor in self._actors if not actor.draining]
        if time.monotonic() >= self._next_start:
            for _ in range(wanted - len(kept)):
                handle = self._class.remote(self._setup)
                self._actors.append(_Actor(handle, handle.prepare.remote()))
        for actor in [actor for actor in kept if actor.starting is not None][: max(0, len(kept) - wanted)]:
            self._actors.remove(actor)  # it waits for a node that is gone
            self._kill(actor)

    def _kill(self, actor: _Actor) -> None:
        try:
            ray.kill(actor.handle)
        except (RayError, ValueError) as error:  # the connection is gone, and the actor with it
            self._notice("actor_lost", _reason(error), {})


def _reason(error: BaseException) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
