"""A study from its creation to its tables, with the driver's own process as the only worker."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service import (
    AnotherStudyError,
    NewerSchemaError,
    SpecError,
    StorageError,
    StudyBusyError,
    StudyError,
    StudyNotFoundError,
    StudyStatus,
    list_studies,
    read_events,
    read_spec,
    read_status,
    read_study,
    request,
    resume_study,
    run_study,
    study_uri,
)
from service.client.lifecycle import create_study
from service.executors.base import Lost, Outcome, Place
from service.executors.serial import SerialExecutor
from service.ledger.schema import SCHEMA_VERSION, schemas
from service.ledger.shards import Ledger
from service.storage.files import open_storage
from service.storage.lease import Lease
from tests.service.studies import assert_complete, assert_same_results, run_serially, table, toy_spec
from tests.trainers.idx import small_mnist, write_mnist


class Crash(BaseException):
    """Not an Exception, as a kill is none: nothing may handle it."""


class CrashingExecutor(SerialExecutor):
    """Ends the driver abruptly after some tasks."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def wait(self, timeout_s: float) -> list[Outcome]:
        if self.left == 0:
            raise Crash
        self.left -= 1
        return super().wait(timeout_s)


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


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study that nothing disturbed."""
    out = tmp_path_factory.mktemp("calm") / "toy"
    run_serially(toy_spec(), out)
    return out


def test_a_study_is_complete_and_leaves_no_shards(calm: Path) -> None:
    assert_complete(calm, toy_spec())
    assert not list(calm.glob("ledger/**/*.parquet"))
    assert {path.name for path in calm.iterdir()} == {
        "study.json",
        "progress.json",
        "events",
        "ledger",
        "runs.parquet",
        "trajectories.parquet",
        "attempts.parquet",
    }
    status = read_status(str(calm))
    assert (status.state, status.total_done, status.completed) == ("completed", 42, 42)


def test_tables_have_the_documented_schema_and_order(calm: Path) -> None:
    names = ["log10_l2_layer1", "log10_l2_layer2", "log10_l2_layer3", "input_noise_std"]
    for name, schema in schemas(names).items():
        found = pq.read_schema(calm / f"{name}.parquet")
        assert found.equals(schema, check_metadata=True)
        assert all(field.metadata[b"description"] for field in found)
    runs, points = table(calm), table(calm, "trajectories")
    assert list(runs["arm"][:6]) == ["initial", "online", "rerun"] * 2
    assert list(points["run_id"].drop_duplicates()) == list(runs["run_id"])
    assert points.groupby("run_id", sort=False)["step"].is_monotonic_increasing.all()
    assert set(table(calm, "attempts")["run_id"]) == set(runs["run_id"])


def test_every_parquet_file_names_its_schema_version(calm: Path, tmp_path: Path) -> None:
    crash_with_shards(tmp_path / "toy")
    files = [*calm.glob("*.parquet"), *(tmp_path / "toy").glob("ledger/*/*.parquet")]
    assert {path.parent.name for path in files} == {"toy", "runs", "trajectories", "attempts"}
    for path in files:
        assert pq.read_schema(path).metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


def test_reruns_start_where_their_online_runs_ended_even_outside_the_box(tmp_path: Path) -> None:
    narrow = {"log10_l2": {"low": -3.0, "high": -2.999}, "input_noise_std": {"low": 0.5, "high": 0.501}}
    spec = toy_spec(hyperparameters=narrow, arms=["initial", "online", "rerun"])
    run_serially(spec, tmp_path / "toy")
    assert_complete(tmp_path / "toy", spec)
    runs = table(tmp_path / "toy")
    online = runs[runs["arm"] == "online"]
    for name, box in narrow.items():
        assert online[f"{name}_initial"].between(box["low"], box["high"]).all()
        assert (online[f"{name}_final"] > box["high"]).any(), "not clamped, not refused"


def test_the_manifest_says_what_was_run_and_where(calm: Path) -> None:
    study = read_study(str(calm))
    assert study["schema_version"] == SCHEMA_VERSION
    assert study["study_hash"] == toy_spec().hash == read_spec(str(calm)).hash
    tables = study["tables"]
    assert [tables[name] for name in ("runs", "trajectories", "attempts")] == [42, 84, 42]
    assert study["provenance"]["hardware"]["cpus"] == os.cpu_count()
    assert study["provenance"]["versions"]["torch"]


@pytest.mark.parametrize("after", [0, 1, 7, 20, 41])
def test_a_crashed_study_resumes_without_training_anything_twice(calm: Path, tmp_path: Path, after: int) -> None:
    out = tmp_path / "toy"
    with pytest.raises(Crash):
        run_serially_with(CrashingExecutor(after), out)
    assert run_serially(toy_spec(), out).state == "completed"
    assert_same_results(out, calm)
    outcomes = table(out, "attempts").groupby("run_id")["outcome"].agg(list)
    assert all(sorted(found) in (["completed"], ["completed", "lost"]) for found in outcomes)


@pytest.mark.parametrize("which", ["attempts", "trajectories", "runs"])
def test_a_driver_that_dies_within_a_commit_leaves_lost_attempts(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    out = tmp_path / "toy"
    write = Ledger._write

    def die(ledger: Ledger, table: str, name: str, content: Any) -> None:
        if table == which and list(out.glob("ledger/runs/*.parquet")):  # not in the first commit
            raise Crash
        write(ledger, table, name, content)

    with monkeypatch.context() as context:
        context.setattr(Ledger, "_write", die)
        context.setattr("service.driver.driver.TICK_S", 0.0)
        with pytest.raises(Crash):
            run_serially(toy_spec(), out)
    status = run_serially(toy_spec(), out)
    assert_same_results(out, calm)
    attempts = table(out, "attempts")
    outcomes = attempts.groupby("run_id")["outcome"].agg(list)
    assert all(found in (["completed"], ["lost", "completed"]) for found in outcomes)
    lost = attempts[attempts["outcome"] == "lost"]
    assert status.lost == len(lost) > 0
    assert lost["error"].str.contains("driver").all()


def run_serially_with(executor: SerialExecutor, out: Path, **values: Any) -> StudyStatus:
    return run_study(toy_spec(**values), out, executor=executor)


def test_a_finished_study_is_not_trained_again(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(calm, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert run_serially_with(CrashingExecutor(0), out).state == "completed"
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before


def test_extension_keeps_what_is_there(calm: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "grown", tmp_path / "whole"
    shutil.copytree(calm, out)
    run_serially(toy_spec(configurations=5), out)
    run_serially(toy_spec(configurations=5), whole)
    assert_same_results(out, whole)
    assert len(table(out, "attempts")) == len(table(out)), "no run of the smaller study was trained again"


def test_extension_by_request_and_then_the_old_spec(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    shutil.copytree(calm, out)
    request(str(out), "extend", configurations=4)
    assert run_serially(toy_spec(), out).planned["online"] == 8
    assert run_serially(toy_spec(), out).planned["online"] == 8, "a study never shrinks"
    with pytest.raises(StudyError, match="configurations = 3: must be a whole number, at least the study's 4"):
        request(str(out), "extend", configurations=3)


def test_losses_are_retried_and_recorded(calm: Path, tmp_path: Path) -> None:
    executor = LossyExecutor(losses=3)
    status = run_serially_with(executor, tmp_path / "toy")
    assert_same_results(tmp_path / "toy", calm)
    lost = table(tmp_path / "toy", "attempts").query("outcome == 'lost'")
    assert status.lost == len(lost) == sum(executor.lost.values()) > 0
    assert set(lost["error"]) == {"the node died"}


def test_a_run_that_is_lost_too_often_fails_and_stalls_nothing(tmp_path: Path) -> None:
    status = run_serially_with(LossyExecutor(losses=99), tmp_path / "toy", execution={"loss_retries": 2})
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


def test_cancel_publishes_what_is_there_and_can_be_resumed(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"

    class Cancelling(SerialExecutor):
        def wait(self, timeout_s: float) -> list[Outcome]:
            if not (out / "control").exists() or not list((out / "control").iterdir()):
                request(str(out), "cancel")
            return super().wait(timeout_s)

    assert run_serially_with(Cancelling(), out).state == "cancelled"
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


@pytest.mark.parametrize("which", ["runs", "trajectories", "attempts"])
def test_a_truncated_shard_is_set_aside_and_its_runs_are_trained_again(calm: Path, tmp_path: Path, which: str) -> None:
    out = tmp_path / "toy"
    crash_with_shards(out)
    shard = next((out / "ledger" / which).iterdir())
    shard.write_bytes(shard.read_bytes()[:-20])
    events: list[str] = []
    run_serially(toy_spec(), out, on_event=lambda event: events.append(f"{event.kind}: {event.message}"))
    assert any("shard_corrupt" in event and shard.name in event for event in events)
    assert list((out / "ledger" / "corrupt").iterdir())
    assert_same_results(out, calm)


def crash_with_shards(out: Path) -> None:
    """A study that ended in the middle with some of its runs in shards."""
    with pytest.raises(Crash):
        run_serially_with(CrashingExecutor(20), out)
    assert list((out / "ledger" / "runs").iterdir())


@pytest.mark.parametrize("which", ["runs", "trajectories"])
def test_a_truncated_table_is_set_aside_and_its_runs_are_trained_again(calm: Path, tmp_path: Path, which: str) -> None:
    out = tmp_path / "toy"
    shutil.copytree(calm, out)
    path = out / f"{which}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    run_serially(toy_spec(), out)
    assert_same_results(out, calm)


def test_a_newer_schema_is_refused(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    shutil.copytree(calm, out)
    content = pq.read_table(out / "runs.parquet")
    pq.write_table(content.replace_schema_metadata({"schema_version": "99"}), out / "runs.parquet")
    with pytest.raises(NewerSchemaError, match=r"runs.parquet: written in schema version 99, this package reads up to"):
        run_serially(toy_spec(), out)
    study = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps(study | {"schema_version": 99}))
    with pytest.raises(NewerSchemaError, match=r"study.json: written in schema version 99"):
        read_status(str(out))


def test_another_spec_is_refused_with_the_differing_keys(calm: Path) -> None:
    with pytest.raises(AnotherStudyError) as error:
        run_serially(toy_spec(seed=6, inner={"steps": 3}), calm)
    assert error.value.differences == ["inner.steps: 3 here, 2000 in the study", "seed: 6 here, 5 in the study"]
    assert "'toy'" in str(error.value)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear …")
    with pytest.raises(StudyError, match=r"holds no study, yet is not empty \(letters.txt\)"):
        run_serially(toy_spec(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_unusable_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file/toy: cannot be read .*Not a directory"):
        run_serially(toy_spec(), tmp_path / "file" / "toy")
    with pytest.raises(StudyError, match=r"/proc/toy: cannot be written"):
        run_serially(toy_spec(), "/proc/toy")
    with pytest.raises(StudyError, match="cannot be opened"):
        run_serially(toy_spec(), "gopher://hole")
    with pytest.raises(StudyNotFoundError, match="holds no study"):
        read_status(str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match=r"name = '../x'"):
        study_uri(str(tmp_path), "../x")


@pytest.mark.parametrize(
    "values",
    [
        {"trainer": "t1t2", "data": {"t1_size": 10**6}},
        {"trainer": "t1t2", "data": {"name": "nothing"}},
        {"trainer": "tests.service.toy:nothing"},
        {"trainer": "t1t2", "data": {"name": "mnist", "root": "/nowhere"}},
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as error:
        run_serially(toy_spec(**values), tmp_path / "toy")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_made_in_python_has_its_data_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "files", small_mnist())
    monkeypatch.chdir(tmp_path)
    spec = toy_spec(
        trainer="t1t2",
        arms=["initial"],
        configurations=1,
        inner={"steps": 2, "batch_size": 10},
        outer={"batch_size": 10},
        data={"name": "mnist", "root": "files", "t1_size": 30, "t2_size": 10, "test_size": 20},
    )
    create_study(spec, str(tmp_path / "toy"))
    assert read_spec(str(tmp_path / "toy")).data.root == str(tmp_path / "files")
    monkeypatch.chdir("/")
    assert resume_study(str(tmp_path / "toy"), executor=SerialExecutor()).completed == 2


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    lease = Lease(open_storage(out))
    lease.acquire()
    try:
        with pytest.raises(StudyBusyError, match=f"the driver .*:{os.getpid()} is running this study"):
            run_serially(toy_spec(), out)
    finally:
        lease.release()


def test_a_storage_that_fails_leaves_a_resumable_study(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    storage = open_storage(out, tries=2, first_delay_s=0.01)

    class Breaking(SerialExecutor):
        """After ten tasks the directory of the shards is a file: every write below it fails."""

        left = 10

        def wait(self, timeout_s: float) -> list[Outcome]:
            self.left -= 1
            if self.left == 0:
                shutil.rmtree(out / "ledger", ignore_errors=True)
                (out / "ledger").write_text("")
            return super().wait(timeout_s)

    events: list[str] = []
    with pytest.raises(StorageError, match="after 2 tries"):
        run_study(toy_spec(), storage, executor=Breaking(), on_event=lambda event: events.append(event.kind))
    assert "storage_retry" in events
    status = read_status(str(out))
    assert status.state == "failed"
    assert "StorageError" in str(status.error)
    (out / "ledger").unlink()
    assert run_serially(toy_spec(), out).state == "completed"
    assert_same_results(out, calm)


def test_studies_below_a_root_are_listed(calm: Path) -> None:
    assert [status.name for status in list_studies(str(calm.parent))] == ["toy"]
