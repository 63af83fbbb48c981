"""The driver: keeps bounded work in flight and commits what comes back. It knows no Ray."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator

from service.driver.committer import Committer
from service.driver.meter import Meter
from service.driver.rows import attempt_row
from service.driver.scheduler import Scheduler, about
from service.errors import StudyError
from service.executors.base import Executor, Failed, Finished, Lost, Outcome, Place, Task
from service.executors.received import unsound
from service.ledger.recovery import Recovered, RunState, holds_attempts, recover
from service.ledger.shards import Ledger
from service.records.clock import now
from service.records.events import EventLog
from service.records.progress import Attempts, StudyState, StudyStatus
from service.records.requests import Request, take_requests
from service.spec.plan import Plan, make_plan
from service.storage.lease import Lease

TICK_S = 1.0
WAIT_S = 0.2


class Driver:
    """Runs one study to its end, or until it is told to stop.

    Its :class:`Scheduler` decides what is trained, and what becomes of an outcome; its executor trains.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        executor: Executor,
        *,
        recovered: Recovered,
        log: EventLog,
        lease: Lease,
        on_progress: Callable[[StudyStatus], None] | None = None,
        on_extended: Callable[[Plan], None] = lambda plan: None,
    ) -> None:
        """``on_extended`` is called with a plan of more configurations before any of them is begun."""
        self.plan = plan
        self._ledger, self._executor, self._log, self._lease = ledger, executor, log, lease
        self._on_progress, self._on_extended = on_progress, on_extended
        self._scheduler = Scheduler(plan, recovered, log)
        self._in_flight: dict[int, Task] = {}
        self._committer = Committer(ledger, log)
        self._meter = Meter()
        self._started_at = now()
        self._last_tick = float("-inf")
        self.state: StudyState = "running"
        self.stop = False  # set from outside, for example by a signal: end now, resumable

    def run(self) -> StudyState:
        """Work until everything is committed, or until cancelled or stopped; every row taken is flushed."""
        try:
            while not self.stop and self.state != "cancelled" and not self.finished():
                self.step()
            self._abandon()  # nothing is in flight, unless it is told to end now
            self._flush(wait=True)
        finally:
            self._committer.close()
        return "interrupted" if self.stop else "completed" if self.state == "running" else self.state

    def finished(self) -> bool:
        """Whether there is nothing to do."""
        return self.state == "running" and not self._in_flight and self._scheduler.queue.peek() is None

    def step(self) -> None:
        """Hand out work as far as there is room, take what has ended, and about every second commit and report."""
        if self.state == "running":
            self._submit()
        for outcome in self._executor.wait(0.0 if self._last_tick < 0 else WAIT_S):
            self._take(outcome)
        if time.monotonic() - self._last_tick >= TICK_S or self._committer.is_full:
            self._tick()

    def status(self, state: StudyState | None = None, error: str | None = None) -> StudyStatus:
        """Where the study stands."""
        planned, states = self.plan.planned(), self._scheduler.states
        done = states.done()
        left = sum(planned.values()) - sum(done.values())
        rate = self._meter.runs_per_s
        return StudyStatus(
            name=self.plan.spec.name,
            study_hash=self.plan.spec.hash,
            uri=self._ledger.storage.uri,
            state=state or self.state,
            planned=planned,
            done=done,
            completed=states.count(RunState.COMPLETED),
            diverged=states.count(RunState.DIVERGED),
            failed=states.count(RunState.FAILED),
            uncommitted=len(self._committer.uncommitted()),
            lost=self._scheduler.lost,
            in_flight=sum(len(task.runs) for task in self._in_flight.values()),
            actors=self._executor.workers(),
            started_at=self._started_at,
            updated_at=now(),
            elapsed_s=self._meter.elapsed_s,
            runs_per_s=rate,
            seconds_left=left / rate if rate else None,
            utilisation=self._meter.utilisation,
            driver=f"{socket.gethostname()}:{os.getpid()}",
            error=error,
        )

    def at_stake(self) -> Attempts:
        """Run and attempt of all that would be lost if the driver died now."""
        return [*self._at_work(), *self.uncommitted()]

    def uncommitted(self) -> Attempts:
        """Run and attempt of all that has ended and is not committed yet."""
        return self._committer.uncommitted()

    def take_standing_requests(self) -> None:
        """Carry out what was asked for while no driver ran. What was meant for a driver of that time is dropped."""
        for request in self._requests():
            if request.action in ("extend", "retry"):
                self._obey(request)

    # -- asking and telling the scheduler

    def _submit(self) -> None:
        for _ in range(self._executor.room()):
            task = self._scheduler.ask()
            if task is None:
                return
            self._in_flight[task.number] = task
            self._executor.submit(task)
            self._log.add("runs_started", "", about(task))

    def _take(self, outcome: Outcome) -> None:
        if self._in_flight.pop(outcome.task.number, None) is None:
            return
        if isinstance(outcome, Finished) and (why := unsound(outcome.trained, outcome.task.runs)):
            outcome = Failed(
                task=outcome.task,
                place=outcome.place,
                started_at=outcome.started_at,
                finished_at=outcome.finished_at,
                error=why,
            )
        busy = 0.0 if isinstance(outcome, Lost) else outcome.finished_at - outcome.started_at
        self._meter.ended(self._scheduler.tell(outcome, self._committer.batch), busy)

    def _abandon(self) -> None:
        """Record what is in flight as lost, to be trained by the next driver."""
        for task in self._in_flight.values():
            lost = Lost(task=task, place=Place(), finished_at=time.time(), error="the driver was told to stop")
            self._committer.batch.attempts += [attempt_row(lost, run, "lost") for run in task.runs]
        self._in_flight.clear()

    # -- about every second

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        if self._lease.taken_by:
            self._lease.check()
        self._meter.tick(self._executor.workers())
        for request in self._requests():
            self._obey(request)
        self._flush(wait=self._committer.is_full)
        if self._on_progress:
            self._on_progress(self.status())

    def _flush(self, wait: bool) -> None:
        self._committer.flush(self.status(), self._at_work(), wait)

    def _at_work(self) -> Attempts:
        return [(run.run_id, task.attempt) for task in self._in_flight.values() for run in task.runs]

    def _requests(self) -> Iterator[Request]:
        """What waits to be done; what is no request to this study is told."""
        return take_requests(
            self._ledger.storage, self.plan.spec.hash, lambda why: self._log.add("request_ignored", why)
        )

    def _obey(self, request: Request) -> None:
        action = request.action
        if action == "pause" and self.state == "running":
            self.state = "paused"
            self._log.add("paused", "by request; runs in flight will end", {})
        elif action == "resume" and self.state == "paused":
            self.state = "running"
            self._log.add("unpaused")
        elif action == "cancel":
            self.state = "cancelled"
            self._log.add("cancelled")
        elif action == "extend":
            self._extend(request.configurations)
        elif action == "retry":
            self._retry_failed_runs()

    def _extend(self, configurations: int) -> None:
        """Go on with a plan that has more configurations, if there can be one."""
        if configurations <= self.plan.spec.configurations:
            return
        try:
            spec = dataclasses.replace(self.plan.spec, configurations=configurations)
            plan = make_plan(spec, self.plan.pack_size)
        except StudyError as error:  # :func:`service.records.requests.request` would not have asked for it
            self._log.add("request_refused", f"extend: {error}", {"action": "extend"})
            return
        self._on_extended(plan)
        self.plan = plan
        self._ledger.plan = plan
        self._scheduler.extend(plan)
        self._log.add("extended", f"to {configurations} configurations", {"configurations": configurations})

    def _retry_failed_runs(self) -> None:
        """Train failed runs again."""
        self._flush(wait=True)
        dropped = self._ledger.drop_failed()
        recovered = recover(self._ledger)
        log_damaged_shards(self._log, recovered)
        self._scheduler.reread(recovered)
        self._log.add("retry", f"{dropped} failed runs, by request")


def log_damaged_shards(log: EventLog, recovered: Recovered) -> None:
    """Say which files the ledger has found damaged."""
    for path in recovered.set_aside:
        what = "when and where its runs were trained is lost" if holds_attempts(path) else "its runs are trained again"
        text = f"{path} is damaged; it is in ledger/corrupt now, {what}"
        log.add("shard_corrupt", text, {"path": path})
