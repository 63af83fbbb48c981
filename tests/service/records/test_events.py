"""The log of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from service.records import events
from service.records.events import Event, EventLog, read_events
from service.storage.files import BACKENDS, Storage, open_storage
from tests.service.storage.memory import Memory

URI = "memory://toy"


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setitem(BACKENDS, "memory", partial(Memory, files={}))
    return open_storage(URI)


def test_an_event_is_heard_at_once_and_stored_by_the_next_flush(storage: Storage) -> None:
    heard: list[Event] = []
    log = EventLog(storage, heard.append)
    log.add("run_lost", "the node died", {"attempt": 2})
    assert [(event.kind, event.message, event.fields) for event in heard] == [
        ("run_lost", "the node died", {"attempt": 2})
    ]
    assert list(read_events(URI)) == []
    log.flush()
    assert list(read_events(URI)) == heard
    assert heard[0].to_dict() == {"time": heard[0].time, "kind": "run_lost", "message": "the node died", "attempt": 2}


def test_a_full_segment_is_followed_by_the_next(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 400)
    log = EventLog(storage)
    for number in range(7):
        log.add("run_finished", str(number))
        log.flush()
        log.flush()  # nothing new
    assert len(storage.files("events")) == 4
    assert [event.message for event in read_events(URI)] == list("0123456")
    assert [event.message for event in read_events(URI, last_segments=2)] == list("456")


def test_the_next_driver_goes_on_in_files_of_its_own(storage: Storage) -> None:
    for kind in ("first", "second"):
        log = EventLog(storage)
        log.add(kind)
        log.flush()
    assert [event.kind for event in read_events(URI)] == ["first", "second"]
    assert len(storage.files("events")) == 2


def test_the_last_words_may_go_elsewhere(storage: Storage) -> None:
    other = Storage(Memory())
    log = EventLog(storage)
    log.add("failed")
    log.flush(other)
    assert (len(other.files("events")), len(storage.files("events"))) == (1, 0)


def test_each_line_and_the_end_can_be_checked(storage: Storage) -> None:
    log = EventLog(storage, study_hash="0123")
    log.add("run_finished", "ä", {"pid": 7})
    log.flush()
    (path,) = storage.files("events")
    first, last = map(json.loads, storage.read(path).splitlines())
    assert list(first) == ["time", "kind", "message", "pid", "sha256"]
    assert last["end_of_segment"] == {"lines": 1, "study_hash": "0123"}


def three(storage: Storage, study_hash: str = "") -> tuple[str, list[bytes]]:
    """The path and the lines of a file with three events and its end."""
    log = EventLog(storage, study_hash=study_hash)
    for number in range(3):
        log.add("run_finished", str(number))
    log.flush()
    (path,) = storage.files("events")
    return path, storage.read(path).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("damage", "left", "told"),
    [
        (
            lambda a, b, c, end: a + b.replace(b'"1"', b'"7"') + c + end,
            "02",
            "is damaged; 1 of its lines cannot be read",
        ),
        (lambda a, b, c, end: a + c + end, "02", "is damaged; 1 of its lines cannot be read"),
        (lambda a, b, c, end: a + b.strip() + c + end, "0", "is damaged; 2 of its lines cannot be read"),
        (lambda a, b, c, end: a + b + c, "012", "is damaged (its end is missing)"),
        (lambda a, b, c, end: a + b + c[:20], "01", "is damaged (its end is missing)"),
        (lambda a, b, c, end: b"", "", "is damaged (its end is missing)"),
        (lambda a, b, c, end: b"\xff\xfe\0", "", "is damaged; 1 of its lines cannot be read"),
        (lambda a, b, c, end: b"[" * 100_000 + b"\n" + a + b + c + end, "012", "is damaged; 1 of its lines"),
        (lambda a, b, c, end: b'{"kind": 3}\n' + a + b + c + end, "012", "is damaged; 1 of its lines"),
        (lambda a, b, c, end: a + b'{"end_of_segment": {"lines": "x"}}', "0", "is damaged; 1 of its lines"),
        (lambda a, b, c, end: b'{"end_of_segment": 3}', "", "is damaged; 1 of its lines"),
    ],
)
def test_what_is_damaged_is_left_out_and_told(
    storage: Storage, damage: Callable[..., bytes], left: str, told: str
) -> None:
    path, lines = three(storage)
    storage.write(path, damage(*lines))
    *events, last = read_events(URI)
    assert [event.message for event in events] == list(left)
    assert last.kind == "events_damaged"
    assert last.message.startswith(f"{path}: {told}")


def test_events_of_another_study_are_left_out_and_told(storage: Storage) -> None:
    path, _ = three(storage, study_hash="another")
    storage.write("study.json", b'{"study_hash": "0123"}')
    assert [event.message for event in read_events(URI)] == [
        f"{path}: is left out: it is of another study than study.json"
    ]
    for unknown in (b"", b'{"study_hash": "another"}'):
        storage.write("study.json", unknown)
        assert [event.message for event in read_events(URI)] == list("012")


def test_events_of_an_earlier_version_have_no_checksums(storage: Storage) -> None:
    line = b'{"time": "2026-01-02T03:04:05.678+00:00", "kind": "x", "message": "y", "z": NOTHING}\n'
    storage.write("events/1.jsonl", line.replace(b"NOTHING", b"3") * 2)
    assert list(read_events(URI)) == [Event("2026-01-02T03:04:05.678+00:00", "x", "y", {"z": 3})] * 2
    storage.write("events/1.jsonl", line.replace(b"NOTHING", b"3") + line)
    assert [event.kind for event in read_events(URI)] == ["x", "events_damaged"]
