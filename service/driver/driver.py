"""The driver: takes runs from the plan, keeps bounded work in flight, commits what comes back. It knows no Ray."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Sequence

from service.driver.budgets import Failure, RetryBudget
from service.driver.committer import Committer
from service.driver.meter import Meter
from service.driver.queue import Work, WorkQueue
from service.driver.rows import attempt_row, failed_row, result_row
from service.driver.states import RunStates
from service.errors import StudyBusyError
from service.executors.base import Executor, Failed, Finished, Lost, Outcome, Place, Task
from service.executors.worker import checkpoint_name
from service.ledger.shards import STATUSES, Ledger, Recovered, RunState
from service.records.events import EventLog, now
from service.records.progress import Attempts, StudyState, StudyStatus
from service.records.requests import Request, take_requests
from service.spec.plan import Pack, Plan, make_plan
from service.storage.lease import Lease

TICK_S = 1.0
WAIT_S = 0.2


class Driver:
    """Runs one study to its end, or until it is told to stop.

    Each step asks (hands out work), takes what has ended, and about every second tells: commits, and reports progress.
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
        self._states = RunStates(plan, recovered.status)
        self._queue = WorkQueue(plan, self._states, recovered.finals)
        execution = plan.spec.execution
        self._budget = RetryBudget(losses=execution.loss_retries, failures=execution.failure_retries)
        self._attempts = recovered.attempts  # of runs that are pending and had some
        self._lost = recovered.lost
        self._in_flight: dict[int, Task] = {}
        self._number = 0
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
            for task in self._in_flight.values():  # only if told to end now
                self._record(
                    Lost(task=task, place=Place(), finished_at=time.time(), error="the driver was told to stop"), "lost"
                )
            self._in_flight.clear()
            self._flush(wait=True)
        finally:
            self._committer.close()
        return "interrupted" if self.stop else "completed" if self.state == "running" else self.state

    def finished(self) -> bool:
        """Whether there is nothing to do."""
        return self.state == "running" and not self._in_flight and self._queue.peek() is None

    def step(self) -> None:
        """Hand out work as far as there is room, take what has ended, and tell if it is time."""
        if self.state == "running":
            self._submit()
        for outcome in self._executor.wait(0.0 if self._last_tick < 0 else WAIT_S):
            self._take(outcome)
        if time.monotonic() - self._last_tick >= TICK_S or self._committer.is_full:
            self._tick()

    def status(self, state: StudyState | None = None, error: str | None = None) -> StudyStatus:
        """Where the study stands."""
        planned, done = self.plan.planned(), self._states.done()
        left = sum(planned.values()) - sum(done.values())
        rate = self._meter.runs_per_s
        return StudyStatus(
            name=self.plan.spec.name,
            study_hash=self.plan.spec.hash,
            uri=self._ledger.storage.uri,
            state=state or self.state,
            planned=planned,
            done=done,
            completed=self._states.count(RunState.COMPLETED),
            diverged=self._states.count(RunState.DIVERGED),
            failed=self._states.count(RunState.FAILED),
            lost=self._lost,
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

    def abandoned(self) -> Attempts:
        """Run and attempt of all that would be lost if the driver died now."""
        return [*self._at_work(), *self._committer.uncommitted()]

    def take_standing_requests(self) -> None:
        """Carry out requests made while no driver ran, but for those that were meant for a driver of then."""
        for request in take_requests(self._ledger.storage):
            if request.action in ("extend", "retry"):
                self._obey(request)

    # -- asking

    def _submit(self) -> None:
        for _ in range(self._executor.room()):
            work = self._queue.pop()
            if work is None:
                return
            task = self._task(work)
            self._in_flight[task.number] = task
            self._executor.submit(task)
            self._log.add("runs_started", "", _about(task))

    def _task(self, work: Work) -> Task:
        pack, initials, alone = work
        runs = tuple(
            self.plan.run(pack.arm, pack.model, slot, initials[i] if initials else None)
            for i, slot in enumerate(pack.slots)
        )
        self._number += 1
        attempt = 1 + max(self._attempts.get(run.run_id, 0) for run in runs)
        return Task(self._number, pack, runs, attempt, alone)

    # -- taking what has ended

    def _take(self, outcome: Outcome) -> None:
        task = outcome.task
        if self._in_flight.pop(task.number, None) is None:
            return
        if isinstance(outcome, Finished):
            self._meter.ended(len(task.runs), outcome.finished_at - outcome.started_at)
            self._finish(outcome)
        elif isinstance(outcome, Failed):
            self._meter.ended(0, outcome.finished_at - outcome.started_at)
            self._record(outcome, "failed")
            self._retry_failed_pack(outcome)
        else:
            self._lost += len(task.runs)
            self._record(outcome, "lost")
            self._log.add("run_lost", outcome.error, _about(task))
            self._retry_lost_pack(outcome)

    def _finish(self, outcome: Finished) -> None:
        task, pack, batch = outcome.task, outcome.task.pack, self._committer.batch
        batch.add_points(self.plan, task, outcome.trained.points)
        for run, slot, result in zip(task.runs, pack.slots, outcome.trained.results, strict=True):
            batch.runs.append(result_row(self.plan, task, run, result))
            batch.attempts.append(attempt_row(outcome, run, result.status))
            self._end(pack, slot, run.run_id, STATUSES[result.status])
            if result.status == "diverged":
                self._log.add("run_diverged", f"at step {result.steps}", {"run_id": run.run_id, **_about(task)})
        self._log.add("runs_finished", "", {**_about(task), "pid": outcome.place.pid})
        steps = self.plan.spec.inner.steps
        if (self.plan.spec.execution.checkpoint_every or steps) < steps:
            batch.spent.append(checkpoint_name(task.runs))
        self._queue.push_followers(pack, [result.final for result in outcome.trained.results])

    def _retry_failed_pack(self, outcome: Failed) -> None:
        """Try the run of a pack of one again. One run may have spoilt a larger pack: each of its runs goes on alone."""
        task = outcome.task
        for position, run in enumerate(task.runs):
            self._attempts[run.run_id] = task.attempt
            if len(task.runs) > 1 or self._budget.charge(run.run_id, Failure.FAILED):
                self._try_again(task, [position], outcome.error, alone=False)
            else:
                self._give_up(task, position, outcome.error)

    def _retry_lost_pack(self, outcome: Lost) -> None:
        """Try the runs of a pack again, on a worker that has nothing else, but for those that were lost too often."""
        task, again = outcome.task, []
        for position, run in enumerate(task.runs):
            self._attempts[run.run_id] = task.attempt
            if not outcome.sole or self._budget.charge(run.run_id, Failure.LOST):
                again.append(position)
            else:
                times = self.plan.spec.execution.loss_retries + 1
                self._give_up(task, position, f"lost {times} times: {outcome.error}")
        if again:
            self._try_again(task, again, outcome.error, alone=True)

    def _try_again(self, task: Task, positions: Sequence[int], error: str, *, alone: bool) -> None:
        pack = task.pack._replace(slots=tuple(task.pack.slots[i] for i in positions))
        initials = [task.runs[i].initial for i in positions] if pack.arm.follows else None
        self._queue.push(Work(pack, initials, alone))
        self._log.add("retry", error, _about(task))

    def _give_up(self, task: Task, position: int, error: str) -> None:
        run, slot = task.runs[position], task.pack.slots[position]
        self._log.add("run_failed", error, {"run_id": run.run_id, **_about(task)})
        self._fail(task._replace(runs=(run,), pack=task.pack._replace(slots=(slot,))), error)

    def _fail(self, task: Task, error: str) -> None:
        """Record the one run of ``task`` as failed, and with it those that would have followed it."""
        (run,), (slot,), arm = task.runs, task.pack.slots, task.pack.arm
        self._committer.batch.runs.append(failed_row(self.plan, task, run, error))
        self._end(task.pack, slot, run.run_id, RunState.FAILED)
        self._meter.ended(1, 0.0)
        for follower in self.plan.followers[arm.name]:
            pack = task.pack._replace(arm=follower)
            if self._states.pending(pack):
                never = self.plan.run(follower, pack.model, slot, {})
                why = f"not trained: its {arm.name} run failed, so there are no final values"
                self._fail(task._replace(runs=(never,), pack=pack, attempt=0), why)

    def _end(self, pack: Pack, slot: int, run_id: str, state: RunState) -> None:
        self._states.end(pack, slot, state)
        self._budget.forget(run_id)
        self._attempts.pop(run_id, None)

    def _record(self, outcome: Outcome, word: str) -> None:
        self._committer.batch.attempts += [attempt_row(outcome, run, word) for run in outcome.task.runs]

    # -- telling, and being told, about every second

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        if self._lease.taken_by:
            raise StudyBusyError(
                f"{self._ledger.storage.uri}: the driver {self._lease.taken_by} has taken this study "
                "over, because this one gave no sign of life for too long"
            )
        self._meter.tick(self._executor.workers())
        for request in take_requests(self._ledger.storage):
            self._obey(request)
        self._flush(wait=self._committer.is_full)
        if self._on_progress:
            self._on_progress(self.status())

    def _flush(self, wait: bool) -> None:
        self._committer.flush(self.status(), self._at_work(), wait)

    def _at_work(self) -> Attempts:
        return [(run.run_id, task.attempt) for task in self._in_flight.values() for run in task.runs]

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
        """Go on with a plan that has more configurations."""
        if configurations <= self.plan.spec.configurations:
            return
        spec = dataclasses.replace(self.plan.spec, configurations=configurations)
        plan = make_plan(spec, self.plan.pack_size)
        self._on_extended(plan)
        self.plan = plan
        self._ledger.extend(plan)
        self._states.extend(plan)
        self._queue.restart(plan)
        self._log.add("extended", f"to {configurations} configurations", {"configurations": configurations})

    def _retry_failed_runs(self) -> None:
        """Train failed runs again."""
        self._flush(wait=True)
        dropped = self._ledger.drop_failed()
        recovered = self._ledger.recover()
        log_damaged_shards(self._log, recovered)
        self._attempts |= recovered.attempts
        self._states.reread(recovered.status)
        self._queue.restart(self.plan, recovered.finals)
        self._log.add("retry", f"{dropped} failed runs, by request")


def log_damaged_shards(log: EventLog, recovered: Recovered) -> None:
    """Say which files the ledger could not read."""
    for path in recovered.set_aside:
        text = f"{path} cannot be read; it is in ledger/corrupt now, its runs are trained again"
        log.add("shard_corrupt", text, {"path": path})


def _about(task: Task) -> dict[str, object]:
    pack = task.pack
    return {"arm": pack.arm.name, "model": pack.model, "slots": list(pack.slots), "attempt": task.attempt}
