"""What CONTRIBUTING says that a change costs is true: throw-away parts, put in where a real one would be, work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from service import run_study
from service.executors.base import Notice, Outcome, Task, WorkerSetup
from service.executors.serial import SerialExecutor
from service.executors.worker import Worker, job_of
from service.spec import study_spec
from service.spec.arms import ARMS, Arm
from tests.service.driver.scripted import small_spec
from tests.service.studies import assert_same_results, run_serially, table
from trainers.bounds import settings_of

NewArm = Callable[[Arm], None]


def forget_types() -> None:
    """Specs are checked against the table of arms as it is now, as in a new process."""
    settings_of.cache_clear()
    study_spec._adapter.cache_clear()


@pytest.fixture
def new_arm() -> Iterator[NewArm]:
    """Adds an entry to the table of arms, for one test."""
    with pytest.MonkeyPatch.context() as patch:

        def add(arm: Arm) -> None:
            patch.setitem(ARMS, arm.name, arm)
            patch.setattr(study_spec, "ArmName", Literal[tuple(ARMS)])
            forget_types()

        yield add
    forget_types()


def test_an_arm_that_follows_another_is_an_entry_of_the_table(tmp_path: Path, new_arm: NewArm) -> None:
    """Tuned once more from where the rerun ended: a chain of three."""
    new_arm(Arm(name="onward", tuned=True, follows="rerun"))
    status = run_serially(small_spec(arms=["initial", "online", "rerun", "onward"]), tmp_path / "study")
    assert status.planned == status.done == {"initial": 2, "online": 2, "rerun": 2, "onward": 2}
    runs = table(tmp_path / "study")
    assert list(runs["arm"]) == ["initial", "online", "rerun", "onward"] * 2
    of = {arm: runs[runs["arm"] == arm].set_index("config_index") for arm in runs["arm"]}
    assert (of["onward"]["input_noise_std_initial"] == of["rerun"]["input_noise_std_final"]).all()
    assert (of["onward"]["input_noise_std_final"] != of["onward"]["input_noise_std_initial"]).all(), "it is tuned"
    assert (of["onward"]["seed"] == of["initial"]["seed"]).all()


def test_when_the_first_of_a_chain_fails_all_of_it_fails(tmp_path: Path, new_arm: NewArm) -> None:
    new_arm(Arm(name="onward", follows="rerun"))
    status = run_serially(
        small_spec(arms=["online", "rerun", "onward"], trainer=f"{__name__}:poisoned"), tmp_path / "study"
    )
    assert status.failed == 6
    errors = table(tmp_path / "study").groupby("arm")["error"].first()
    assert errors["onward"] == "not trained: its rerun run failed, so there are no final values"
    assert errors["rerun"] == "not trained: its online run failed, so there are no final values"


def poisoned(*arguments: object, **options: object) -> None:
    raise RuntimeError("poisoned")


def test_an_arm_on_the_grid_is_an_entry_of_the_table(tmp_path: Path, new_arm: NewArm) -> None:
    new_arm(Arm(name="tuned_grid", tuned=True, on_grid=True, priority=1))
    assert run_serially(small_spec(arms=["online", "grid", "tuned_grid"]), tmp_path / "study").completed == 6
    runs = table(tmp_path / "study")
    assert list(runs["arm"]) == ["online", "online", "grid", "tuned_grid", "grid", "tuned_grid"]
    cells = [runs[runs["arm"] == arm].reset_index() for arm in ("grid", "tuned_grid")]
    assert (cells[0]["seed"] == cells[1]["seed"]).all()
    assert (cells[0]["log10_l2_layer1_initial"] == cells[1]["log10_l2_layer1_initial"]).all()
    assert set(cells[0]["run_id"]).isdisjoint(cells[1]["run_id"])


class ShuffledExecutor:
    """Three workers in this process, and the outcomes in an order of their own."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._tasks: deque[Task] = deque()
        self._random = np.random.default_rng(0)

    def start(self, setup: WorkerSetup, notice: Notice) -> None:
        self._workers = [Worker(setup) for _ in range(3)]

    def room(self) -> int:
        return len(self._workers) - len(self._tasks)

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._tasks:
            return []
        self._tasks.rotate(int(self._random.integers(3)))
        task = self._tasks.popleft()
        return [self._workers[task.number % 3].attempt(job_of(task)).outcome(task)]

    def workers(self) -> int:
        return len(self._workers)

    def close(self) -> None:
        self._workers, self._tasks = [], deque()


def test_an_executor_is_an_object_with_six_methods(tmp_path: Path) -> None:
    assert run_study(small_spec(), tmp_path / "shuffled", executor=ShuffledExecutor()).state == "completed"
    run_study(small_spec(), tmp_path / "serial", executor=SerialExecutor())
    assert_same_results(tmp_path / "shuffled", tmp_path / "serial")
