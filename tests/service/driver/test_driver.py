"""The driver's loop, with workers that end their tasks as the test says and a real ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import StudyBusyError, request
from service.driver.driver import Driver
from service.records.events import Event
from service.records.manifest import Manifest
from service.storage.files import open_storage
from tests.service.driver.scripted import ScriptedExecutor, open_driver, rows, small_spec


@pytest.fixture(autouse=True)
def _commit_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.driver.committer.LOCAL_ROWS", 0)


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor(small_spec(), room=2)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def driver(tmp_path: Path, executor: ScriptedExecutor, events: list[Event]) -> Driver:
    return open_driver(open_storage(tmp_path), executor, small_spec(), events.append)


def arms(executor: ScriptedExecutor) -> list[str]:
    return [task.pack.arm.name for task in executor.tasks]


def finish_all(driver: Driver, executor: ScriptedExecutor) -> None:
    while not driver.finished():
        for task in list(executor.tasks):
            executor.finish(task)
        driver.step()


def test_no_more_is_in_flight_than_the_executor_has_room_for(driver: Driver, executor: ScriptedExecutor) -> None:
    driver.step()
    assert arms(executor) == ["online", "initial"]
    driver.step()
    assert len(executor.submitted) == 2
    executor.finish(executor.tasks[0])
    driver.step()
    driver.step()
    assert arms(executor) == ["initial", "rerun"]


def test_what_has_ended_is_committed(tmp_path: Path, driver: Driver, executor: ScriptedExecutor) -> None:
    driver.step()
    task = executor.tasks[0]
    executor.finish(task)
    driver.step()
    (row,) = rows(open_storage(tmp_path), driver, "runs")
    assert row["run_id"] == task.runs[0].run_id
    assert {point["run_id"] for point in rows(open_storage(tmp_path), driver, "trajectories")} == {row["run_id"]}
    assert driver.status().done == {"initial": 0, "online": 1, "rerun": 0, "grid": 0}


def test_a_driver_ends_when_all_is_committed(driver: Driver, executor: ScriptedExecutor) -> None:
    finish_all(driver, executor)
    assert driver.run() == "completed"
    assert driver.status().completed == 8


def test_the_next_driver_does_what_is_left_and_counts_what_was_lost(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    driver.step()
    executor.finish(executor.tasks[0])
    driver.step()
    driver.step()
    flying = {run.run_id for task in executor.tasks for run in task.runs}
    successor = ScriptedExecutor(small_spec())
    after = open_driver(open_storage(tmp_path), successor, small_spec())
    assert after.status().lost == len(flying) == 2
    finish_all(after, successor)
    trained = [run.run_id for task in successor.submitted for run in task.runs]
    assert len(trained) == len(set(trained)) == 7
    assert executor.submitted[0].runs[0].run_id not in trained
    assert {task.attempt for task in successor.submitted if task.runs[0].run_id in flying} == {2}


def test_a_driver_that_is_told_to_stop_records_what_was_in_flight(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    driver.step()
    driver.stop = True
    assert driver.run() == "interrupted"
    found = rows(open_storage(tmp_path), driver, "attempts")
    assert [(row["outcome"], row["error"]) for row in found] == [("lost", "the driver was told to stop")] * 2
    assert driver.at_stake() == []


def test_a_paused_driver_takes_what_ends_and_hands_out_nothing(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    driver.step()
    request(str(tmp_path), "pause")
    executor.finish(executor.tasks[0])
    driver.step()
    driver.step()
    assert (driver.state, arms(executor), driver.status().total_done) == ("paused", ["initial"], 1)
    request(str(tmp_path), "resume")
    driver.step()
    driver.step()
    assert arms(executor) == ["initial", "rerun"]


def test_a_cancelled_driver_ends(tmp_path: Path, driver: Driver) -> None:
    request(str(tmp_path), "cancel")
    assert driver.run() == "cancelled"


def test_an_extended_study_is_kept_before_it_is_begun(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    finish_all(driver, executor)
    request(str(tmp_path), "extend", configurations=4)
    driver.step()
    assert Manifest.load(open_storage(tmp_path)).configurations == 4
    finish_all(driver, executor)
    assert driver.status().done == {"initial": 4, "online": 4, "rerun": 4, "grid": 2}
    trained = [run.run_id for task in executor.submitted for run in task.runs]
    assert len(trained) == len(set(trained)) == 14


def test_a_request_for_more_than_can_be_is_told_and_changes_nothing(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor, events: list[Event]
) -> None:
    """As an earlier version of the program left it, or somebody by hand."""
    storage = open_storage(tmp_path)
    storage.write("control/0.json", b'{"action": "extend", "configurations": 10000000000000}')
    driver.step()
    driver.step()
    assert Manifest.load(storage).configurations == driver.plan.spec.configurations == 2
    [refused] = [event for event in events if event.kind == "request_refused"]
    assert refused.message.startswith("extend: configurations = 10000000000000: must be at least 1 and at most")
    finish_all(driver, executor)
    assert driver.status().completed == 8


def test_failed_runs_are_trained_again_by_request(tmp_path: Path, driver: Driver, executor: ScriptedExecutor) -> None:
    for _ in range(2):  # a run's first attempt and its one retry, together with those of the run beside it
        driver.step()
        for task in executor.tasks:
            executor.fail(task)
        driver.step()
    finish_all(driver, executor)
    assert driver.status().failed == 3, "online with its rerun, and initial"
    request(str(tmp_path), "retry")
    driver.step()
    assert driver.status().failed == 0
    finish_all(driver, executor)
    assert driver.status().completed == 8


def test_a_request_that_is_carried_out_twice_changes_nothing_more(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    """As after a driver's death between a request's end and the deletion of its file."""
    request(str(tmp_path), "extend", configurations=3)
    driver.step()
    task = executor.tasks[0]
    for action in ("retry", "retry", "pause", "pause", "resume", "resume"):
        request(str(tmp_path), action)
    storage = open_storage(tmp_path)
    storage.write("control/0.json", b'{"action": "extend", "configurations": 3}')
    driver.step()
    assert (driver.state, driver.plan.spec.configurations, executor.tasks[0]) == ("running", 3, task)
    finish_all(driver, executor)
    trained = [run.run_id for task in executor.submitted for run in task.runs]
    assert len(trained) == len(set(trained)) == 11


def test_an_outcome_of_a_task_that_is_not_in_flight_is_passed_over(driver: Driver, executor: ScriptedExecutor) -> None:
    driver.step()
    task = executor.tasks[0]
    executor.finish(task)
    executor.finish(task)
    driver.step()
    assert driver.status().completed == 1


def test_a_driver_whose_study_was_taken_over_ends(driver: Driver) -> None:
    driver._lease.taken_by = "elsewhere:7"
    with pytest.raises(StudyBusyError, match=r"elsewhere:7 has taken this study over"):
        driver.step()


def test_a_result_that_comes_after_its_task_was_lost_is_not_counted(
    tmp_path: Path, driver: Driver, executor: ScriptedExecutor
) -> None:
    """The worker was taken for hung, its runs went to another one, and then it goes on."""
    driver.step()
    task = executor.tasks[0]
    executor.lose(task)
    driver.step()
    finish_all(driver, executor)
    ended = driver.status().done
    executor.finish(task)
    driver.step()
    assert driver.status().done == ended
    driver.run()
    run_ids = [row["run_id"] for row in rows(open_storage(tmp_path), driver, "runs")]
    assert len(run_ids) == len(set(run_ids)) == 8
    attempts = [row for row in rows(open_storage(tmp_path), driver, "attempts") if row["run_id"] == task.runs[0].run_id]
    assert sorted((row["attempt"], row["outcome"]) for row in attempts) == [(1, "lost"), (2, "completed")]
