"""What every executor must do. A test of an executor derives its class from one of these and gives a fixture.

The fixture ``executor`` is an executor that has not been started.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pytest

from service.executors.base import Executor, Failed, Finished, Lost, Outcome, Task, WorkerSetup
from service.executors.worker import Worker, job_of
from service.spec.plan import make_plan
from service.spec.study_spec import StudySpec
from tests.service.studies import toy_spec

LIMIT_S = 120.0


def tasks_of(spec: StudySpec) -> list[Task]:
    """The first attempts at all runs that need not wait for others."""
    plan = make_plan(spec)
    packs = list(plan.packs())
    runs = [tuple(plan.run(pack.arm, pack.model, slot) for slot in pack.slots) for pack in packs]
    return [Task(number, *each, attempt=1) for number, each in enumerate(zip(packs, runs, strict=True))]


def setup_of(spec: StudySpec) -> WorkerSetup:
    return WorkerSetup(configs=spec.train_configs(), trainer=spec.trainer, threads=1)


def start(executor: Executor, spec: StudySpec) -> None:
    """Start it, and wait until a worker is ready."""
    executor.start(setup_of(spec), lambda kind, message, fields: None)
    end = time.monotonic() + LIMIT_S
    while not executor.workers():
        assert executor.wait(0.1) == []
        assert time.monotonic() < end, "no worker is ready"


def drain(executor: Executor, tasks: Sequence[Task]) -> dict[int, Outcome]:
    """Hand tasks out as the driver does, and gather the outcomes by the number of their task."""
    waiting, outcomes = list(tasks), dict[int, Outcome]()
    end = time.monotonic() + LIMIT_S
    while len(outcomes) < len(tasks):
        for _ in range(min(executor.room(), len(waiting))):
            executor.submit(waiting.pop(0))
        for outcome in executor.wait(0.1):
            assert outcome.task.number not in outcomes, "a task ends once"
            outcomes[outcome.task.number] = outcome
        assert time.monotonic() < end, f"{len(outcomes)} of {len(tasks)} tasks have ended"
    return outcomes


def content(outcome: Outcome) -> tuple[list[Any], dict[str, list[Any]]]:
    """What training gave, times aside."""
    assert isinstance(outcome, Finished), outcome
    results = [dataclasses.replace(result, train_time_s=0.0) for result in outcome.trained.results]
    return results, outcome.trained.points


class ExecutorConformance:
    """For any executor."""

    def test_every_task_ends_once_with_the_very_results_of_a_worker_in_this_process(self, executor: Executor) -> None:
        spec = toy_spec(
            trainer="t1t2",
            models=[{"hidden": [4]}],
            inner={"steps": 20},
            outer={"every": 5},
            record_every=10,
            execution={"runs_per_actor": 2},
        )
        tasks = tasks_of(spec)
        start(executor, spec)
        try:
            found = drain(executor, tasks)
        finally:
            executor.close()
        here = Worker(setup_of(spec))
        for task in tasks:
            outcome = found[task.number]
            assert repr(content(outcome)) == repr(content(here.attempt(job_of(task)).outcome(task)))
            assert outcome.task == task
            assert outcome.place.pid > 0
            assert isinstance(outcome, Finished)
            assert 0 < outcome.started_at <= outcome.finished_at

    def test_an_exception_is_the_failure_of_its_pack_alone(self, executor: Executor) -> None:
        spec = toy_spec(trainer="tests.service.toy:failing", configurations=6, arms=["initial"])
        tasks = [task._replace(alone=task.number % 2 == 0) for task in tasks_of(spec)]
        start(executor, spec)
        try:
            found = drain(executor, tasks)
        finally:
            executor.close()
        failed = [number for number, outcome in found.items() if isinstance(outcome, Failed)]
        assert sorted(failed) == [task.number for task in tasks if task.runs[0].seed % 3 == 0]
        assert 0 < len(failed) < len(tasks)
        for outcome in found.values():
            assert isinstance(outcome, Finished | Failed)
            assert isinstance(outcome, Finished) or outcome.error == "RuntimeError: this seed is poisoned"

    def test_closing_stops_the_workers_and_abandons_what_they_had(self, executor: Executor) -> None:
        spec = toy_spec(trainer="tests.service.toy:slow")
        start(executor, spec)
        assert executor.room() > 0
        executor.submit(tasks_of(spec)[0])
        room = executor.room()
        executor.close()
        assert executor.workers() == 0
        assert executor.room() <= room
        time.sleep(0.6)  # longer than the task would take
        assert executor.wait(0.0) == []
        executor.close()

    def test_with_nothing_to_do_it_waits_no_longer_than_it_may(self, executor: Executor) -> None:
        start(executor, toy_spec())
        try:
            assert executor.wait(0.0) == []
            assert executor.wait(0.05) == []
        finally:
            executor.close()


class ProcessConformance(ExecutorConformance):
    """For an executor whose workers are processes of their own."""

    @pytest.mark.parametrize("alone", [True, False])
    def test_a_task_that_kills_its_worker_is_lost_and_the_others_go_on(self, executor: Executor, alone: bool) -> None:
        spec = toy_spec(
            trainer="tests.service.toy:deadly", seed=1, configurations=4, models=[{"hidden": [8]}], arms=["initial"]
        )
        tasks = [task._replace(alone=alone) for task in tasks_of(spec)]
        deadly = {task.number for task in tasks if task.runs[0].seed % 8 == 0}
        assert len(deadly) == 1
        start(executor, spec)
        try:
            found = drain(executor, tasks)
        finally:
            executor.close()
        lost = {number: outcome for number, outcome in found.items() if isinstance(outcome, Lost)}
        assert deadly <= lost.keys()
        assert lost.keys() == deadly or not alone, "a worker had other tasks"
        for outcome in lost.values():
            assert outcome.sole == (len(lost) == 1)
            assert outcome.place.pid > 0
            assert outcome.error
