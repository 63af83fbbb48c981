"""What is asked of a driver, by files below ``control/``."""

from __future__ import annotations

import json
from functools import partial

import pytest

from service.errors import StudyError, StudyNotFoundError
from service.records.manifest import Manifest
from service.records.requests import ACTIONS, Request, request, take_requests
from service.spec.plan import make_plan
from service.storage.checked_json import dumps_checked
from service.storage.files import BACKENDS, Storage, open_storage
from tests.service.storage.memory import Memory
from tests.service.studies import toy_spec

URI = "memory://toy"
HASH = toy_spec().hash


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setitem(BACKENDS, "memory", partial(Memory, files={}))
    storage = open_storage(URI)
    Manifest.of(make_plan(toy_spec())).save(storage)
    return storage


def test_requests_are_taken_once_and_in_order(storage: Storage) -> None:
    for action in ("pause", "resume", "cancel", "retry"):
        request(URI, action)
    request(URI, "extend", configurations=3)
    assert list(take_requests(storage, HASH)) == [
        *(Request(action=action, study_hash=HASH) for action in ACTIONS[:4]),
        Request(action="extend", configurations=3, study_hash=HASH),
    ]
    assert list(take_requests(storage, HASH)) == []
    assert storage.files("control") == []


def test_a_request_waits_until_it_is_carried_out(storage: Storage) -> None:
    request(URI, "retry")
    request(URI, "cancel")
    taken = take_requests(storage, HASH)
    assert next(taken).action == "retry"
    taken.close()  # as if the driver died while it carries that request out
    assert [each.action for each in take_requests(storage, HASH)] == ["retry", "cancel"]


def test_a_request_says_who_asks(storage: Storage) -> None:
    request(URI, "pause")
    values = json.loads(storage.read(storage.files("control")[0]))
    assert list(values) == ["action", "from", "study_hash", "sha256"]


def test_bad_requests_are_refused(storage: Storage) -> None:
    with pytest.raises(StudyError, match="request 'explode': must be one of pause, resume, cancel, retry, extend"):
        request(URI, "explode")  # type: ignore[arg-type]
    for wanted in (2, "4", None, 3.5):
        with pytest.raises(StudyError, match="must be a whole number, at least the study's 3"):
            request(URI, "extend", configurations=wanted)
    for wanted in (10**13, 10**5000):
        with pytest.raises(StudyError, match=r"configurations = .*: must be at least 1 and at most 100,000,000"):
            request(URI, "extend", configurations=wanted)
    with pytest.raises(StudyError, match="600,000,024 runs: must be at most 100,000,000"):
        request(URI, "extend", configurations=10**8)
    with pytest.raises(StudyNotFoundError):
        request("memory://nowhere", "pause")
    assert storage.files("control") == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is damaged (it is empty)"),
        (b"{}", "is damaged (lacks action)"),
        (b"[]", "is damaged (a JSON object is expected)"),
        (b"7", "is damaged (a JSON object is expected)"),
        (b"[" * 100_000, "is damaged (it is nested too deeply)"),
        (b'{"action": "explode"}', "is damaged (unusable: action)"),
        (b'{"action": {}}', "is damaged (unusable: action)"),
        (b'{"action": "extend", "configurations": "many"}', "is damaged (unusable: configurations)"),
        (b'{"action": "extend", "configurations": 3.5}', "is damaged (unusable: configurations)"),
        (b'{"action": "extend", "configurations": true}', "is damaged (unusable: configurations)"),
        (b'{"action": "extend", "configurations": Infinity}', "is damaged (Infinity is no number of JSON)"),
        (b'{"action": "extend"}', "is damaged (extend: must say how many configurations)"),
        (b'{"action": "cancel", "study_hash": "another"}', "asks something of another study"),
        (dumps_checked({"action": "pause"}).replace(b"pause", b"retry"), "its content does not fit its checksum"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_request_is_deleted_and_told(storage: Storage, content: bytes, why: str) -> None:
    storage.write("control/1.json", content)
    request(URI, "pause")
    told: list[str] = []
    assert [each.action for each in take_requests(storage, HASH, told.append)] == ["pause"]
    assert len(told) == 1
    assert told[0].startswith("control/1.json: ")
    assert why in told[0]
    assert storage.files("control") == []


def test_a_request_of_an_earlier_version_has_no_checksum(storage: Storage) -> None:
    storage.write("control/1.json", b'{"action": "extend", "from": "host:1", "configurations": 9}')
    assert list(take_requests(storage, HASH)) == [Request(action="extend", configurations=9)]
