"""A study whose runs are lost, fail or diverge, and which is told to stop or to wait meanwhile."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from service import StudyStatus, read_events, read_status, read_study, request, resume_study, run_study
from service.errors import StorageError
from service.executors.base import Lost, Notice, Outcome, Place, WorkerSetup
from service.executors.serial import SerialExecutor
from service.records.events import Event
from service.storage.files import Storage
from tests.service.driver.full import FullDisk
from tests.service.studies import assert_complete, assert_same_results, run_serially, table, toy_spec


class LossyExecutor(SerialExecutor):
    """Loses every task of a seed divisible by three, the first ``losses`` times."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses, self.lost = losses, dict[str, int]()

    def wait(self, timeout_s: float) -> list[Outcome]:
        task = self._task
        assert task is not None
        run = task.runs[0]
        if run.seed % 3 == 0 and self.lost.get(run.run_id, 0) < self.losses:
            self.lost[run.run_id] = self.lost.get(run.run_id, 0) + 1
            self._task = None
            return [Lost(task=task, place=Place(), finished_at=0.0, error="the node died")]
        return super().wait(timeout_s)


def test_losses_are_retried_and_recorded(calm: Path, tmp_path: Path) -> None:
    executor = LossyExecutor(losses=3)
    status = run_study(toy_spec(), tmp_path / "toy", executor=executor)
    assert_same_results(tmp_path / "toy", calm)
    lost = table(tmp_path / "toy", "attempts").query("outcome == 'lost'")
    assert status.lost == len(lost) == sum(executor.lost.values()) > 0
    assert set(lost["error"]) == {"the node died"}


def test_a_run_that_is_lost_too_often_fails_and_stalls_nothing(tmp_path: Path) -> None:
    status = run_study(toy_spec(execution={"loss_retries": 2}), tmp_path / "toy", executor=LossyExecutor(losses=99))
    runs = table(tmp_path / "toy")
    failed = runs[runs["status"] == "failed"]
    assert status.state == "completed"
    assert status.failed == len(failed) > 0
    assert set(failed["error"]) == {
        "lost 3 times: the node died",
        "not trained: its online run failed, so there are no final values",
    }


@pytest.mark.parametrize("pack_size", [1, 3])
def test_failure_and_divergence_are_results(tmp_path: Path, pack_size: int) -> None:
    spec = toy_spec(trainer="tests.service.toy:failing", configurations=8, execution={"runs_per_actor": pack_size})
    status = run_serially(spec, tmp_path / "toy")
    runs = table(tmp_path / "toy")
    kinds = {0: "failed", 1: "diverged", 2: "completed"}
    assert list(runs["status"]) == [kinds[seed % 3] for seed in runs["seed"]]
    assert (status.completed, status.diverged, status.failed) == tuple(
        (runs["status"] == word).sum() for word in ("completed", "diverged", "failed")
    )
    diverged = runs[runs["status"] == "diverged"]
    assert diverged["test_loss"].isna().all()
    assert diverged["log10_l2_layer1_final"].notna().all()
    assert set(runs["error"].dropna()) == {
        "RuntimeError: this seed is poisoned",
        "not trained: its online run failed, so there are no final values",
    }
    failed = runs[runs["status"] == "failed"]["run_id"]
    assert not table(tmp_path / "toy", "trajectories")["run_id"].isin(failed).any()


