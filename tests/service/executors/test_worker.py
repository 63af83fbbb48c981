"""A worker: trains a job, keeps checkpoints, and says what went wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from service import StudyError
from service.errors import TakenOverError
from service.executors.base import Failed, Finished, Trained, WorkerSetup
from service.executors.checkpoints import checkpoint_name
from service.executors.received import BadRecordError
from service.executors.worker import Job, Worker, cores, job_of, load_trainer
from service.storage.files import open_storage
from service.storage.lease import Lease
from tests.service.executors.conformance import tasks_of
from tests.service.studies import toy_spec
from tests.service.toy import train
from trainers.records import Checkpoint, Record

CALLS: list[dict[str, Any]] = []


def noting(config: Any, members: Any, **options: Any) -> Iterator[Record]:
    """Keeps what it was called with."""
    CALLS.append(options)
    yield from train(config, members, online=options["online"])


def silent(config: Any, members: Any, **options: Any) -> Iterator[Record]:
    """Gives a result for the first member alone."""
    yield from train(config, members[:1], online=False)


def interrupted(config: Any, members: Any, **options: Any) -> Iterator[Record]:
    """Fails after a checkpoint, unless it goes on from one."""
    points = list(train(config, members, online=False))
    if options["resume"] is None:
        yield points[0]
        yield Checkpoint(5, {"x": torch.ones(2)})
        raise RuntimeError("interrupted")
    assert options["resume"].step == 5
    yield from points[1:]


def keeping(config: Any, members: Any, **options: Any) -> Iterator[Record]:
    """Gives a checkpoint on the way."""
    first, *others = train(config, members, online=False)
    yield first
    yield Checkpoint(5, {"x": torch.ones(2)})
    yield from others


def worker(trainer: str, **values: Any) -> Worker:
    return Worker(WorkerSetup(configs=toy_spec().train_configs(), trainer=f"{__name__}:{trainer}", **values))


@pytest.fixture
def job() -> Job:
    """The first pack of two online runs."""
    spec = toy_spec(execution={"runs_per_actor": 2})
    return job_of(next(task for task in tasks_of(spec) if task.pack.arm.tuned))


def test_a_worker_has_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    for threads in (1, 500, None):
        worker("noting", threads=threads)
    assert set_to == [1, cores()]
    assert 1 <= cores() < 500


@pytest.mark.parametrize(("device", "rounded"), [("cuda", False), ("cpu", True)])
def test_on_a_gpu_the_factors_of_convolutions_keep_all_their_digits(
    device: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch's own default is; the setting can be made and read without a GPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    worker("noting", device=device).prepare()
    assert torch.backends.cudnn.allow_tf32 is rounded


def test_a_job_says_whether_the_hyperparameters_are_tuned(job: Job) -> None:
    CALLS.clear()
    worker("noting").train(job)
    worker("noting", checkpoint_every=7).train(job._replace(tuned=False))
    assert [call["online"] for call in CALLS] == [True, False]
    assert [call["checkpoint_every"] for call in CALLS] == [None, 7]


def test_a_trained_job_has_a_result_for_each_run_and_all_points_as_columns(job: Job) -> None:
    trained = worker("train").train(job)
    assert [result.member for result in trained.results] == [0, 1]
    assert [result.initial for result in trained.results] == [run.initial for run in job.runs]
    assert trained.points["member"] == [0, 0, 1, 1]
    assert {len(column) for column in trained.points.values()} == {4}
    assert {f"hypergradient_{name}" for name in job.runs[0].initial} <= trained.points.keys()


def test_a_run_without_a_result_is_an_error(job: Job) -> None:
    with pytest.raises(BadRecordError, match=r"results for members \[0\] of a pack of 2: must be one for each"):
        worker("silent").train(job)


def test_a_reply_becomes_the_outcome_of_its_task() -> None:
    task = tasks_of(toy_spec())[0]
    good = worker("train").attempt(job_of(task)).outcome(task)
    bad = worker("interrupted").attempt(job_of(task)).outcome(task)
    assert isinstance(good, Finished)
    assert isinstance(good.trained, Trained)
    assert isinstance(bad, Failed)
    assert bad.error == "RuntimeError: interrupted"
    assert good.task is task
    assert good.place.pid == bad.place.pid == os.getpid()


def test_an_attempt_goes_on_from_the_checkpoint_of_the_one_before(tmp_path: Path, job: Job) -> None:
    first, second = (worker("interrupted", storage=str(tmp_path), checkpoint_every=5) for _ in range(2))
    with pytest.raises(RuntimeError, match="interrupted"):
        first.train(job)
    assert (tmp_path / checkpoint_name(job.runs)).exists()
    assert repr(second.train(job)) == repr(worker("train").train(job._replace(tuned=False)))


def test_a_worker_of_a_driver_that_was_taken_over_keeps_no_checkpoint(tmp_path: Path, job: Job) -> None:
    lease = Lease(open_storage(tmp_path), beat_s=0.05, ttl_s=0.5)
    lease.acquire()
    options: dict[str, Any] = {"storage": str(tmp_path), "checkpoint_every": 5}
    with pytest.raises(TakenOverError, match="this is of lease 7, and lease 1 holds the study now"):
        worker("interrupted", lease=7, **options).train(job)
    assert not (tmp_path / checkpoint_name(job.runs)).exists()
    with pytest.raises(RuntimeError, match="interrupted"):
        worker("interrupted", lease=lease.number, **options).train(job)
    assert (tmp_path / checkpoint_name(job.runs)).exists()
    lease.release()


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, job: Job) -> None:
    path = tmp_path / checkpoint_name(job.runs)
    path.parent.mkdir()
    path.write_bytes(b"not a zip")
    assert len(worker("train", storage=str(tmp_path), checkpoint_every=5).train(job).results) == 2


def test_a_storage_that_takes_no_checkpoint_fails_no_training(tmp_path: Path, job: Job) -> None:
    place = tmp_path / "a file where a directory should be"
    place.write_text("")
    reply = worker("keeping", storage=str(place), checkpoint_every=5).attempt(job)
    assert isinstance(reply.result, Trained), reply.result
    assert [result.status for result in reply.result.results] == ["completed", "completed"]


def test_a_checkpoint_is_named_after_its_runs(job: Job) -> None:
    assert checkpoint_name(job.runs) == checkpoint_name(job.runs[:])
    assert checkpoint_name(job.runs) != checkpoint_name(job.runs[:1])


def test_data_that_are_not_the_studys_are_refused() -> None:
    setup = WorkerSetup(configs=toy_spec().train_configs(), data_hash="another")
    with pytest.raises(RuntimeError, match="the study's have another: every node must hold the same files"):
        Worker(setup).prepare()


def test_a_trainer_that_cannot_be_found_is_one_clear_error() -> None:
    with pytest.raises(StudyError, match=r"trainer = 'tests.service.toy:nothing': cannot be imported \(.*nothing"):
        load_trainer("tests.service.toy:nothing")
