"""The driver: takes runs from the plan, keeps bounded work in flight, commits what comes back. It knows no Ray."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

from service.driver.committer import Committer
from service.driver.meter import Meter
from service.driver.rows import attempt_row, run_row
from service.errors import StudyBusyError
from service.executors.base import Executor, Outcome, Task
from service.executors.worker import checkpoint_name
from service.ledger.shards import COMPLETED, DIVERGED, FAILED, PENDING, STATUSES, Ledger, Recovered
from service.records.events import EventLog, now
from service.records.progress import Attempts, StudyState, StudyStatus
from service.records.requests import Request, take_requests
from service.spec.plan import Pack, Plan
from service.storage.lease import Lease

TAKEN = 4  # beside the ledger's codes: in flight or about to be
TICK_S = 1.0
Initial = dict[str, float]


class Driver:
    """Runs one study to its end, or until it is told to stop."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        executor: Executor,
        recovered: Recovered,
        log: EventLog,
        lease: Lease,
        on_progress: Callable[[StudyStatus], None] | None = None,
        on_request: Callable[[Request], None] = lambda request: None,
    ) -> None:
        self.plan = plan
        self._ledger, self._executor, self._log, self._lease = ledger, executor, log, lease
        self._on_progress = on_progress
        self._status = recovered.status
        self._finals = recovered.finals  # of online runs whose rerun has not begun
        self._attempts = recovered.attempts  # of runs that are pending and had some
        self._lost = recovered.lost
        self._counts = {code: sum(codes.count(code) for codes in self._status.values()) for code in STATUSES.values()}
        self._charges: dict[str, list[int]] = {}  # run_id → losses, failures; only of runs in trouble
        self._stream = self._fresh()
        self._ready: deque[tuple[Pack, list[Initial] | None, bool]] = deque()  # before the stream: reruns and retries
        self._in_flight: dict[int, Task] = {}
        self._number = 0
        self._committer = Committer(ledger, log)
        self._meter = Meter()
        self._started_at = now()
        self._last_tick = float("-inf")
        self.state: StudyState = "running"
        self.stop = False  # set from outside, for example by a signal: end now, resumable
        self._on_request = on_request  # extend and retry

    def run(self) -> StudyState:
        """Work until everything is committed, or until cancelled or stopped; every row taken is flushed."""
        try:
            while not self.stop and self.state != "cancelled" and not self.finished():
                if self.state == "running":
                    self._submit()
                for outcome in self._executor.wait(0.0 if self._last_tick < 0 else 0.2):
                    self._take(outcome)
                if time.monotonic() - self._last_tick >= TICK_S or self._committer.is_full:
                    self._tick()
            for task in self._in_flight.values():  # only if told to end now
                self._record(Outcome(task, "lost", error="the driver was told to stop"), "lost")
            self._in_flight.clear()
            self._flush(wait=True)
        finally:
            self._committer.close()
        return "interrupted" if self.stop else "completed" if self.state == "running" else self.state

    def status(self, state: StudyState | None = None, error: str | None = None) -> StudyStatus:
        """Where the study stands."""
        done = {arm: len(codes) - codes.count(PENDING) - codes.count(TAKEN) for arm, codes in self._status.items()}
        left = sum(len(codes) for codes in self._status.values()) - sum(done.values())
        rate = self._meter.runs_per_s
        return StudyStatus(
            name=self.plan.spec.name,
            study_hash=self.plan.spec.hash,
            uri=self._ledger.storage.uri,
            state=state or self.state,
            planned=self.plan.planned(),
            done=done,
            completed=self._counts[COMPLETED],
            diverged=self._counts[DIVERGED],
            failed=self._counts[FAILED],
            lost=self._lost,
            in_flight=sum(task.runs for task in self._in_flight.values()),
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

    def extend(self, plan: Plan) -> None:
        """Go on with a plan that has more configurations."""
        self.plan = self._ledger.plan = plan
        for arm, codes in self._status.items():
            codes.extend(bytes(plan.planned()[arm] - len(codes)))
        self._stream = self._fresh()

    def retry_failed(self) -> int:
        """Train failed runs again; returns how many."""
        self._flush(wait=True)
        dropped = self._ledger.drop_failed()
        recovered = self._ledger.recover()
        self._counts[FAILED] -= dropped
        self._attempts |= recovered.attempts
        for codes in self._status.values():
            codes[:] = codes.replace(bytes([FAILED]), bytes([PENDING]))
        width = len(self.plan.configs)
        self._finals |= {
            (model, slot): values
            for (model, slot), values in recovered.finals.items()
            if self._status["rerun"][slot * width + model] == PENDING
        }
        self._stream = self._fresh()
        return dropped

    def take_standing_requests(self) -> None:
        """Carry out requests made while no driver ran, but for those that were meant for a driver of then."""
        for request in take_requests(self._ledger.storage):
            if request.action in ("extend", "retry"):
                self._on_request(request)

    def abandoned(self) -> Attempts:
        """Run and attempt of all that would be lost if the driver died now."""
        return [*self._at_work(), *self._committer.uncommitted()]

    # -- what to do next

    def _fresh(self) -> Iterator[tuple[Pack, list[Initial] | None, bool]]:
        """Pending packs in plan order, and reruns whose online was already committed."""
        width = len(self.plan.configs)
        for pack in self.plan.packs():
            codes = self._status[pack.arm]
            slots = tuple(slot for slot in pack.slots if codes[slot * width + pack.model] == PENDING)
            if slots:
                yield self._claim(pack._replace(slots=slots)), None, False
            if pack.arm == "online" and self._finals:
                slots = tuple(slot for slot in pack.slots if (pack.model, slot) in self._finals)
                if slots:
                    finals = [self._finals.pop((pack.model, slot)) for slot in slots]
                    yield self._claim(Pack("rerun", pack.model, slots)), finals, False

    def _claim(self, pack: Pack) -> Pack:
        for slot in pack.slots:
            self._mark(pack, slot, TAKEN)
        return pack

    def _mark(self, pack: Pack, slot: int, code: int) -> None:
        self._status[pack.arm][slot * len(self.plan.configs) + pack.model] = code

    def _submit(self) -> None:
        for _ in range(self._executor.room()):
            work = self._ready.popleft() if self._ready else next(self._stream, None)
            if work is None:
                return
            pack, initials, alone = work
            members = tuple(
                self.plan.member(pack.arm, pack.model, slot, initials[i] if initials else None)
                for i, slot in enumerate(pack.slots)
            )
            attempt = 1 + max(self._attempts.get(member.run_id, 0) for member in members)
            self._number += 1
            task = self._in_flight[self._number] = Task(self._number, pack, members, attempt, alone)
            self._executor.submit(task)
            self._log.add("runs_started", "", _about(task))

    def finished(self) -> bool:
        """Whether there is nothing to do."""
        if self.state != "running" or self._in_flight or self._ready:
            return False
        work = next(self._stream, None)
        if work is not None:
            self._ready.append(work)
        return work is None

    # -- what has come back

    def _take(self, outcome: Outcome) -> None:
        task = outcome.task
        if self._in_flight.pop(task.number, None) is None:
            return
        busy = outcome.finished_at - outcome.started_at if outcome.started_at else 0.0
        if outcome.kind == "finished":
            self._meter.ended(task.runs, busy)
            self._finish(outcome)
        elif outcome.kind == "failed":
            self._meter.ended(0, busy)
            self._record(outcome, "failed")
            self._retry(outcome, 1, self.plan.spec.execution.failure_retries, alone=False)
        else:
            self._lost += task.runs
            self._record(outcome, "lost")
            self._log.add("run_lost", outcome.error or "", _about(task))
            self._retry(outcome, 0, self.plan.spec.execution.loss_retries, alone=True)

    def _finish(self, outcome: Outcome) -> None:
        assert outcome.finished is not None
        task, pack = outcome.task, outcome.task.pack
        self._committer.batch.add_points(self.plan, task, outcome.finished.points)
        for member, slot, result in zip(task.members, pack.slots, outcome.finished.results, strict=True):
            code = STATUSES[result.status]
            self._committer.batch.runs.append(run_row(self.plan, task, member, result))
            self._committer.batch.attempts.append(attempt_row(outcome, member, result.status))
            self._close(pack, slot, code, member.run_id)
            if code == DIVERGED:
                self._log.add("run_diverged", f"at step {result.steps}", {"run_id": member.run_id, **_about(task)})
        self._log.add("runs_finished", "", {**_about(task), "pid": outcome.place.pid})
        if (self.plan.spec.execution.checkpoint_every or self.plan.spec.inner.steps) < self.plan.spec.inner.steps:
            self._committer.batch.spent.append(checkpoint_name(task.members))
        if pack.arm == "online" and "rerun" in self.plan.arms:
            finals = [result.final for result in outcome.finished.results]
            self._ready.append((self._claim(Pack("rerun", pack.model, pack.slots)), finals, False))

    def _retry(self, outcome: Outcome, kind: int, budget: int, alone: bool) -> None:
        """Queue the runs of a lost (0) or failed (1) task again, each against its own budget for that kind."""
        task, pack = outcome.task, outcome.task.pack
        again = []
        for i, member in enumerate(task.members):
            charges = self._charges.setdefault(member.run_id, [0, 0])
            charges[kind] += outcome.charged
            self._attempts[member.run_id] = task.attempt
            if charges[kind] > budget and (kind == 0 or task.runs == 1):
                self._give_up(task, i, f"lost {charges[0]} times: {outcome.error}" if kind == 0 else outcome.error)
            else:
                again.append(i)
        if kind == 1 and task.runs > 1:  # one member may spoil the pack: each goes on alone, with a budget of its own
            packs = [[i] for i in again]
            for i in again:
                self._charges[task.members[i].run_id][kind] = 0
        else:
            packs = [again] if again else []
        for part in packs:
            initials = [task.members[i].initial for i in part] if pack.arm == "rerun" else None
            self._ready.append((Pack(pack.arm, pack.model, tuple(pack.slots[i] for i in part)), initials, alone))
            self._log.add("retry", outcome.error or "", _about(task))

    def _give_up(self, task: Task, index: int, error: str | None) -> None:
        member, slot, pack = task.members[index], task.pack.slots[index], task.pack
        self._committer.batch.runs.append(run_row(self.plan, task, member, None, error))
        self._close(pack, slot, FAILED, member.run_id)
        self._meter.ended(1, 0.0)
        self._log.add("run_failed", error or "", {"run_id": member.run_id, **_about(task)})
        if pack.arm == "online" and "rerun" in self.plan.arms:
            rerun = Pack("rerun", pack.model, (slot,))
            heir = self.plan.member("rerun", pack.model, slot, {})
            why = "not trained: its online run failed, so there are no final values"
            never = task._replace(pack=rerun, attempt=0)
            self._committer.batch.runs.append(run_row(self.plan, never, heir, None, why))
            self._close(rerun, slot, FAILED, heir.run_id)
            self._meter.ended(1, 0.0)

    def _close(self, pack: Pack, slot: int, code: int, run_id: str) -> None:
        self._mark(pack, slot, code)
        self._counts[code] += 1
        self._charges.pop(run_id, None)
        self._attempts.pop(run_id, None)

    def _record(self, outcome: Outcome, word: str) -> None:
        self._committer.batch.attempts += [attempt_row(outcome, member, word) for member in outcome.task.members]

    # -- about every second

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
        elif action in ("extend", "retry"):
            self._on_request(request)

    def _flush(self, wait: bool) -> None:
        self._committer.flush(self.status(), self._at_work(), wait)

    def _at_work(self) -> Attempts:
        return [(member.run_id, task.attempt) for task in self._in_flight.values() for member in task.members]


def _about(task: Task) -> dict[str, object]:
    return {"arm": task.pack.arm, "model": task.pack.model, "slots": list(task.pack.slots), "attempt": task.attempt}
