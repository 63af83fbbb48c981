"""Decides what is trained next, and what becomes of a task that has ended. It knows neither workers nor time."""

from __future__ import annotations

from collections.abc import Sequence

from service.driver.budgets import Failure, RetryBudget
from service.driver.queue import Work, WorkQueue
from service.driver.rows import Batch, attempt_row, failed_row, result_row
from service.driver.states import RunStates
from service.executors.base import Failed, Finished, Lost, Outcome, Task
from service.executors.checkpoints import checkpoint_name
from service.ledger.recovery import STATUSES, Recovered, RunState
from service.records.events import EventLog
from service.spec.plan import Plan


class Scheduler:
    """Hands out tasks with :meth:`ask` and is told their outcomes with :meth:`tell`."""

    def __init__(self, plan: Plan, recovered: Recovered, log: EventLog) -> None:
        self._plan, self._log = plan, log
        self.states = RunStates(plan, recovered.status)
        self.queue = WorkQueue(plan, self.states, recovered.finals)
        self.lost = recovered.lost  # attempts lost to the infrastructure
        execution = plan.spec.execution
        self._budget = RetryBudget(losses=execution.loss_retries, failures=execution.failure_retries)
        self._attempts = recovered.attempts  # of runs that are pending and had some
        self._number = 0

    def ask(self) -> Task | None:
        """The next task; None if nothing is left that need not wait for a task in flight."""
        work = self.queue.pop()
        if work is None:
            return None
        pack, initials, alone = work
        runs = tuple(
            self._plan.run(pack.arm, pack.model, slot, initials[i] if initials else None)
            for i, slot in enumerate(pack.slots)
        )
        self._number += 1
        attempt = 1 + max(self._attempts.get(run.run_id, 0) for run in runs)
        return Task(self._number, pack, runs, attempt, alone)

    def tell(self, outcome: Outcome, batch: Batch) -> int:
        """Put the rows of an outcome into ``batch``, and what is to be done now into the queue.

        Returns how many runs have ended for good.
        """
        before = self.states.ended
        if isinstance(outcome, Finished):
            self._finish(outcome, batch)
        elif isinstance(outcome, Failed):
            self._fail(outcome, batch)
        else:
            self._lose(outcome, batch)
        return self.states.ended - before

    def extend(self, plan: Plan) -> None:
        """Go on with a plan that has more configurations."""
        self._plan = plan
        self.states.extend(plan)
        self.queue.restart(plan)

    def reread(self, recovered: Recovered) -> None:
        """Go on from what the ledger holds now; what is in flight or queued stays so."""
        self._attempts |= recovered.attempts
        self.states.reread(recovered.status)
        self.queue.restart(self._plan, recovered.finals)

    def _finish(self, outcome: Finished, batch: Batch) -> None:
        task, pack, (results, points) = outcome.task, outcome.task.pack, outcome.trained
        batch.add_points(self._plan, task, points)
        for run, slot, result in zip(task.runs, pack.slots, results, strict=True):
            batch.runs.append(result_row(self._plan, task, run, result))
            batch.attempts.append(attempt_row(outcome, run, result.status))
            self._end(task, run.run_id, slot, STATUSES[result.status])
            if result.status == "diverged":
                self._log.add("run_diverged", f"at step {result.steps}", {"run_id": run.run_id, **about(task)})
        self._log.add("runs_finished", "", {**about(task), "pid": outcome.place.pid})
        steps = self._plan.spec.inner.steps
        if (self._plan.spec.execution.checkpoint_every or steps) < steps:
            batch.spent.append(checkpoint_name(task.runs))
        self.queue.push_followers(pack, [result.final for result in results])

    def _fail(self, outcome: Failed, batch: Batch) -> None:
        """A pack of several runs may have failed because of one: each is tried again by itself, and none is charged."""
        task = outcome.task
        batch.attempts += [attempt_row(outcome, run, "failed") for run in task.runs]
        for position, run in enumerate(task.runs):
            self._attempts[run.run_id] = task.attempt
            if len(task.runs) > 1 or self._budget.charge(run.run_id, Failure.FAILED):
                self._try_again(task, [position], outcome.error, alone=False)
            else:
                self._give_up(task, position, outcome.error, batch)

    def _lose(self, outcome: Lost, batch: Batch) -> None:
        """The pack is tried again on a worker of its own. It is charged if nothing else can have caused the loss."""
        task, again = outcome.task, []
        self.lost += len(task.runs)
        batch.attempts += [attempt_row(outcome, run, "lost") for run in task.runs]
        self._log.add("run_lost", outcome.error, about(task))
        for position, run in enumerate(task.runs):
            self._attempts[run.run_id] = task.attempt
            if not outcome.sole or self._budget.charge(run.run_id, Failure.LOST):
                again.append(position)
            else:
                times = self._plan.spec.execution.loss_retries + 1
                self._give_up(task, position, f"lost {times} times: {outcome.error}", batch)
        if again:
            self._try_again(task, again, outcome.error, alone=True)

    def _try_again(self, task: Task, positions: Sequence[int], error: str, *, alone: bool) -> None:
        pack = task.pack._replace(slots=tuple(task.pack.slots[i] for i in positions))
        initials = [task.runs[i].initial for i in positions] if pack.arm.follows else None
        self.queue.push(Work(pack, initials, alone))
        self._log.add("retry", error, about(task))

    def _give_up(self, task: Task, position: int, error: str, batch: Batch) -> None:
        run, slot = task.runs[position], task.pack.slots[position]
        self._log.add("run_failed", error, {"run_id": run.run_id, **about(task)})
        self._end_without_result(task._replace(runs=(run,), pack=task.pack._replace(slots=(slot,))), error, batch)

    def _end_without_result(self, task: Task, error: str, batch: Batch) -> None:
        """The one run of ``task`` has failed, and so have those that would have followed it."""
        (run,), pack = task.runs, task.pack
        batch.runs.append(failed_row(self._plan, task, run, error))
        self._end(task, run.run_id, pack.slots[0], RunState.FAILED)
        for arm in self._plan.followers[pack.arm.name]:
            following = pack._replace(arm=arm)
            if self.states.pending(following):
                never = self._plan.run(arm, pack.model, pack.slots[0], {})
                why = f"not trained: its {pack.arm.name} run failed, so there are no final values"
                self._end_without_result(task._replace(runs=(never,), pack=following, attempt=0), why, batch)

    def _end(self, task: Task, run_id: str, slot: int, state: RunState) -> None:
        self.states.end(task.pack, slot, state)
        if self._attempts.pop(run_id, None):  # only a run that had attempts can have been charged
            self._budget.forget(run_id)


def about(task: Task) -> dict[str, object]:
    """The fields of an event that say which task it is about."""
    pack = task.pack
    return {"arm": pack.arm.name, "model": pack.model, "slots": list(pack.slots), "attempt": task.attempt}
