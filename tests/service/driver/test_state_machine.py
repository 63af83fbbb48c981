"""The ledger's promise, whatever happens in whatever order: found by a machine that tries histories of a study.

Every committed run stays committed with its values, and its trajectory with it. No committed run is trained again. What
is planned and not committed is trained, and in the end the tables are those of a study that nothing disturbed.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service import request, run_study
from service.driver.driver import Driver
from service.executors.base import Task
from service.executors.serial import SerialExecutor
from service.storage.files import Storage
from tests.service.driver.crashing import Crash, CrashingDirectory, Moment
from tests.service.driver.scripted import ScriptedExecutor, open_driver, rows, small_spec
from tests.service.studies import assert_complete, assert_same_results, run_serially, table

MOST_CONFIGURATIONS = 3
MOMENTS = st.sampled_from(["before", "within", "after"])


@lru_cache(maxsize=16)
def calm(configurations: int, pack_size: int) -> Path:
    """A finished study that nothing disturbed."""
    out = Path(tempfile.mkdtemp()) / "calm"
    run_serially(spec_of(configurations, pack_size), out)
    return out


def spec_of(configurations: int, pack_size: int) -> Any:
    execution = {"loss_retries": 1, "failure_retries": 1, "runs_per_actor": pack_size}
    return small_spec(configurations=configurations, execution=execution)


class StudyHistory(RuleBasedStateMachine):
    """A study whose driver commits after each step, and dies now and then."""

    driver: Driver | None = None

    @initialize(pack_size=st.sampled_from([1, 2]), last_writes=st.integers(0, 40), last_moment=MOMENTS)
    def begin(self, pack_size: int, last_writes: int, last_moment: Moment) -> None:
        self.last_crash = (last_writes, last_moment)
        self.place = Path(tempfile.mkdtemp())
        self.out, self.pack_size, self.configurations = self.place / "study", pack_size, 1
        self.damaged = False
        self.promised: dict[str, dict[str, Any]] = {}  # rows that were committed once
        self.resume()

    @precondition(lambda self: self.driver is None)
    @rule()
    def resume(self) -> None:
        """A new driver takes over where the last one died."""
        self.backend = CrashingDirectory(str(self.out))
        self.storage = Storage(self.backend)
        spec = spec_of(self.configurations, self.pack_size)
        self.executor = ScriptedExecutor(spec)
        self.driver = open_driver(self.storage, self.executor, spec)
        self.configurations = self.driver.plan.spec.configurations
        self.driver.take_standing_requests()
        self.step()

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 3))
    def finish(self, which: int) -> None:
        self.executor.finish(self.task(which))
        self.step()

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 3))
    def fail(self, which: int) -> None:
        self.executor.fail(self.task(which))
        self.step()

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 3), sole=st.booleans())
    def lose(self, which: int, sole: bool) -> None:
        self.executor.lose(self.task(which), sole)
        self.step()

    @precondition(lambda self: self.driver and self.configurations < MOST_CONFIGURATIONS)
    @rule()
    def extend(self) -> None:
        self.configurations += 1
        request(str(self.out), "extend", configurations=self.configurations)
        self.step()

    @precondition(lambda self: self.driver)
    @rule()
    def retry_failed_runs(self) -> None:
        self.promised = {key: row for key, row in self.promised.items() if row["status"] != "failed"}
        request(str(self.out), "retry")
        self.step()

    @precondition(lambda self: self.driver)
    @rule(action=st.sampled_from(["pause", "resume"]))
    def pause_or_go_on(self, action: Any) -> None:
        request(str(self.out), action)
        self.step()

    @precondition(lambda self: self.driver and self.backend.crash_in is None)
    @rule(writes=st.integers(0, 9), moment=MOMENTS)
    def crash_soon(self, writes: int, moment: Moment) -> None:
        """The driver will die at one of the next writes."""
        self.backend.crash_in, self.backend.moment = writes, moment

    @precondition(lambda self: self.driver is None)
    @rule(
        which=st.integers(0, 3),
        name=st.sampled_from(["runs", "trajectories", "attempts"]),
        how=st.sampled_from(["cut", "emptied", "flipped"]),
        where=st.floats(0, 1, exclude_max=True),
    )
    def damage(self, which: int, name: str, how: str, where: float) -> None:
        """A disk has damaged a shard while no driver ran: its runs are no longer promised."""
        shards = sorted((self.out / "ledger" / name).glob("*.parquet"))
        if shards:
            shard = shards[which % len(shards)]
            content = bytearray(shard.read_bytes() if how != "emptied" else b"")
            if how == "cut":
                del content[-20:]
            elif content:
                content[int(where * len(content))] ^= 1 << int(where * 1e6) % 8
            shard.write_bytes(content)
            self.damaged = True
            self.promised.clear()

    @property
    def in_flight(self) -> bool:
        return self.driver is not None and bool(self.executor.tasks)

    def task(self, which: int) -> Task:
        return self.executor.tasks[which % len(self.executor.tasks)]

    def step(self) -> None:
        """Let the driver take what has ended, commit it, and hand out work; it may die on the way."""
        assert self.driver is not None
        try:
            self.driver.step()
            self.driver.step()
        except Crash:
            self.bury()

    def bury(self) -> None:
        assert self.driver is not None
        self.driver._committer.close()
        self.driver = None

    @invariant()
    def the_promise_holds(self) -> None:
        if self.driver is not None:
            self.what_was_committed_stays()
            self.a_row_has_its_trajectory()
            self.the_driver_counts_what_is_committed()
            flying = [run.run_id for task in self.executor.tasks for run in task.runs]
            assert len(flying) == len({*flying} - self.promised.keys()), "what is committed is not trained again"

    def what_was_committed_stays(self) -> None:
        runs = [without_time(row) for row in self.rows("runs")]
        found = {row["run_id"]: row for row in runs}
        assert all(found[row["run_id"]] == row for row in runs), "a run has one result"
        assert {run_id: found.get(run_id) for run_id in self.promised} == self.promised
        self.promised = found

    def a_row_has_its_trajectory(self) -> None:
        steps: dict[str, set[int]] = {}
        for point in self.rows("trajectories"):
            steps.setdefault(point["run_id"], set()).add(point["step"])
        for run_id, row in self.promised.items():
            assert len(steps.get(run_id, ())) == (0 if row["status"] == "failed" else 2)

    def the_driver_counts_what_is_committed(self) -> None:
        assert self.driver is not None
        status, found = self.driver.status(), list(self.promised.values())
        assert status.done == {arm: sum(row["arm"] == arm for row in found) for arm in status.planned}
        assert status.completed == sum(row["status"] == "completed" for row in found)
        assert status.failed == sum(row["status"] == "failed" for row in found)
        lost = {(row["run_id"], row["attempt"]) for row in self.rows("attempts") if row["outcome"] == "lost"}
        assert status.lost == len(lost)

    def rows(self, name: str) -> list[dict[str, Any]]:
        assert self.driver is not None
        return rows(self.storage, self.driver, name)

    def teardown(self) -> None:
        """Whatever has happened, the study can be brought to its end, even if it dies once more on the way."""
        if self.driver is not None:
            self.bury()
        if hasattr(self, "out"):
            spec = spec_of(self.configurations, self.pack_size)
            request(str(self.out), "retry")
            self.backend = CrashingDirectory(str(self.out))
            self.backend.crash_in, self.backend.moment = self.last_crash
            with suppress(Crash):
                run_study(spec, Storage(self.backend), executor=SerialExecutor())
            (self.out / "lease.json").unlink(missing_ok=True)  # of a driver in this process, which goes on living
            shutil.rmtree(self.out / "lease", ignore_errors=True)
            request(str(self.out), "retry")
            status = run_study(spec, self.out, executor=SerialExecutor())
            assert_complete(self.out, spec)
            assert_same_results(self.out, calm(self.configurations, self.pack_size))
            attempts = table(self.out, "attempts")
            assert not attempts.duplicated(["run_id", "attempt"]).any()
            assert status.lost == (attempts["outcome"] == "lost").sum()
            completed = attempts[attempts["outcome"] == "completed"]
            assert self.damaged or completed["run_id"].is_unique, "no run was trained twice"
            assert self.damaged or completed["run_id"].nunique() == status.total_done
            shutil.rmtree(self.place)


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "train_time_s"}


@pytest.fixture(autouse=True)
def _commit_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.driver.committer.LOCAL_ROWS", 0)
    monkeypatch.setattr("service.ledger.shards.FAN_IN", 3)


# A history is short enough to be read; to make it shorter would take minutes.
StudyHistory.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, phases=[Phase.explicit, Phase.generate]
)
TestStudyHistory = StudyHistory.TestCase
