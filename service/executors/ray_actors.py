"""Packs trained by long-lived Ray actors, each reused for many runs. The cluster may grow and shrink meanwhile."""

from __future__ import annotations

import time
from collections import deque
from heapq import heapify, heappop, heapreplace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from service.errors import StudyError
from service.executors.base import Lost, Notice, Outcome, Task, WorkerSetup
from service.executors.ray_actor import WATCH, Actor, RayWorker
from service.executors.ray_cluster import Cluster, first_line
from service.executors.watch import Clock, Patience, Pulse
from service.executors.worker import Reply
from service.spec.execution import ExecutionConfig
from trainers.config import ConfigError

CALL_S = 0.2  # how long one call to an actor should take: very short packs are sent several at once
LARGEST_CALL = 256
QUEUE_UP_TO_S = 5.0  # an actor gets a second call while one is running only if packs are shorter than this
POLL_S = 2.0  # how often to look at the cluster's nodes
LISTEN_S = 1.0  # how often to look for actors that have long been silent
# In a row, with no actor working, before the study ends with the reason: actors that say why they do not start, or
# hang; and actors that die as they start, as all do on a node that is lost.
START_FAILURES, START_DEATHS = 3, 12


class RayExecutor:
    """An :class:`Executor` on the Ray cluster at ``address``, or on one of this process's own."""

    def __init__(self, execution: ExecutionConfig, address: str | None = None) -> None:
        self._cluster = Cluster(execution, address)
        self._actors: list[Actor] = []
        self._queue: deque[Task] = deque()
        self._pack_s: float | None = None  # moving average of a pack's duration
        self._next_poll = 0.0
        self._next_start = 0.0
        self._next_listen = 0.0
        self._start_failures = self._start_deaths = 0
        self._patience = Patience(execution.hung_after_s, execution.load_timeout_s)
        self._clock = Clock(time.monotonic())

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        """Connect, check that some node can hold an actor, and start the first actors."""
        self._setup, self._notice = setup, notice
        self._cluster.connect(notice)
        need = self._cluster.need
        self._class: Any = ray.remote(concurrency_groups={WATCH: 1})(RayWorker).options(  # type: ignore[call-overload]
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
        hung = self._listen()
        self._send()
        if hung:
            return hung
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
            actor.call(self._next_call(len(free)), self._clock.time)
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
                self._start_failures = self._start_deaths = 0
                actor.pulse.begins(self._clock.time)
                self._notice("actor_started", "", {"node": actor.place.node_ip, "pid": actor.place.pid})
            while actor.calls and actor.calls[0][0] in done:
                ref, tasks = actor.calls[0]
                replies: list[Reply] = ray.get(ref)
                self._learn(tasks, replies)
                outcomes += [reply.outcome(task) for task, reply in zip(tasks, replies, strict=True)]
                actor.ended_call(self._clock.time)
        except RayError as error:
            outcomes += self._died(actor, error)
        else:
            if actor.draining and not actor.calls:
                self._dismiss(actor)
        return outcomes

    def _listen(self) -> list[Outcome]:
        """The tasks of actors that hang: of those that have been silent for longer than their work allows."""
        if time.monotonic() < self._next_listen:
            return []
        self._next_listen = time.monotonic() + LISTEN_S
        now = self._clock.look(time.monotonic())
        lost: list[Outcome] = []
        for actor in list(self._actors):
            try:
                silence_s = actor.silence(now, self._patience)
            except RayError:
                continue  # it has died, which its calls tell
            if silence_s is not None and (actor.up or self._is_stuck(actor)):
                lost += self._lost(actor, f"hung: no sign of life for {silence_s:.0f} s")
        return lost

    def _is_stuck(self, actor: Actor) -> bool:
        """Whether an actor that was never heard of hangs; one that waits for room on a node does not."""
        if actor.placed:
            return True
        actor.placed = self._cluster.has_process(actor.handle)
        actor.pulse.begins(self._clock.time)
        return False

    def _died(self, actor: Actor, error: RayError) -> list[Lost]:
        """The tasks of an actor that has died, of which Ray says why."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        hopeless = isinstance(cause, ConfigError | StudyError)
        return self._lost(actor, _reason(cause or error), hopeless=hopeless, died=cause is None)

    def _lost(self, actor: Actor, reason: str, *, hopeless: bool = False, died: bool = False) -> list[Lost]:
        """End an actor; the tasks that it had.

        ``hopeless``: if it did not start, another one would not either. ``died``: of something outside of its own code.
        """
        self._dismiss(actor)
        at = {"node": actor.place.node_ip, "pid": actor.place.pid}
        if actor.starting is not None:
            self._notice("actor_lost", f"did not start: {reason}", at)
            self._failed_to_start(reason, hopeless=hopeless, died=died)
        else:
            self._notice("actor_lost", reason, at)
        self._next_poll = 0.0  # replace it now
        sole, finished_at = actor.load == 1, time.time()
        return [
            Lost(task=task, place=actor.place, finished_at=finished_at, error=reason, sole=sole)
            for _, tasks in actor.calls
            for task in tasks
        ]

    def _learn(self, tasks: list[Task], replies: list[Reply]) -> None:
        mean = sum(reply.finished_at - reply.started_at for reply in replies) / len(replies)
        self._pack_s = mean if self._pack_s is None else 0.8 * self._pack_s + 0.2 * mean
        for task, reply in zip(tasks, replies, strict=True):
            self._patience.learn(task, reply.silence_s)

    def _failed_to_start(self, reason: str, *, hopeless: bool, died: bool) -> None:
        """Try again later; raises StudyError where that is hopeless."""
        self._start_failures += not died
        self._start_deaths += died
        in_a_row = self._start_failures + self._start_deaths
        self._next_start = time.monotonic() + min(30.0, 0.5 * 2**in_a_row)
        too_often = self._start_failures >= START_FAILURES or self._start_deaths >= START_DEATHS
        if (hopeless or too_often) and self.workers() == 0:
            raise StudyError(f"no actor starts: {reason}")

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
                self._actors.append(self._new_actor())
        for actor in [actor for actor in kept if actor.starting is not None][: max(0, len(kept) - wanted)]:
            self._dismiss(actor)  # it waits for a node that is gone

    def _new_actor(self) -> Actor:
        handle = self._class.remote(self._setup)
        actor = Actor(handle, handle.prepare.remote(), Pulse(self._clock.time))
        actor.pulse.asks(handle.signs.remote(), self._clock.time)  # the answer tells that it is up
        return actor

    def _dismiss(self, actor: Actor) -> None:
        self._actors.remove(actor)
        try:
            ray.kill(actor.handle)
        except (RayError, ValueError) as error:  # the connection is gone, and the actor with it
            self._notice("actor_lost", _reason(error), {})


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:300]
