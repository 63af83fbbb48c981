"""What the files of a lease say: damaged ones, senseless ones, those of dead and stopped processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.errors import StudyBusyError, TakenOverError
from service.storage.files import open_storage
from service.storage.lease import Lease
from service.storage.lease_record import CLAIMS, LEASE, LeaseRecord, alive_here, is_held, read_record
from tests.service.storage.leases import change, fall_silent, patient, quick, seem_elsewhere


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"token": "x"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"token": 1, "host": [], "boot": "", "pid": "x", "process_started": "", "beats": null, "time": 7}',
        b'{"token": "t", "host": "h", "pid": 1, "beats": 1, "time": "yesterday"}',
        b'{"token": "t", "host": "h", "pid": 1, "beats": 1, "time": "0001-01-01T00:00:00"}',
        b'{"token": "t", "host": "h", "pid": 1.5, "beats": 1, "time": "2020-01-01"}',
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_damaged_lease_keeps_nobody_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE).write_bytes(content)
    storage = open_storage(tmp_path)
    assert not is_held(storage)
    lease = quick(storage)
    assert lease.acquire() == "", "of nobody that is known"
    assert is_held(storage)
    lease.release()
    assert not is_held(storage)


def test_a_lease_that_is_damaged_while_it_is_held_is_mended_by_the_next_beat(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    (tmp_path / LEASE).write_bytes(b"{")
    with pytest.raises(StudyBusyError):
        patient(storage).acquire()
    lease.check()
    lease.release()


@pytest.mark.parametrize("name", ["x", "7.json.tmp", "-1.json", "1e3.json", "٣.json"])
def test_what_else_lies_among_the_claims_is_no_claim(tmp_path: Path, name: str) -> None:
    storage = open_storage(tmp_path)
    (tmp_path / CLAIMS).mkdir()
    (tmp_path / CLAIMS / name).write_text("")
    lease = quick(storage)
    assert lease.acquire() is None
    assert lease.number == 1
    lease.release()


def test_a_lease_that_was_written_by_two_at_once_is_of_the_claim(tmp_path: Path) -> None:
    """Where files are not created exclusively, the later of two claims counts, whoever wrote the heartbeat last."""
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    fall_silent(lease)
    change(storage, token="another")
    lease.check()
    change(storage, storage.files(CLAIMS)[0], token="another")
    with pytest.raises(TakenOverError):
        lease.check()


@pytest.mark.parametrize("hours", [-24, 24, 24 * 365 * 1000])
def test_a_lease_stamped_far_in_the_past_or_future_is_not_held_as_far_as_one_look_can_tell(
    tmp_path: Path, hours: int
) -> None:
    storage = open_storage(tmp_path)
    lease = Lease(storage, beat_s=1000.0, ttl_s=0.5)
    lease.acquire()
    seem_elsewhere(storage)
    assert is_held(storage), "a driver elsewhere whose clock is right"
    year = 2026 + hours // (24 * 365)
    stamp = f"{year:04d}-01-01T00:00:00+00:00" if abs(hours) > 24 else hours_from_now(hours)
    change(storage, time=stamp)
    assert not is_held(storage)
    taker = quick(storage)
    assert str(taker.acquire()).startswith("elsewhere:"), "nothing moves, whatever the stamp says"
    taker.release()


def test_one_stamped_in_the_future_that_beats_keeps_others_out(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    record = lease._record
    lease._record = lambda *args, **options: LeaseRecord(  # type: ignore[method-assign]
        **(vars(record(*args, **options)) | {"time": hours_from_now(5), "host": "elsewhere"})
    )
    lease.acquire()
    assert not is_held(storage)
    with pytest.raises(StudyBusyError, match="the driver elsewhere:"):
        patient(storage).acquire()
    lease.release()


def test_a_number_that_another_process_has_now_is_not_alive(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    record = read_record(storage, LEASE)
    assert record is not None
    changed: Callable[..., LeaseRecord] = lambda **values: LeaseRecord(**(vars(record) | values))  # noqa: E731
    assert alive_here(record) is True
    assert alive_here(changed(process_started="1")) is False
    assert alive_here(changed(host="elsewhere")) is None
    assert alive_here(changed(boot="another")) is None
    assert alive_here(changed(pid=10**4000)) is False
    lease.release()


def test_a_stopped_process_here_is_not_at_work(tmp_path: Path) -> None:
    """It exists, and has given no sign of life for long: another may take the study, so `resume` must start one."""
    storage = open_storage(tmp_path)
    lease = Lease(storage, beat_s=1000.0)
    lease.acquire()
    change(storage, time=hours_from_now(-1))
    assert not is_held(storage)
    lease.release()


def test_what_it_says_can_be_read_by_older_versions(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    values = json.loads(storage.read(LEASE))
    assert values.keys() >= {"token", "beats", "host", "boot", "pid", "process_started", "time", "number"}
    lease.release()


def hours_from_now(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
