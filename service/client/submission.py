"""Submit a study to a cluster: create it in the storage, and see that a driver on the cluster runs it."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.client.ray_jobs import ClusterError, check_alive, connect, find_driver, submit_driver
from service.driver.discard import discard_untrained
from service.driver.rehearsal import refuse_main
from service.errors import StorageError, StudyError
from service.records.manifest import Manifest, find_study, read_spec
from service.records.progress import StudyStatus, read_status
from service.records.requests import request
from service.spec.fits import check_reserved
from service.spec.plan import make_plan
from service.storage.files import open_storage
from service.storage.lease_record import CLAIMS, LEASE

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from service.spec.study_spec import StudySpec

START_LIMIT_S = 60.0  # how long a submission waits for the driver's first sign of life
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of a study that was submitted to a cluster."""

    name: str
    uri: str
    new_study: bool = False  # whether this submission created the study
    new_driver: bool = False  # whether this submission started its driver
    submission_id: str | None  # the driver's Ray job; None if no driver is needed, or it is no job of this cluster
    state: str  # the study's, or "starting" while its driver has not reported


def submit(
    spec: StudySpec, uri: str, address: str, *, actors: int | None = None, working_dir: Path | None = None
) -> Submission:
    """Create the study at ``uri`` or load it, and see that a driver on the cluster at ``address`` runs it."""
    cluster = connect(address)
    standing = open_storage(uri).nearest_directory()
    with _importable(working_dir):
        is_new = create_study(spec, uri)
    if is_extended := not is_new and spec.configurations > read_spec(uri).configurations:
        request(uri, "extend", configurations=spec.configurations)
    elif (status := read_status(uri)).finished:
        return _attached(status, None)  # it has ended: there is nothing to run
    wanted = spec.configurations if is_extended else 0
    try:
        submission = _ensure_driver(cluster, uri, actors=actors, working_dir=working_dir, configurations=wanted)
    except ClusterError:
        if is_new:
            discard_study(uri, keep=standing)
        raise
    return dataclasses.replace(submission, new_study=is_new)


def start_driver(uri: str, address: str, *, actors: int | None = None) -> Submission:
    """Give the study at ``uri`` a driver on the cluster at ``address``, where it has none."""
    return _ensure_driver(connect(address), uri, actors=actors)


def create_study(spec: StudySpec, uri: str) -> bool:
    """Write the ``study.json`` of a study that a driver elsewhere will run; False if the study is there already.

    Neither the data nor the trainer are looked at: they may be at hand where the driver runs only. Raises
    :class:`service.StudyError`, and leaves nothing behind, if another study or something else is there, or if the place
    cannot be written.
    """
    storage = open_storage(uri, tries=2)
    spec, manifest = find_study(spec, storage)
    if manifest is not None:
        return False
    refuse_main(spec)
    check_reserved(spec)
    manifest = Manifest.of(make_plan(spec))
    before = storage.nearest_directory()
    try:
        manifest.save(storage)
    except StorageError as error:
        storage.remove_empty(keep=before)
        raise StudyError(f"{uri}: cannot be written ({error}); give a place where this user may write") from None
    return True


def discard_study(uri: str, keep: Path | None = None) -> None:
    """Remove a study of which nothing has been trained, and empty directories above it up to ``keep``.

    Raises :class:`service.StudyError` if it has results, which are never thrown away.
    """
    storage = open_storage(uri)
    discard_untrained(storage)
    for name in (LEASE, *storage.files(CLAIMS)):
        storage.delete(name)
    storage.remove_empty(keep)


@contextmanager
def _importable(directory: Path | None) -> Iterator[None]:
    """Let modules in ``directory`` be imported, as they can be where it is sent: making a plan asks the models."""
    before = list(sys.path)
    if directory is not None:
        sys.path.append(str(Path(directory).absolute()))
    try:
        yield
    finally:
        sys.path[:] = before


def _ensure_driver(
    cluster: JobSubmissionClient,
    uri: str,
    *,
    actors: int | None,
    working_dir: Path | None = None,
    configurations: int = 0,
) -> Submission:
    """Attach to the study's driver, once it knows of the ``configurations``, or submit a driver."""
    options = ["--actors", str(actors)] if actors is not None else []
    end = time.monotonic() + START_LIMIT_S
    while True:
        status = read_status(uri)
        job = find_driver(cluster, uri, status.study_hash)
        job_id = job.submission_id if job is not None else None
        if status.driven:
            if read_spec(uri).configurations >= configurations:
                return _attached(status, job_id)
        elif job is None or not job.alive:
            started, is_new = submit_driver(
                cluster, uri, status.study_hash, name=status.name, options=options, working_dir=working_dir
            )
            state = _first_sign(cluster, started.submission_id, uri)
            return Submission(
                name=status.name, uri=uri, new_driver=is_new, submission_id=started.submission_id, state=state
            )
        # Otherwise the job lives and drives nothing: it is about to take the study up, or it is about to end.
        if time.monotonic() > end:
            return Submission(name=status.name, uri=uri, submission_id=job_id, state="starting")
        time.sleep(LOOK_EVERY_S)


def _attached(status: StudyStatus, job_id: str | None) -> Submission:
    return Submission(name=status.name, uri=status.uri, submission_id=job_id, state=status.state)


def _first_sign(cluster: JobSubmissionClient, submission_id: str, uri: str) -> str:
    """Wait for the driver to be at work; the study's state then, or ``starting``. Raises if the driver ends badly."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        alive = check_alive(cluster, submission_id)  # first: what it wrote before its end is then seen below
        status = read_status(uri)
        at_work = status.driven and (status.in_flight or status.total_done or status.state == "paused")
        if at_work or not alive:
            return status.state
        time.sleep(LOOK_EVERY_S)
    return "starting"
