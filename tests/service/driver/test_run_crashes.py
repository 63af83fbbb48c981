"""A study whose driver, disk or storage breaks: what was committed stays, the rest is trained again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service import StorageError, read_status, run_study
from service.executors.base import Outcome
from service.executors.serial import SerialExecutor
from service.ledger.publish import Published, write_sorted
from service.ledger.schema import SCHEMA_VERSION
from service.ledger.shards import Ledger
from service.storage.files import open_storage
from tests.service.driver.crashing import Crash, CrashingExecutor
from tests.service.studies import assert_same_results, run_serially, table, toy_spec


@pytest.mark.parametrize("after", [0, 1, 7, 20, 41])
def test_a_crashed_study_resumes_without_training_anything_twice(calm: Path, tmp_path: Path, after: int) -> None:
    out = tmp_path / "toy"
    with pytest.raises(Crash):
        run_study(toy_spec(), out, executor=CrashingExecutor(after))
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


@pytest.mark.parametrize("which", ["trajectories", "attempts"])
def test_a_driver_that_dies_within_the_first_publication_damages_nothing(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    out = tmp_path / "toy"

    def die(ledger: Ledger, table: str, *rest: Any) -> Published:
        if table == which:
            raise Crash
        return write_sorted(ledger, table, *rest)

    with monkeypatch.context() as context:
        context.setattr("service.ledger.publish.write_sorted", die)
        with pytest.raises(Crash):
            run_serially(toy_spec(), out)
    assert (out / "runs.parquet").exists()
    events: list[str] = []
    assert run_serially(toy_spec(), out, on_event=lambda event: events.append(event.kind)).state == "completed"
    assert "shard_corrupt" not in events
    assert not (out / "ledger" / "corrupt").exists()
    assert_same_results(out, calm)


def test_every_parquet_file_names_its_schema_version(calm: Path, tmp_path: Path) -> None:
    crash_with_shards(tmp_path / "toy")
    files = [*calm.glob("*.parquet"), *(tmp_path / "toy").glob("ledger/*/*.parquet")]
    assert {path.parent.name for path in files} == {"toy", "runs", "trajectories", "attempts"}
    for path in files:
        assert pq.read_schema(path).metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


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
        run_study(toy_spec(), out, executor=CrashingExecutor(20))
    assert list((out / "ledger" / "runs").iterdir())


@pytest.mark.parametrize("which", ["runs", "trajectories"])
def test_a_truncated_table_is_set_aside_and_its_runs_are_trained_again(calm: Path, tmp_path: Path, which: str) -> None:
    out = tmp_path / "toy"
    shutil.copytree(calm, out)
    path = out / f"{which}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    run_serially(toy_spec(), out)
    assert_same_results(out, calm)


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

    with pytest.raises(StorageError, match=r"^cannot write ledger/.*(Not a directory|File exists)"):
        run_study(toy_spec(), storage, executor=Breaking())
    status = read_status(str(out))
    assert status.state == "failed"
    assert "StorageError" in str(status.error)
    (out / "ledger").unlink()
    assert run_serially(toy_spec(), out).state == "completed"
    assert_same_results(out, calm)
