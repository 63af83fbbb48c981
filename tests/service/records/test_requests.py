"""What is asked of a driver, by files below ``control/``."""

from __future__ import annotations

import json
from functools import partial

import pytest

from service.errors import StudyError, StudyNotFoundError
from service.records.manifest import Manifest
from service.records.requests import ACTIONS, Request, request, take_requests
from service.spec.plan import make_plan
from service.storage.files import BACKENDS, Storage, open_storage
from tests.service.storage.memory import Memory
from tests.service.studies import toy_spec

URI = "memory://toy"


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
    assert list(take_requests(storage)) == [
        *(Request(action=action) for action in ACTIONS[:4]),
        Request(action="extend", configurations=3),
    ]
    assert list(take_requests(storage)) == []
    assert storage.files("control") == []


def test_a_request_waits_until_it_is_carried_out(storage: Storage) -> None:
    request(URI, "retry")
    request(URI, "cancel")
    taken = take_requests(storage)
    assert next(taken).action == "retry"
    taken.close()  # as if the driver died while it carries that request out
    assert [each.action for each in take_requests(storage)] == ["retry", "cancel"]


def test_a_request_says_who_asks(storage: Storage) -> None:
    request(URI, "pause")
    values = json.loads(storage.read(storage.files("control")[0]))
    assert list(values) == ["action", "from"]


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
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b'{"action": "explode"}',
        b'{"action": "extend", "configurations": "many"}',
        b'{"action": "extend", "configurations": Infinity}',
    ],
)
def test_what_is_no_request_is_deleted_and_passed_over(storage: Storage, content: bytes) -> None:
    storage.write("control/1.json", content)
    request(URI, "pause")
    assert list(take_requests(storage)) == [Request(action="pause")]
    assert storage.files("control") == []
