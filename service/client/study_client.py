"""Studies from Python: what ``t1t2`` offers on the command line, as methods."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd
    from ray.job_submission import JobSubmissionClient

    from service import StudySpec, StudyStatus
    from service.client.results import Report
    from service.records.requests import Action

START_LIMIT_S = 60.0  # how long a submission waits for the driver's first sign of life
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Submission:
    """A study on a cluster: what was there already, and what is new.

    ``state`` is the study's, or ``starting`` while its driver has not reported. ``submission_id`` is the driver's Ray
    job; None where the study needs no driver or has one that is no job of this cluster.
    """

    name: str
    uri: str
    new_study: bool
    new_driver: bool
    submission_id: str | None
    state: str


class StudyClient:
    """The studies below one storage root and, with an ``address``, the cluster that runs them.

    Args:
        address: The cluster's dashboard, ``http://HEAD:8265``; needed by :meth:`submit`, and by :meth:`resume` where no
            driver runs. Its token comes from the environment, see :func:`service.client.ray_jobs.auth_token`.
        storage: The storage root that this machine and the cluster see: a directory or a URI such as ``s3://bucket/x``.

    Every method raises :class:`service.StudyError` for bad input, with the message that the command line prints.
    """

    def __init__(self, address: str | None = None, storage: str | Path = "studies") -> None:
        text = str(storage)
        # The driver may have another working directory.
        self.storage = text if "://" in text else os.path.abspath(os.path.expanduser(text))
        self.address = address

    def uri(self, name: str) -> str:
        """Where the study ``name`` lies."""
        from service import study_uri

        return study_uri(self.storage, name)

    def submit(
        self,
        spec: StudySpec | Mapping[str, Any] | str | Path,
        *,
        actors: int | None = None,
        working_dir: Path | None = None,
    ) -> Submission:
        """Create the study or load it, and see that a driver on the cluster runs it.

        The same spec again attaches; more configurations extend the study. Cluster and token are checked before
        anything is written, and a new study that the cluster refuses at once leaves nothing behind.

        Raises:
            StudyError: a bad spec, another study of that name (the differing keys are listed), a cluster that cannot be
                reached or refuses, a storage that cannot be written.
        """
        from service import StudySpec, load_spec

        if isinstance(spec, str | Path):
            spec = load_spec(spec)
        elif isinstance(spec, Mapping):
            spec = StudySpec.from_dict(spec)
        return submit(spec, self.uri(spec.name), self._cluster(), actors=actors, working_dir=working_dir)

    def status(self, name: str) -> StudyStatus:
        """How far the study is."""
        from service import read_status

        return read_status(self.uri(name))

    def list(self) -> Sequence[StudyStatus]:
        """The studies below the storage root."""
        from service import list_studies

        return list_studies(self.storage)

    def pause(self, name: str) -> None:
        """Start no more runs; those in flight are finished."""
        self._request(name, "pause")

    def resume(self, name: str, *, actors: int | None = None) -> Submission:
        """Go on with a paused study, or with one whose driver is gone: it gets a new one on the cluster.

        Raises:
            StudyError: there is no such study, or no driver runs and this client has no cluster's address.
        """
        from service import read_status, request
        from service.client.lifecycle import is_driven

        uri = self.uri(name)
        status = read_status(uri)
        if is_driven(status):
            request(uri, "resume")
            return Submission(name, uri, False, False, None, status.state)
        return start_driver(uri, self._cluster(), actors=actors)

    def cancel(self, name: str) -> None:
        """End the study: its driver stops; finished runs stay and are published."""
        self._request(name, "cancel")

    def retry(self, name: str) -> None:
        """Train the failed runs again."""
        self._request(name, "retry")

    def extend(self, name: str, configurations: int) -> None:
        """Let the study have ``configurations`` configurations in all; those that it has keep their runs."""
        self._request(name, "extend", configurations=configurations)

    def results(self, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The runs finished so far, one row each, in the order of the plan."""
        from service.client.results import open_study

        runs: pd.DataFrame = open_study(self.uri(name), columns=columns).runs
        return runs

    def report(self, name: str, out: Path | None = None) -> Report:
        """Write the report, by default beside the study's tables."""
        from service.client.results import write

        return write([self.uri(name)], out)

    def wait(self, name: str, *, timeout_s: float | None = None, every_s: float = 2.0) -> StudyStatus:
        """The study's status once it is completed, cancelled, failed or interrupted (its driver is gone).

        Raises:
            TimeoutError: it still runs after ``timeout_s`` seconds.
        """
        start = time.monotonic()
        while True:
            status = self.status(name)
            if status.finished or status.state in ("failed", "interrupted"):
                return status
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                raise TimeoutError(f"study {name!r} is still {status.state} after {timeout_s:g} s")
            time.sleep(every_s)

    def _request(self, name: str, action: Action, **arguments: int) -> None:
        from service import request

        request(self.uri(name), action, **arguments)

    def _cluster(self) -> str:
        if self.address is None:
            raise StudyError("address: must be the cluster's dashboard, for example 'http://head:8265'")
        return self.address


