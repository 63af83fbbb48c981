"""Studies from Python: what ``t1t2`` offers on the command line, as methods."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.client.submission import Submission, start_driver, submit
from service.errors import StudyError
from service.records.progress import StudyStatus, list_studies, read_status, study_uri
from service.records.requests import request
from service.spec.study_spec import StudySpec, load_spec

if TYPE_CHECKING:
    import pandas as pd

    from service.client.results import Report


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
        """
        if isinstance(spec, str | Path):
            spec = load_spec(spec)
        elif isinstance(spec, Mapping):
            spec = StudySpec.from_dict(spec)
        return submit(spec, self.uri(spec.name), self._cluster(), actors=actors, working_dir=working_dir)

    def status(self, name: str) -> StudyStatus:
        """How far the study is."""
        return read_status(self.uri(name))

    def list(self) -> Sequence[StudyStatus]:
        """The studies below the storage root."""
        return list_studies(self.storage)

    def pause(self, name: str) -> None:
        """Start no more runs; those in flight are finished."""
        request(self.uri(name), "pause")

    def resume(self, name: str, *, actors: int | None = None) -> Submission:
        """Go on with a paused study, or with one whose driver is gone: it gets a new one on the cluster."""
        uri = self.uri(name)
        status = read_status(uri)
        if status.driven:
            request(uri, "resume")
            return Submission(name=name, uri=uri, submission_id=None, state=status.state)
        return start_driver(uri, self._cluster(), actors=actors)

    def cancel(self, name: str) -> None:
        """End the study: its driver stops; finished runs stay and are published."""
        request(self.uri(name), "cancel")

    def retry(self, name: str) -> None:
        """Train the failed runs again."""
        request(self.uri(name), "retry")

    def extend(self, name: str, configurations: int) -> None:
        """Let the study have ``configurations`` configurations in all; those that it has keep their runs."""
        request(self.uri(name), "extend", configurations=configurations)

    def results(self, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The runs finished so far, one row each, in the order of the plan."""
        from service.client.results import frame_of, open_study

        return frame_of(open_study(self.uri(name), columns=columns), "runs")

    def report(self, name: str, out: Path | None = None) -> Report:
        """Write the report, by default beside the study's tables."""
        from service.client.results import write

        return write([self.uri(name)], out)

    def wait(self, name: str, *, timeout_s: float | None = None, every_s: float = 2.0) -> StudyStatus:
        """The study's status once it is completed, cancelled, failed or interrupted (its driver is gone).

        Raises :class:`TimeoutError` if it still runs after ``timeout_s`` seconds.
        """
        start = time.monotonic()
        while True:
            status = self.status(name)
            if status.finished or status.state in ("failed", "interrupted"):
                return status
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                raise TimeoutError(f"study {name!r} is still {status.state} after {timeout_s:g} s")
            time.sleep(every_s)

    def _cluster(self) -> str:
        if self.address is None:
            raise StudyError("address: must be the cluster's dashboard, for example 'http://head:8265'")
        return self.address
