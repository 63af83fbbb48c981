"""Drivers as jobs of a Ray cluster: connect to the cluster, submit a study's driver, find it, see whether it lives.

The job is the command ``python -m service.cli resume STUDY``, run on the cluster, so that the driver needs nothing of
the client once it is submitted. The client needs the dashboard's address and, where the cluster asks for one, a token.
"""

from __future__ import annotations

import json
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.errors import StudyError
from trainers.errors import LONGEST_LINE, quoted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_DASHBOARD_PORT = 8265
REPLY_TIMEOUT_S = 10.0
STUDY_KEY, HASH_KEY = "t1t2_study", "t1t2_study_hash"  # of the job's metadata
ALIVE = ("PENDING", "RUNNING")  # of Ray's states of a job
# Ray lets these win over an address given in code; here the address that the user typed wins.
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
TOKEN_SOURCES = "RAY_AUTH_TOKEN, in a file named by RAY_AUTH_TOKEN_PATH, or in ~/.ray/auth_token"
TOKEN_PROBLEMS = {  # by the dashboard's HTTP status
    401: f"the cluster asks for a token, and there is none; put it into {TOKEN_SOURCES}",
    403: f"the cluster refuses the token; the right one must be in {TOKEN_SOURCES}",
}


class ClusterError(StudyError):
    """A cluster that cannot be used: unreachable, not a Ray dashboard, or a token that it refuses."""


@dataclass(frozen=True)
class DriverJob:
    """A study's driver as a job of a cluster. ``status`` is Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""

    submission_id: str
    status: str

    @property
    def alive(self) -> bool:
        """Whether it may still do work."""
        return self.status in ALIVE


def auth_token(environ: Mapping[str, str] = os.environ) -> str | None:
    """The cluster's token, looked for where Ray looks: the variable, the file that it names, the default file.

    Ray's own client sends a token only where ``RAY_AUTH_MODE=token`` is set as well; here having one is enough.
    Raises :class:`ClusterError` if ``RAY_AUTH_TOKEN_PATH`` names a file that cannot be read.
    """
    if token := environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    if named := environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Path(named).expanduser().read_text().strip() or None
        except (OSError, UnicodeDecodeError) as error:
            place = quoted(named, LONGEST_LINE)
            raise ClusterError(f"RAY_AUTH_TOKEN_PATH = {place}: must be a readable file ({error})") from None
    default = Path(environ.get("HOME") or Path.home()) / ".ray" / "auth_token"
    try:
        return default.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def dashboard_url(address: str) -> str:
    """``address`` as the dashboard's URL, with http and port 8265 where it names none; raises :class:`ClusterError`."""
    allowed = "must be the dashboard's address, http(s)://HOST[:PORT] (not the ray:// or GCS address)"
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port
    except ValueError:
        raise ClusterError(f"--address {quoted(address)}: {allowed}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or address == "auto":
        raise ClusterError(f"--address {quoted(address)}: {allowed}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = DEFAULT_DASHBOARD_PORT if parts.scheme == "http" else 443
    return f"{parts.scheme}://{host}:{port or default}{parts.path.rstrip('/')}"


def connect(address: str) -> JobSubmissionClient:
    """A client of the Jobs API at ``address``, after one request that proves address and token.

    Raises :class:`ClusterError` if nobody answers, the answer is not Ray's, or the token is missing or wrong.
    """
    url, token = dashboard_url(address), auth_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if problem := _problem(url, headers):
        raise ClusterError(f"--address {quoted(url)}: {problem}")
    from ray.job_submission import JobSubmissionClient

    with _without(ADDRESS_VARIABLES):
        try:
            return JobSubmissionClient(url, headers=headers)
        except (ConnectionError, RuntimeError) as error:
            raise ClusterError(f"--address {quoted(address)}: {_first_line(error)}") from None


def _problem(url: str, headers: Mapping[str, str]) -> str | None:
    """What keeps this client from using the dashboard at ``url``; None if Ray answers there and takes the token."""
    request = urllib.request.Request(f"{url}/api/version", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=REPLY_TIMEOUT_S) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        return TOKEN_PROBLEMS.get(error.code, f"must be a Ray dashboard (HTTP {error.code} for /api/version)")
    except json.JSONDecodeError:
        return "must be a Ray dashboard (/api/version is no JSON)"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"no answer within {REPLY_TIMEOUT_S:.0f} s"
        return f"must be a reachable Ray dashboard ({reason})"
    if not isinstance(answer, dict) or "ray_version" not in answer:
        return "must be a Ray dashboard (/api/version names no ray_version)"
    if not isinstance(version := answer["ray_version"], str):
        return f"must be a Ray dashboard (/api/version says {quoted(version)})"
    return None


def find_driver(client: JobSubmissionClient, study: str, study_hash: str) -> DriverJob | None:
    """The latest driver of ``study`` (its URI) on the cluster, a living one first; None where it never had one."""
    wanted = {STUDY_KEY: study, HASH_KEY: study_hash}.items()
    drivers = [
        (DriverJob(job.submission_id, str(job.status)), job.start_time or 0)
        for job in client.list_jobs()
        if job.submission_id and wanted <= (job.metadata or {}).items()
    ]
    return max(drivers, key=lambda pair: (pair[0].alive, pair[1]))[0] if drivers else None


def submit_driver(
    client: JobSubmissionClient,
    study: str,
    study_hash: str,
    *,
    name: str,
    options: Sequence[str] = (),
    working_dir: Path | None = None,
) -> tuple[DriverJob, bool]:
    """Start a driver of ``study`` on the cluster, or attach to the one that runs there. Says whether it is new.

    ``study`` is the directory or URI as the cluster sees it, ``name`` is the first part of the job's name, and
    ``options`` are further words of the command line, such as ``--actors 8``. ``working_dir`` is a directory to send to
    the cluster, where driver and workers can import from it: it holds the user's own modules, or a checkout where the
    cluster has the dependencies but not this distribution. Raises :class:`ClusterError` if the cluster refuses the job.
    """
    known = find_driver(client, study, study_hash)
    if known is not None and known.alive:
        return known, False
    attempt = sum(1 for job in client.list_jobs() if (job.metadata or {}).get(STUDY_KEY) == study) + 1
    submission_id = f"t1t2-{name}-{study_hash[:8]}-{attempt}"
    command = ["python", "-m", "service.cli", "resume", study, *options]
    try:
        client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=submission_id,
            metadata={STUDY_KEY: study, HASH_KEY: study_hash},
            runtime_env={"working_dir": str(working_dir)} if working_dir else {},
        )
    except (RuntimeError, ValueError) as error:
        if "already exists" in str(error):  # somebody else has just submitted this study: attach to that job
            return DriverJob(submission_id, "PENDING"), False
        raise ClusterError(f"the cluster refuses the job {submission_id!r}: {_first_line(error)}") from None
    return DriverJob(submission_id, "PENDING"), True


def check_alive(client: JobSubmissionClient, submission_id: str) -> bool:
    """Whether the driver still runs; False after a good end.

    After a bad one it raises :class:`ClusterError`, whose message is the last that the driver itself has said.
    """
    job = client.get_job_info(submission_id)
    if job.status in (*ALIVE, "SUCCEEDED"):
        return job.status in ALIVE
    log = [line for line in client.get_job_logs(submission_id).splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in log if line.startswith("error: ")] or log
    reason = told[-1] if told else job.message or "no reason given"
    raise ClusterError(f"the driver {submission_id!r} on the cluster ended ({job.status}): {reason}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Take these variables out of the environment for a while."""
    held = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(held)