def submit(
    spec: StudySpec, uri: str, address: str, *, actors: int | None = None, working_dir: Path | None = None
) -> Submission:
    """Create the study at ``uri`` or load it, and see that a driver on the cluster at ``address`` runs it."""
    from service import read_spec, read_status, request
    from service.client.lifecycle import create_study, discard_study, nearest_directory
    from service.client.ray_jobs import ClusterError, connect

    cluster = connect(address)
    standing = nearest_directory(uri)
    with _importable(working_dir):
        is_new = create_study(spec, uri)
    if is_extended := not is_new and spec.configurations > read_spec(uri).configurations:
        request(uri, "extend", configurations=spec.configurations)
    elif (status := read_status(uri)).finished:  # attached to what has ended: nothing to run
        return Submission(status.name, uri, False, False, None, status.state)
    try:
        submission = _start(cluster, uri, actors, working_dir, spec.configurations if is_extended else 0)
    except ClusterError:
        if is_new:
            discard_study(uri, keep=standing)
        raise
    return dataclasses.replace(submission, new_study=is_new)


@contextmanager
def _importable(directory: Path | None) -> Iterator[None]:
    """Within it, modules in ``directory`` can be imported, as they can where it is sent: a plan asks the models."""
    before = list(sys.path)
    if directory is not None:
        sys.path.append(str(Path(directory).absolute()))
    try:
        yield
    finally:
        sys.path[:] = before


def start_driver(uri: str, address: str, *, actors: int | None = None) -> Submission:
    """Give the study at ``uri`` a driver on the cluster at ``address``, where it has none."""
    from service.client.ray_jobs import connect

    return _start(connect(address), uri, actors)


def _start(
    cluster: JobSubmissionClient, uri: str, actors: int | None, working_dir: Path | None = None, configurations: int = 0
) -> Submission:
    """Attach to the study's driver, once it knows of the ``configurations``, or submit one."""
    from service import read_spec, read_status
    from service.client.lifecycle import is_driven
    from service.client.ray_jobs import find_driver, submit_driver

    options = ["--actors", str(actors)] if actors is not None else []
    end = time.monotonic() + START_LIMIT_S
    while True:
        status = read_status(uri)
        job = find_driver(cluster, uri, status.study_hash)
        job_id = job.submission_id if job is not None else None
        if is_driven(status):
            if read_spec(uri).configurations >= configurations:
                return Submission(status.name, uri, False, False, job_id, status.state)
        elif job is None or not job.alive:
            driver, is_new = submit_driver(cluster, uri, status.study_hash, status.name, options, working_dir)
            state = _first_sign(cluster, driver.submission_id, uri)
            return Submission(status.name, uri, False, is_new, driver.submission_id, state)
        # else the job is about to take the study up, or the study has ended and the job is about to
        if time.monotonic() > end:
            return Submission(status.name, uri, False, False, job_id, "starting")
        time.sleep(LOOK_EVERY_S)


def _first_sign(cluster: JobSubmissionClient, submission_id: str, uri: str) -> str:
    """The study's state once its driver is at work, or ``starting``; raises where the driver ends badly."""
    from service import read_status
    from service.client.lifecycle import is_driven
    from service.client.ray_jobs import check_alive

    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        alive = check_alive(cluster, submission_id)  # first: what it wrote before its end is then seen below
        status = read_status(uri)
        at_work = is_driven(status) and (status.in_flight or status.total_done or status.state == "paused")
        if at_work or not alive:
            return status.state
        time.sleep(LOOK_EVERY_S)
    return "starting"
