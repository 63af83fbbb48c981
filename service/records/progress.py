"""What a driver tells, and what it is told: status, events, and requests, as small files in the study's storage."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from service.errors import StorageError, StudyError, StudyNotFoundError
from service.ledger.schema import check_version_number
from service.spec.study_spec import StudySpec, check_name
from service.storage.files import Storage
from service.storage.lease import LEASE, TTL_S, alive_here

State = Literal["waiting", "running", "paused", "completed", "cancelled", "interrupted", "failed"]
Action = Literal["pause", "resume", "cancel", "retry", "extend"]
ACTIONS: tuple[Action, ...] = ("pause", "resume", "cancel", "retry", "extend")
MANIFEST, PROGRESS = "study.json", "progress.json"
SEGMENT_BYTES = 1_000_000
READER_TRIES = 3  # whoever only looks is not kept waiting


@dataclass(frozen=True)
class StudyStatus:
    """Where a study stands."""

    name: str
    study_hash: str
    uri: str
    state: State
    planned: dict[str, int]  # runs by arm
    done: dict[str, int]  # committed runs by arm, diverged and failed ones included
    completed: int = 0
    diverged: int = 0
    failed: int = 0
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
        """Committed runs of all arms."""
        return sum(self.done.values())

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen by itself and nothing was cut short."""
        return self.state in ("completed", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Event:
    """Something that happened in a study."""

    time: str
    kind: str
    message: str
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, flat."""
        return {"time": self.time, "kind": self.kind, "message": self.message, **self.fields}


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class EventLog:
    """Collects events and writes them as JSON lines to ``events/``, a segment at a time, one writer for each driver."""

    def __init__(self, storage: Storage, listener: Callable[[Event], None] | None = None) -> None:
        self._storage = storage
        self._listener = listener
        self._prefix = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        self._segment = 0
        self._lines: list[bytes] = []
        self._written = 0  # lines of the current segment that are on storage

    def add(self, kind: str, message: str = "", fields: dict[str, object] | None = None) -> None:
        """Take an event; it is on storage after the next :meth:`flush`."""
        event = Event(now(), kind, message, fields or {})
        self._lines.append(json.dumps(event.to_dict()).encode() + b"\n")
        if self._listener:
            self._listener(event)

    def flush(self, storage: Storage | None = None) -> None:
        """Write the current segment, to ``storage`` if given; start the next one when it is full."""
        lines = self._lines[:]  # another thread may be adding
        if len(lines) == self._written:
            return
        content = b"".join(lines)
        (storage or self._storage).write(f"events/{self._prefix}-{self._segment:04d}.jsonl", content, durable=False)
        self._written = len(lines)
        if len(content) >= SEGMENT_BYTES:
            del self._lines[: len(lines)]
            self._written = 0
            self._segment += 1


def read_events(uri: str) -> Iterator[Event]:
    """The events of a study, oldest first."""
    storage = Storage(uri)
    for path in storage.files("events", ".jsonl"):
        for line in storage.read(path).splitlines():
            values = json.loads(line)
            yield Event(values.pop("time"), values.pop("kind"), values.pop("message"), values)


def read_study(uri: str) -> dict[str, Any]:
    """The content of ``study.json``; raises StudyNotFoundError, NewerSchemaError."""
    storage = Storage(uri, tries=READER_TRIES)
    try:
        values = storage.read_json(MANIFEST)
        check_version_number(int(values["schema_version"]), f"{uri}/{MANIFEST}")
        if missing := [key for key in ("spec", "study_hash", "planned") if key not in values]:
            raise StudyError(f"{uri}/{MANIFEST}: is damaged (lacks {', '.join(missing)})")
    except FileNotFoundError:
        raise StudyNotFoundError(f"{uri}: holds no study (no {MANIFEST}); give the directory or URI of one") from None
    except StorageError as error:
        raise StudyError(f"{uri}: cannot be read ({error.__cause__})") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StudyError(f"{uri}/{MANIFEST}: is damaged ({error})") from None
    return dict(values)


def read_spec(uri: str) -> StudySpec:
    """The spec of a study."""
    return StudySpec.from_dict(read_study(uri)["spec"], where=f"{uri}/{MANIFEST}")


def read_status(uri: str) -> StudyStatus:
    """Where a study stands, from any machine that sees its storage; raises StudyNotFoundError."""
    study = read_study(uri)
    storage = Storage(uri)
    try:
        progress = storage.read_json(PROGRESS)["status"]
    except FileNotFoundError:  # created, and no driver has reported yet
        return StudyStatus(
            study["spec"]["name"],
            study["study_hash"],
            uri,
            "waiting",
            study["planned"],
            dict.fromkeys(study["planned"], 0),
        )
    status = StudyStatus(**{**progress, "uri": uri})
    if status.state in ("running", "paused") and not _driven(storage):
        return dataclasses.replace(
            status, state="interrupted", runs_per_s=None, seconds_left=None, in_flight=0, actors=0
        )
    return status


def list_studies(root: str) -> list[StudyStatus]:
    """The studies directly below ``root``."""
    storage = Storage(root)
    return [
        read_status(storage.child(name).uri) for name in storage.directories() if storage.exists(f"{name}/{MANIFEST}")
    ]


def study_uri(root: str, name: str) -> str:
    """Where the study ``name`` lives below ``root``; raises SpecError for a name that is no safe path component."""
    return Storage(root).child(check_name(name)).uri


def request(uri: str, action: Action, **arguments: Any) -> None:
    """Ask the study's driver, or its next one, for something. ``extend`` takes ``configurations=N``."""
    if action not in ACTIONS:
        raise StudyError(f"request {action!r}: must be one of {', '.join(ACTIONS)}")
    study = read_study(uri)
    if action == "extend":
        wanted, present = arguments.get("configurations"), study["spec"]["configurations"]
        if not isinstance(wanted, int) or wanted < present:
            raise StudyError(f"configurations = {wanted!r}: must be a whole number, at least the study's {present}")
    name = f"control/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    Storage(uri).write_json(name, {"action": action, "from": f"{socket.gethostname()}:{os.getpid()}", **arguments})


def take_requests(storage: Storage) -> list[dict[str, Any]]:
    """The requests that wait, oldest first; they are deleted."""
    found = []
    for path in storage.files("control", ".json"):
        try:
            found.append(dict(storage.read_json(path)))
        except (json.JSONDecodeError, FileNotFoundError, ValueError):
            found.append({"action": "unreadable", "path": path})
        storage.delete(path)
    return found


def _driven(storage: Storage) -> bool:
    """Whether a driver seems to be alive: here by its process, elsewhere by the time of its last sign of life."""
    try:
        lease = storage.read_json(LEASE)
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    here = alive_here(lease)
    age = time.time() - datetime.fromisoformat(lease["time"]).timestamp()
    return here if here is not None else age < 2 * TTL_S
