"""What happened in a study: one JSON object a line, in the files below ``events/``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.errors import DamagedFileError
from service.records.clock import now
from service.records.manifest import MANIFEST
from service.storage.checked_json import CHECKSUM, dumps_checked, loads_checked
from service.storage.files import Storage, open_storage

SEGMENT_BYTES = 1_000_000  # of a file; then the next one begins
DAMAGED = "events_damaged"  # the kind of an event that stands for those that cannot be read
END = "end_of_segment"  # the only key of the last line of a file but for the checksum


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

    @staticmethod
    def from_values(values: dict[str, Any], where: str) -> Event:
        """The event that a line of the file ``where`` holds; raises DamagedFileError where it holds none."""
        time, kind, message = (values.get(key) for key in ("time", "kind", "message"))
        if not (isinstance(time, str) and isinstance(kind, str) and isinstance(message, str)):
            raise DamagedFileError(where, "a line is no event")
        rest = {key: value for key, value in values.items() if key not in ("time", "kind", "message")}
        return Event(time, kind, message, rest)


class EventLog:
    """Collects events and writes them to ``events/``, a segment at a time. Each driver has files of its own.

    Each line has a checksum of itself. The last one of a file says of which study it is, and how many lines there are.
    """

    def __init__(
        self, storage: Storage, listener: Callable[[Event], None] | None = None, *, study_hash: str = ""
    ) -> None:
        self._storage = storage
        self._listener = listener
        self._study_hash = study_hash
        self._prefix = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        self._segment = 0
        self._lines: list[bytes] = []
        self._written = 0  # lines of the current segment that are on storage

    def add(self, kind: str, message: str = "", fields: dict[str, object] | None = None) -> None:
        """Take an event; it is on storage after the next :meth:`flush`."""
        event = Event(now(), kind, message, fields or {})
        self._lines.append(dumps_checked(event.to_dict()) + b"\n")
        if self._listener:
            self._listener(event)

    def flush(self, storage: Storage | None = None) -> None:
        """Write the current segment, to ``storage`` if given; start the next one when it is full."""
        lines = self._lines[:]  # another thread may be adding
        if len(lines) == self._written:
            return
        end = {"lines": len(lines), "study_hash": self._study_hash}
        content = b"".join([*lines, dumps_checked({END: end}), b"\n"])
        (storage or self._storage).write(f"events/{self._prefix}-{self._segment:04d}.jsonl", content, durable=False)
        self._written = len(lines)
        if len(content) >= SEGMENT_BYTES:
            del self._lines[: len(lines)]
            self._written = 0
            self._segment += 1


def read_events(uri: str, last_segments: int = 0) -> Iterator[Event]:
    """The events of a study, oldest first; if ``last_segments`` is given, of that many files at the end.

    Where a file is damaged or of another study, an event of the kind ``events_damaged`` stands for what is left out.
    """
    storage = open_storage(uri)
    study_hash = _study_hash(storage)
    for path in storage.files("events", ".jsonl")[-last_segments:]:
        try:
            content = storage.read(path)
        except FileNotFoundError:  # taken away meanwhile
            continue
        yield from segment_events(content, path, study_hash)


def segment_events(content: bytes, path: str, study_hash: str | None) -> Iterator[Event]:
    """The events of one file, and at its end one that tells what is wrong with it, if anything is."""
    events: list[Event] = []
    damaged = 0
    end: dict[str, Any] | None = None
    for line in content.splitlines():
        try:
            values = loads_checked(line, path)
            if isinstance(values.get(END), dict):
                end = values[END]
            else:
                events.append(Event.from_values(values, path))
        except DamagedFileError:
            damaged += 1
    if end and study_hash and end.get("study_hash") not in ("", study_hash):
        events, problem = [], f"is left out: it is of another study than {MANIFEST}"
    else:
        problem = _problem(content, len(events), damaged, end)
    yield from events
    if problem:
        yield Event(events[-1].time if events else "", DAMAGED, f"{path}: {problem}", {"path": path})


def _problem(content: bytes, sound: int, damaged: int, end: dict[str, Any] | None) -> str:
    """What is wrong with a file of events; "" if nothing is."""
    if end is not None:
        lines = end.get("lines")
        damaged = max(damaged, lines - sound) if isinstance(lines, int) else damaged + 1
    elif not content.strip() or f'"{CHECKSUM}":'.encode() in content:  # else of an earlier version, without an end
        return "is damaged (its end is missing); the events that it lacks are left out"
    return f"is damaged; {damaged} of its lines cannot be read and are left out" if damaged else ""


def _study_hash(storage: Storage) -> str | None:
    """Which study this is, as ``study.json`` says; None where it cannot be read."""
    try:
        found = loads_checked(storage.read(MANIFEST), MANIFEST).get("study_hash")
    except (FileNotFoundError, DamagedFileError):
        return None
    return found if isinstance(found, str) else None
