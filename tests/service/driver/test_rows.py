"""From outcomes to the rows of the tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.driver.rows import Batch, attempt_row, failed_row, result_row
from service.executors.base import Failed, Finished, Lost, Place, Task, Trained
from service.spec.arms import ARMS
from service.spec.plan import Pack, Plan, make_plan
from tests.service.driver.scripted import small_spec
from trainers.records import Result

HERE = Place("node", "10.0.0.1", "cpu", 7)
METRICS = {"t1_loss": 0.1, "t2_loss": 0.2, "t2_error": 0.3, "test_loss": 0.4, "test_error": 0.5}
RESULT = Result(
    member=0, status="completed", steps=20, initial={"a": 1.0}, final={"a": 2.0}, train_time_s=0.01, **METRICS
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(small_spec())


@pytest.fixture
def task(plan: Plan) -> Task:
    arm = ARMS["online"]
    return Task(1, Pack(arm, 0, (0, 1)), (plan.run(arm, 0, 0), plan.run(arm, 0, 1)), attempt=3)


def test_the_row_of_a_result(plan: Plan, task: Task) -> None:
    row = result_row(plan, task, task.runs[1], RESULT)
    assert (row["run_id"], row["config_index"], row["arm"]) == (task.runs[1].run_id, 1, "online")
    assert (row["status"], row["attempt"], row["a_final"]) == ("completed", 3, 2.0)
    assert {name: row[name] for name in METRICS} == METRICS
    assert row["input_noise_std_initial"] == task.runs[1].initial["input_noise_std"]


def test_a_loss_that_is_not_finite_is_null(plan: Plan, task: Task) -> None:
    row = result_row(plan, task, task.runs[0], replace(RESULT, status="diverged", test_loss=float("inf")))
    assert (row["status"], row["test_loss"], row["t1_loss"]) == ("diverged", None, 0.1)


def test_the_row_of_a_run_that_was_given_up(plan: Plan, task: Task) -> None:
    row = failed_row(plan, task, task.runs[0], "why")
    assert (row["status"], row["error"]) == ("failed", "why")
    assert "test_loss" not in row


def test_attempts_say_how_where_and_when_they_ended(task: Task) -> None:
    finished = Finished(task=task, place=HERE, started_at=1.0, finished_at=2.0, trained=Trained([], {}))
    failed = Failed(task=task, place=HERE, started_at=1.0, finished_at=2.0, error="its own")
    lost = Lost(task=task, place=Place(), finished_at=2.0, error="the node's")
    good, bad, gone = (attempt_row(each, task.runs[0], "word") for each in (finished, failed, lost))
    assert (good["node_ip"], good["pid"], good["error"]) == ("10.0.0.1", 7, None)
    assert (good["started_at"], good["finished_at"]) == tuple(datetime.fromtimestamp(s, UTC) for s in (1, 2))
    assert (bad["attempt"], bad["error"], bad["outcome"]) == (3, "its own", "word")
    assert (gone["node_id"], gone["pid"], gone["started_at"], gone["error"]) == (None, None, None, "the node's")


def test_points_of_packs_whose_models_have_other_hyperparameters_fill_one_table(plan: Plan, task: Task) -> None:
    batch = Batch()
    batch.add_points(plan, task, {"member": [0, 1], "step": [0, 0], "a": [1.0, 2.0]})
    batch.add_points(plan, task, {"member": [1], "step": [0], "b": [3.0]})
    assert batch.points["run_id"] == [task.runs[0].run_id, *[task.runs[1].run_id] * 2]
    assert (batch.points["a"], batch.points["b"]) == ([1.0, 2.0, None], [None, None, 3.0])
    assert "member" not in batch.points
    assert batch.size == 3