def test_retrying_failed_runs(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    spec = toy_spec(trainer="tests.service.toy:moody", configurations=8)
    os.environ["TOY_MOOD"] = "bad"
    try:
        assert run_serially(spec, out).failed > 0
    finally:
        del os.environ["TOY_MOOD"]
    request(str(out), "retry")
    assert run_serially(spec, out).failed == 0
    assert_complete(out, spec)
    runs = table(out)
    assert (runs["attempt"] > 1).any()


def test_failed_runs_that_wait_for_their_retry_are_not_counted_as_published(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    spec = toy_spec(trainer="tests.service.toy:failing", configurations=8)
    failed = run_serially(spec, out).failed
    published = read_study(str(out))["tables"]["runs"]

    class Cancelled(SerialExecutor):
        def start(self, setup: WorkerSetup, notice: Notice) -> None:
            request(str(out), "cancel")

    request(str(out), "retry")
    assert run_study(spec, out, executor=Cancelled()).state == "cancelled"
    assert read_study(str(out))["tables"]["runs"] == len(table(out)) == published - failed


def test_a_full_disk_leaves_true_numbers_and_the_next_driver_says_what_it_trains_again(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "toy"
    monkeypatch.setattr(FullDisk, "room", 6)
    monkeypatch.setattr("service.driver.committer.LOCAL_ROWS", 20)
    shown: list[StudyStatus] = []
    storage = Storage(FullDisk(str(out)), tries=2, first_delay_s=0.0)
    told: list[str] = []
    with pytest.raises(StorageError, match=r"after 2 tries: .*No space left on device"):
        run_study(
            toy_spec(),
            storage,
            executor=SerialExecutor(),
            on_progress=shown.append,
            on_event=lambda event: told.append(event.kind),
        )
    assert "storage_retry" in told
    status = read_status(str(out))
    committed = sum(len(pq.read_table(path)) for path in out.glob("ledger/runs/*.parquet"))
    assert (status.state, status.total_done - status.uncommitted) == ("failed", committed)
    assert committed > 0
    assert status.uncommitted > 0
    assert shown[-1] == dataclasses.replace(status, uri=shown[-1].uri), "the display shows the end as well"

    events: list[Event] = []
    assert run_serially(toy_spec(), out, on_event=events.append).state == "completed"
    assert_same_results(out, calm)
    (resumed,) = [event for event in events if event.kind == "resumed"]
    assert resumed.message == (
        f"{status.uncommitted} runs had finished and were not yet committed; {status.in_flight} were in training. "
        "All of them are trained again"
    )
    lost = table(out, "attempts").query("outcome == 'lost'")
    assert (lost["error"] == "the driver ended before the run was committed").sum() == status.uncommitted
    assert len(lost) == status.uncommitted + status.in_flight


def test_a_spec_with_fewer_configurations_removes_none_and_is_told_so(tmp_path: Path) -> None:
    events: list[Event] = []
    run_serially(toy_spec(configurations=3), tmp_path / "toy", on_event=events.append)
    assert not [event for event in events if event.kind == "configurations_kept"]
    status = run_serially(toy_spec(configurations=2), tmp_path / "toy", on_event=events.append)
    assert status.planned["online"] == 6
    assert [event.message for event in events if event.kind == "configurations_kept"] == [
        "3, not the 2 of this spec: none is removed"
    ]


def test_a_driver_that_ended_cleanly_has_lost_nothing(tmp_path: Path) -> None:
    events: list[Event] = []
    assert run_serially(toy_spec(configurations=1), tmp_path / "toy").uncommitted == 0
    run_serially(toy_spec(configurations=2), tmp_path / "toy", on_event=events.append)
    assert [event.message for event in events if event.kind == "resumed"] == ["nothing was lost with the last driver"]


def test_cancel_publishes_what_is_there_and_can_be_resumed(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"

    class Cancelling(SerialExecutor):
        def wait(self, timeout_s: float) -> list[Outcome]:
            if not (out / "control").exists() or not list((out / "control").iterdir()):
                request(str(out), "cancel")
            return super().wait(timeout_s)

    assert run_study(toy_spec(), out, executor=Cancelling()).state == "cancelled"
    assert 0 < len(table(out)) < 42
    assert read_status(str(out)).state == "cancelled"
    assert resume_study(str(out), executor=SerialExecutor()).state == "completed"
    assert_same_results(out, calm)


def test_pause_stops_new_work_until_resumed(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    seen: list[tuple[str, int]] = []

    class Pausing(SerialExecutor):
        asked = False

        def wait(self, timeout_s: float) -> list[Outcome]:
            if not self.asked and (out / "study.json").exists():
                self.asked = True
                request(str(out), "pause")
            return super().wait(timeout_s)

    def watch(status: StudyStatus) -> None:
        seen.append((status.state, status.total_done))
        if [state for state, _ in seen].count("paused") == 2:
            request(str(out), "resume")

    assert run_study(toy_spec(), out, executor=Pausing(), on_progress=watch).state == "completed"
    paused = {done for state, done in seen if state == "paused"}
    assert len(paused) == 1
    assert paused.pop() < 42
    assert [event.kind for event in read_events(str(out)) if "pause" in event.kind] == ["paused", "unpaused"]
