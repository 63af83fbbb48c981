"""How far a study is: ``progress.json``, which its driver writes about every second, and the listing of studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import DamagedFileError, StorageError, StudyError
from service.records.manifest import MANIFEST, READER_TRIES, Manifest, check_tables
from service.records.typed_json import parse
from service.spec.study_spec import check_name
from service.storage.checked_json import dumps_checked
from service.storage.files import Storage, open_storage
from service.storage.lease_record import is_held

PROGRESS = "progress.json"
StudyState = Literal["waiting", "running", "paused", "completed", "cancelled", "interrupted", "failed", "unreadable"]
Attempts = list[tuple[str, int]]  # run_id, number of the attempt


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Where a study stands."""

    name: str
    study_hash: str
    uri: str
    state: StudyState  # "unreadable" in listings alone: `error` says why, and the numbers are empty
    planned: dict[str, int]  # runs by arm
    done: dict[str, int]  # runs by arm that have ended, diverged and failed ones included
    completed: int = 0
    diverged: int = 0
    failed: int = 0
    uncommitted: int = 0  # runs among those done that are not in the ledger yet: they would be trained again
    lost: int = 0  # attempts lost to the infrastructure
    in_flight: int = 0  # runs
    actors: int = 0
    started_at: str = ""
    updated_at: str = ""
    elapsed_s: float = 0.0  # of the latest driver
    runs_per_s: float | None = None
    seconds_left: float | None = None
    utilisation: float | None = None  # busy share of the actors, 0 to 1
    driver: str = ""  # host:pid
    error: str | None = None

    @property
    def total_planned(self) -> int:
        """Runs of all arms."""
        return sum(self.planned.values())

    @property
    def total_done(self) -> int:
        """Runs of all arms that have ended."""
        return sum(self.done.values())

    @property
    def driven(self) -> bool:
        """Whether a driver works on it now."""
        return self.state in ("running", "paused")

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen by itself and nothing was cut short."""
        return self.state in ("completed", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """The content of ``progress.json``."""

    status: StudyStatus
    in_flight: Attempts = field(default_factory=list)  # all that is at stake
    ended: Attempts = field(default_factory=list)  # those of them that have ended and are not committed yet


def write_progress(
    storage: Storage, status: StudyStatus, in_flight: Attempts, *, ended: Attempts | None = None, durable: bool
) -> None:
    """Write where the study stands, and which attempts would be lost if the driver died now; ``ended`` is of them."""
    # While it runs without indentation, which takes Python's slow encoder: a large cluster has many attempts in flight.
    content = {"status": status.to_dict(), "in_flight": in_flight, "ended": ended or []}
    storage.write(PROGRESS, dumps_checked(content, indent=1 if durable else None), durable=durable)


def write_completed(storage: Storage, manifest: Manifest, statuses: Mapping[str, int], updated_at: str) -> None:
    """Write that a study is completed whose runs were all there at once; ``statuses`` counts them by their status."""
    status = StudyStatus(
        name=manifest.name,
        study_hash=manifest.study_hash,
        uri="",  # whoever reads it knows where it is
        state="completed",
        planned=manifest.planned,
        done=manifest.planned,
        completed=statuses.get("completed", 0),
        diverged=statuses.get("diverged", 0),
        failed=statuses.get("failed", 0),
        updated_at=updated_at,
    )
    write_progress(storage, status, [], durable=True)


def read_in_flight(storage: Storage, study_hash: str) -> Attempts | None:
    """The attempts that were in flight when the last driver of the study ``study_hash`` wrote.

    None if none did, or if the file is damaged or of another study.
    """
    try:
        return _read(storage, study_hash).in_flight
    except (FileNotFoundError, DamagedFileError):
        return None


def read_ended(storage: Storage, study_hash: str) -> set[tuple[str, int]]:
    """Those of the attempts in flight that had ended and waited for their commit; none if nobody knows."""
    try:
        return set(_read(storage, study_hash).ended)
    except (FileNotFoundError, DamagedFileError):
        return set()


def read_status(uri: str) -> StudyStatus:
    """Where a study stands, from any machine that sees its storage.

    A ``progress.json`` that is damaged, or of another study, keeps nobody from looking: the status is then what the
    ledger, the manifest and the lease tell, and its ``error`` says so. Raises :class:`service.StudyError`: a
    StudyNotFoundError if there is no study; any other says that its ``study.json`` is damaged or of a newer version.
    """
    return _status(open_storage(uri, tries=READER_TRIES))


def list_studies(root: str) -> list[StudyStatus]:
    """The studies directly below ``root``. One that cannot be read has the state ``unreadable`` and says why.

    Raises :class:`service.StudyError` if ``root`` is a file.
    """
    storage = open_storage(root, tries=READER_TRIES)
    try:
        names = storage.directories()
    except StorageError as error:
        if isinstance(error.__cause__, NotADirectoryError):
            raise StudyError(f"{root}: is a file; give the directory, or the URI, that holds the studies") from None
        raise
    return [found for name in names if (found := _listed(storage.child(name), name)) is not None]


def study_uri(root: str, name: str) -> str:
    """Where the study ``name`` lives below ``root``; raises SpecError for a name that is no safe path component."""
    return open_storage(root).child(check_name(name)).uri


def _listed(storage: Storage, name: str) -> StudyStatus | None:
    """The status of the study in the directory ``name``; None if no study is there."""
    try:
        return _status(storage) if storage.exists(MANIFEST) else None
    except (StudyError, StorageError) as error:
        return StudyStatus(
            name=name, study_hash="", uri=storage.uri, state="unreadable", planned={}, done={}, error=str(error)
        )


def _status(storage: Storage) -> StudyStatus:
    manifest = Manifest.load(storage)
    try:
        progress = _read(storage, manifest.study_hash, manifest.name)
    except FileNotFoundError:
        if manifest.provenance is None or is_held(storage):  # created, and no driver has reported yet
            return _begun(storage, manifest)
        missing = DamagedFileError(f"{storage.uri}/{PROGRESS}", "it is missing")
        return _status_without_progress(storage, manifest, missing)
    except DamagedFileError as error:
        return _status_without_progress(storage, manifest, error)
    status = dataclasses.replace(progress.status, uri=storage.uri)  # a study may have been moved
    if status.driven and not is_held(storage):
        return dataclasses.replace(
            status, state="interrupted", runs_per_s=None, seconds_left=None, in_flight=0, actors=0
        )
    return status


def _read(storage: Storage, study_hash: str, name: str | None = None) -> _Progress:
    """What the last driver has written; raises DamagedFileError where that is of another study."""
    where = f"{storage.uri}/{PROGRESS}"
    progress = parse(_Progress, storage.read(PROGRESS), where)
    found = progress.status
    if found.study_hash != study_hash or name not in (None, found.name):
        raise DamagedFileError(where, f"it is of another study or spec, named {found.name!r}")
    return progress


def _begun(storage: Storage, manifest: Manifest) -> StudyStatus:
    return StudyStatus(
        name=manifest.name,
        study_hash=manifest.study_hash,
        uri=storage.uri,
        state="waiting",
        planned=manifest.planned,
        done=dict.fromkeys(manifest.planned, 0),
    )


def _status_without_progress(storage: Storage, manifest: Manifest, problem: DamagedFileError) -> StudyStatus:
    """What is known of a study whose progress cannot be read: what is committed, and whether a driver lives."""
    from service.ledger.survey import survey  # loads pyarrow's Parquet, which no sound status needs

    check_tables(manifest, storage)
    found = survey(storage)
    is_whole = manifest.tables is not None and sum(found.counts.values()) >= sum(manifest.planned.values())
    note = f"{problem}; the next driver writes it anew. Until then the numbers are those of the committed runs"
    if found.unreadable:
        note += f", without {', '.join(found.unreadable)}, which cannot be read"
    return dataclasses.replace(
        _begun(storage, manifest),
        state="running" if is_held(storage) else "completed" if is_whole else "interrupted",
        done={arm: found.of_arm(arm) for arm in manifest.planned},
        completed=found.of_status("completed"),
        diverged=found.of_status("diverged"),
        failed=found.of_status("failed"),
        error=note,
    )
