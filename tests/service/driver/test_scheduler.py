"""What is trained next, and what becomes of an outcome: retries, budgets, and runs that never start."""

from __future__ import annotations

from typing import Any

import pytest

from service.driver.rows import Batch
from service.driver.scheduler import Scheduler
from service.executors.base import Failed, Lost, Place, Task, WorkerSetup
from service.executors.checkpoints import checkpoint_name
from service.executors.worker import Worker, job_of
from service.ledger.recovery import Recovered, RunState
from service.records.events import Event, EventLog
from service.spec.plan import make_plan
from service.storage.files import open_storage
from tests.service.driver.scripted import small_spec


class Study:
    """A scheduler, the rows that it gives, and the events that it tells."""

    def __init__(self, tmp_path: Any, pack_size: int = 1, **values: Any) -> None:
        spec = small_spec(**values)
        plan = make_plan(spec, pack_size)
        self.events: list[Event] = []
        self.batch = Batch()
        self.scheduler = Scheduler(
            plan,
            Recovered(status={arm: bytearray(count) for arm, count in plan.planned().items()}),
            EventLog(open_storage(tmp_path), self.events.append),
        )
        self._worker = Worker(WorkerSetup(configs=spec.train_configs(), trainer=spec.trainer))

    def ask(self) -> Task:
        task = self.scheduler.ask()
        assert task is not None
        return task

    def finish(self, task: Task) -> int:
        return self.scheduler.tell(self._worker.attempt(job_of(task)).outcome(task), self.batch)

    def fail(self, task: Task) -> int:
        failed = Failed(task=task, place=Place(), started_at=1.0, finished_at=2.0, error="told to")
        return self.scheduler.tell(failed, self.batch)

    def lose(self, task: Task, sole: bool = True) -> int:
        lost = Lost(task=task, place=Place(), finished_at=2.0, error="node died", sole=sole)
        return self.scheduler.tell(lost, self.batch)

    def failures(self) -> list[tuple[str, str]]:
        """Arm and error of the runs that were given up."""
        return [(row["arm"], row["error"]) for row in self.batch.runs if row["status"] == "failed"]


def test_a_rerun_starts_from_the_values_that_its_online_run_ended_with(tmp_path: Any) -> None:
    study = Study(tmp_path)
    online = study.ask()
    assert study.finish(online) == 1
    rerun = study.ask()
    assert (online.pack.arm.name, rerun.pack.arm.name) == ("online", "rerun")
    ended = study.batch.runs[0]
    assert rerun.runs[0].initial == {name: ended[f"{name}_final"] for name in rerun.runs[0].initial}
    assert rerun.runs[0].initial != online.runs[0].initial


def test_when_all_is_told_nothing_is_left(tmp_path: Any) -> None:
    study = Study(tmp_path)
    assert sum(study.finish(task) for task in iter(study.scheduler.ask, None)) == 8
    assert study.scheduler.states.count(RunState.COMPLETED) == 8


def test_a_lost_run_is_tried_again_by_itself_and_given_up_when_its_budget_is_used_up(tmp_path: Any) -> None:
    study = Study(tmp_path)
    first = study.ask()
    assert study.lose(first) == 0
    second = study.ask()
    assert (second.runs, second.attempt, second.alone) == (first.runs, 2, True)
    assert second.number != first.number
    assert study.lose(second) == 2
    assert study.failures() == [
        ("online", "lost 2 times: node died"),
        ("rerun", "not trained: its online run failed, so there are no final values"),
    ]
    assert [row["attempt"] for row in study.batch.runs] == [2, 0]
    assert [row["outcome"] for row in study.batch.attempts] == ["lost", "lost"]
    assert study.scheduler.lost == 2


def test_a_loss_that_another_pack_may_have_caused_is_not_charged(tmp_path: Any) -> None:
    study = Study(tmp_path)
    task = study.ask()
    for _ in range(5):
        assert study.lose(task, sole=False) == 0
        task = study.ask()
    assert task.attempt == 6
    assert study.finish(task) == 1


def test_a_failure_is_tried_again_and_then_final(tmp_path: Any) -> None:
    study = Study(tmp_path)
    assert study.fail(study.ask()) == 0
    again = study.ask()
    assert (again.attempt, again.alone) == (2, False)
    assert study.fail(again) == 2
    assert study.failures()[0] == ("online", "told to")


def test_losses_and_failures_have_budgets_of_their_own(tmp_path: Any) -> None:
    study = Study(tmp_path)
    study.lose(study.ask())
    study.fail(study.ask())
    third = study.ask()
    assert (third.pack.arm.name, third.attempt) == ("online", 3)
    assert study.finish(third) == 1


def test_the_runs_of_a_pack_that_failed_go_on_one_by_one_with_their_whole_budget(tmp_path: Any) -> None:
    study = Study(tmp_path, pack_size=2)
    pack = study.ask()
    assert len(pack.runs) == 2
    assert study.fail(pack) == 0
    spoilt, other = study.ask(), study.ask()
    assert spoilt.runs + other.runs == pack.runs
    assert study.finish(other) == 1
    assert study.fail(spoilt) == 0
    assert (rerun := study.ask()).pack.slots == other.pack.slots
    assert rerun.pack.arm.name == "rerun"
    assert study.fail(study.ask()) == 2


def test_a_retried_rerun_starts_where_it_started(tmp_path: Any) -> None:
    study = Study(tmp_path)
    study.finish(study.ask())
    rerun = study.ask()
    study.lose(rerun)
    assert study.ask().runs == rerun.runs


def test_a_diverged_run_is_a_result_and_an_event(tmp_path: Any) -> None:
    study = Study(tmp_path, trainer="tests.service.toy:failing", seed=1, configurations=8)
    for task in iter(study.scheduler.ask, None):
        study.finish(task)
    diverged = [row["run_id"] for row in study.batch.runs if row["status"] == "diverged"]
    assert [event.fields["run_id"] for event in study.events if event.kind == "run_diverged"] == diverged
    assert len(diverged) == study.scheduler.states.count(RunState.DIVERGED) > 0


@pytest.mark.parametrize(("every", "spent"), [(None, False), (5, True), (20, False)])
def test_a_checkpoint_is_spent_with_its_pack_if_there_can_be_one(tmp_path: Any, every: int | None, spent: bool) -> None:
    study = Study(tmp_path, inner={"steps": 20}, execution={"checkpoint_every": every})
    task = study.ask()
    study.finish(task)
    assert study.batch.spent == ([checkpoint_name(task.runs)] if spent else [])
