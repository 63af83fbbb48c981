"""The log of events."""

from __future__ import annotations

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
    monkeypatch.setattr(events, "SEGMENT_BYTES", 150)
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
