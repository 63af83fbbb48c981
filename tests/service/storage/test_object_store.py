"""Studies in an object store: a real S3-protocol server on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from service import StorageError, StudyBusyError, StudyError, list_studies, read_events, read_status, request, run_study
from service.executors.base import Outcome
from service.executors.serial import SerialExecutor
from service.storage.files import open_storage
from service.storage.lease import Lease
from service.storage.lease_record import is_held
from service.storage.object_store import ObjectStore
from tests.service.object_store import FlakyS3, s3_server
from tests.service.storage.conformance import BackendConformance
from tests.service.studies import VARYING, run_serially, table, toy_spec


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyS3]:
    with s3_server(monkeypatch, "studies") as running:
        yield running


class TestConformance(BackendConformance):
    @pytest.fixture
    def backend(self, store: FlakyS3) -> ObjectStore:
        return ObjectStore(store.uri("studies/root"))


@pytest.fixture
def calm(tmp_path: Path) -> pd.DataFrame:
    """The runs of the same study on a local disk."""
    run_serially(toy_spec(), tmp_path / "calm")
    return table(tmp_path / "calm").drop(columns=VARYING)


def runs(uri: str) -> pd.DataFrame:
    with open_storage(uri).open("runs.parquet") as file:
        frame: pd.DataFrame = pq.read_table(file).to_pandas()
    return frame.drop(columns=VARYING)


class Hooked(SerialExecutor):
    """Calls ``hook`` once, when ``after`` tasks are done."""

    def __init__(self, after: int, hook: Any) -> None:
        super().__init__()
        self.left, self.hook = after, hook

    def wait(self, timeout_s: float) -> list[Outcome]:
        self.left -= 1
        if self.left == 0:
            self.hook()
        return super().wait(timeout_s)


def test_a_study_lives_in_an_object_store(store: FlakyS3, calm: pd.DataFrame) -> None:
    uri = store.uri("studies/deep/toy")
    assert run_serially(toy_spec(), uri).state == "completed"
    pd.testing.assert_frame_equal(runs(uri), calm, check_exact=True)
    storage = open_storage(uri)
    assert storage.files("") == [
        "attempts.parquet",
        "lease.json",
        "progress.json",
        "runs.parquet",
        "study.json",
        "trajectories.parquet",
    ]
    assert not storage.files("ledger/runs")
    assert [status.total_done for status in list_studies(store.uri("studies/deep"))] == [42]
    request(uri, "extend", configurations=4)
    assert run_serially(toy_spec(), uri).planned["online"] == 8
    assert "extended" in [event.kind for event in read_events(uri)]


def test_a_store_that_answers_500_for_a_while_is_waited_for(store: FlakyS3, calm: pd.DataFrame) -> None:
    uri = store.uri("studies/toy")

    def fail() -> None:
        store.failures = 60

    run_study(toy_spec(), open_storage(uri, first_delay_s=0.02), executor=Hooked(10, fail))
    assert store.refused == 60
    assert "storage_retry" in {event.kind for event in read_events(uri)}
    pd.testing.assert_frame_equal(runs(uri), calm, check_exact=True)


@pytest.mark.slow  # Arrow's own retries take seconds
def test_a_move_that_fails_after_it_has_moved_is_done(store: FlakyS3) -> None:
    storage = open_storage(store.uri("studies/toy"), first_delay_s=0.02)
    storage.write("runs.parquet", b"old")
    storage.write("new", b"new")
    store.failures_after_delete = 45  # more than Arrow tries by itself

    storage.move("new", "runs.parquet")

    assert store.refused == 45
    assert storage.read("runs.parquet") == b"new"
    assert storage.files("") == ["runs.parquet"]


@pytest.mark.slow  # Arrow's own retries take seconds
def test_a_store_that_goes_on_failing_leaves_a_resumable_study(
    store: FlakyS3, calm: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = store.uri("studies/toy")
    monkeypatch.setattr("service.driver.run.Lease", partial(Lease, beat_s=0.1, ttl_s=1.0))  # it cannot be given back

    def fail() -> None:
        store.failures = 10**9

    with pytest.raises(StorageError, match="after 1 tries"):
        run_study(toy_spec(), open_storage(uri, tries=1), executor=Hooked(10, fail))
    store.failures = 0
    assert run_serially(toy_spec(), uri).state == "completed"
    pd.testing.assert_frame_equal(runs(uri), calm, check_exact=True)


def test_a_bucket_that_is_not_there_is_one_clear_error(store: FlakyS3) -> None:
    with pytest.raises(StudyError, match=r"s3://nowhere/toy.*: cannot be written \(.*bucket"):
        run_serially(toy_spec(), store.uri("nowhere/toy"))


def test_one_driver_at_a_time_in_an_object_store(store: FlakyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(store.uri("studies/toy"))
    first = Lease(storage, beat_s=0.1, ttl_s=1.0)
    first.acquire()
    # Seen from another host, a driver is as alive as its heartbeat.
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    with pytest.raises(StudyBusyError):
        Lease(storage, beat_s=0.1, ttl_s=60.0).acquire()
    first._stop.set()  # it falls silent
    first._thread.join()  # type: ignore[union-attr]
    started = time.monotonic()
    second = Lease(storage, beat_s=0.1, ttl_s=1.0)
    assert second.acquire() is not None
    assert time.monotonic() - started >= 1.0, "not before its time to live has passed"
    second.release()
    assert not is_held(storage)
    with pytest.raises(StudyError):
        read_status(storage.uri)
