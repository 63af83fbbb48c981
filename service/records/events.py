"""What happened in a study: one JSON object a line, in the files below ``events/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.storage.files import Storage, open_storage

SEGMENT_BYTES = 1_000_000  # of a file; then the next one begins


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
    def from_line(line: bytes) -> Event:
        """The event that a line of a file holds."""
        values = json.loads(line)
        return Event(values.pop("time"), values.pop("kind"), values.pop("message"), values)


class EventLog:
    """Collects events and writes them to ``events/``, a segment at a time. Each driver has files of its own."""

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


def read_events(uri: str, last_segments: int = 0) -> Iterator[Event]:
    """The events of a study, oldest first; if ``last_segments`` is given, of that many files at the end."""
    storage = open_storage(uri)
    for path in storage.files("events", ".jsonl")[-last_segments:]:
        yield from map(Event.from_line, storage.read(path).splitlines())


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
