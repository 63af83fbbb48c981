"""The lease: one driver, what becomes of a dead one's, and what one that was stopped finds out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import StudyBusyError, TakenOverError
from service.storage.files import Storage, open_storage
from service.storage.lease import Lease
from service.storage.lease_record import CLAIMS, LEASE, LeaseRecord, alive_here, claims, is_held, read_record
from tests.service.object_store import s3_server
from tests.service.storage.memory import Memory


class Remote(Memory):
    """A place where looking is dear, so that a beat is believed for a while."""

    is_remote = True


@pytest.fixture(params=["disk", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """A study's place, on a disk and in an S3 store."""
    if request.param == "disk":
        yield open_storage(tmp_path / "study")
    else:
        with s3_server(monkeypatch, "studies") as store:
            yield open_storage(store.uri("studies/study"), first_delay_s=0.02)


def quick(storage: Storage, **options: Any) -> Lease:
    return Lease(storage, beat_s=0.05, ttl_s=0.5, **options)


def patient(storage: Storage) -> Lease:
    """A beat is seen long before its time to live is over, however busy the machine."""
    return Lease(storage, beat_s=0.05, ttl_s=60.0)


def change(storage: Storage, name: str = LEASE, **values: Any) -> None:
    """Let a lease's file say something else."""
    record = read_record(storage, name)
    assert record is not None
    storage.write(name, LeaseRecord(**(vars(record) | values)).dumps())


def seem_elsewhere(storage: Storage) -> None:
    """Let the holder be of another host, where its process cannot be asked for."""
    for name in (LEASE, *storage.files(CLAIMS)):
        change(storage, name, host="elsewhere")


def fall_silent(lease: Lease) -> None:
    """As a process does that is stopped."""
    lease._stop.set()
    if lease._thread is not None:
        lease._thread.join()


def await_loss(lease: Lease) -> None:
    end = time.monotonic() + 60
    while not lease.taken_by and time.monotonic() < end:
        time.sleep(0.02)


def test_it_is_held_until_released(storage: Storage) -> None:
    lease = patient(storage)
    assert lease.acquire() is None
    assert is_held(storage)
    with pytest.raises(StudyBusyError, match=f":{os.getpid()} is running this study"):
        patient(storage).acquire()
    lease.check()
    lease.release()
    assert not is_held(storage)
    with pytest.raises(TakenOverError):
        lease.check()
    assert quick(storage).acquire() is None


def test_its_number_goes_up_with_each_taking(storage: Storage) -> None:
    for number in (1, 2, 3):
        lease = quick(storage)
        lease.acquire()
        assert lease.number == number
        assert claims(storage) == [number], "those of before are deleted"
        lease.release()
    fallen = quick(storage)
    fallen.acquire()
    fall_silent(fallen)
    seem_elsewhere(storage)
    taker = quick(storage)
    assert str(taker.acquire()).startswith("elsewhere:")
    assert (fallen.number, taker.number) == (4, 5)
    taker.release()


def test_a_study_that_never_began_keeps_no_trace(storage: Storage) -> None:
    lease = quick(storage)
    lease.acquire()
    lease.release(forget=True)
    assert (storage.files(""), storage.files(CLAIMS)) == ([], [])


def test_of_many_that_take_at_once_one_wins(storage: Storage) -> None:
    fallen = quick(storage)
    fallen.acquire()
    fall_silent(fallen)
    seem_elsewhere(storage)
    start = threading.Barrier(8)
    takers = [Lease(storage, beat_s=0.05, ttl_s=3.0) for _ in range(8)]
    won: list[Lease] = []
    others: list[BaseException] = []

    def take(lease: Lease) -> None:
        start.wait()
        try:
            lease.acquire()
            won.append(lease)
        except StudyBusyError as error:
            others.append(error)

    threads = [threading.Thread(target=take, args=(lease,)) for lease in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(others)) == (1, 7)
    assert won[0].number == fallen.number + 1
    won[0].check()
    won[0].release()


def test_one_that_was_stopped_finds_out_before_it_writes(storage: Storage) -> None:
    stopped = quick(storage)
    stopped.acquire()
    fall_silent(stopped)
    fenced = storage.fenced(stopped.check)
    fenced.write("before", b"x")
    seem_elsewhere(storage)
    taker = quick(storage)
    taker.acquire()
    time.sleep(0.3)  # a proof from before is good for a quarter of a second
    with pytest.raises(TakenOverError, match="has taken this study over, because this one gave no sign of life"):
        fenced.write("after", b"x")
    assert not storage.exists("after")
    taker.release()


def test_its_own_beats_tell_it_too(storage: Storage) -> None:
    first = quick(storage)
    first.acquire()
    storage.write(f"{CLAIMS}/00000002.json", b"")
    await_loss(first)
    assert first.taken_by == "another driver"
    change(storage, token="another", host="usurper", pid=7, number=2)
    first._look()
    assert first.taken_by == "the driver usurper:7"
    first.release()
    assert storage.exists(LEASE), "it belongs to the other one now"


def test_a_driver_of_an_older_version_that_takes_it_is_noticed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    first = quick(storage)
    first.acquire()
    fall_silent(first)
    change(storage, token="another", number=0)  # it knows no numbers and no claims
    with pytest.raises(TakenOverError):
        first.check()


def test_the_lease_of_an_older_version_is_respected_and_taken(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    old = {"token": "t", "host": "elsewhere", "boot": "b", "pid": 1, "process_started": "1", "beats": 5, "time": ""}
    storage.write(LEASE, json.dumps(old | {"time": "2020-01-01T00:00:00+00:00"}).encode())
    taker = quick(storage)
    assert taker.acquire() == "elsewhere:1"
    assert taker.number == 1
    taker.release()


def test_a_process_that_died_here_is_noticed_at_once(tmp_path: Path) -> None:
    code = (
        "import os; from service.storage.lease import Lease; from service.storage.files import open_storage; "
        f"Lease(open_storage({str(tmp_path)!r})).acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3])
    storage = open_storage(tmp_path)
    dead = read_record(storage, LEASE)
    assert dead is not None
    assert alive_here(dead) is False
    lease = Lease(storage)
    assert lease.acquire() == dead.driver
    lease.release()


def test_a_process_that_died_between_its_claim_and_its_first_beat_is_noticed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    lease.release()
    storage.write(f"{CLAIMS}/00000002.json", lease._record(2).dumps())
    change(storage, f"{CLAIMS}/00000002.json", process_started="1")
    taker = Lease(storage, ttl_s=1000.0)
    assert taker.acquire() == f"{os.uname().nodename}:{os.getpid()}"
    assert taker.number == 3
    taker.release()


def test_a_silent_driver_elsewhere_loses_it_after_its_time_to_live(storage: Storage) -> None:
    silent = Lease(storage, beat_s=1000.0, ttl_s=0.5)
    silent.acquire()
    seem_elsewhere(storage)
    started = time.monotonic()
    taken = quick(storage)
    assert str(taken.acquire()).startswith("elsewhere:")
    assert time.monotonic() - started >= 0.5
    taken.release()


def test_a_beat_before_the_claim_is_seen_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder beats after the taker's last look, so it may hold that for a proof until its time to live is over."""
    storage = open_storage(tmp_path)
    silent = Lease(storage, beat_s=1000.0, ttl_s=0.5)
    silent.acquire()
    seem_elsewhere(storage)
    create = Storage.create

    def beat_first(self: Storage, name: str, content: bytes) -> bool:
        change(storage, beats=77)
        return create(self, name, content)

    monkeypatch.setattr(Storage, "create", beat_first)
    started = time.monotonic()
    taken = quick(storage)
    taken.acquire()
    assert time.monotonic() - started >= 2 * 0.5
    taken.release()


def test_a_confirmed_beat_is_proof_for_half_the_time_to_live_and_a_suspend_counts() -> None:
    now = [100.0]
    storage = Storage(Remote(), tries=1)
    looks: list[str] = []
    lease = Lease(storage, beat_s=1000.0, ttl_s=20.0, clock=lambda: now[0])
    lease.acquire()
    look = lease._look
    lease._look = lambda: (looks.append("look"), look())[1]  # type: ignore[method-assign, func-returns-value]
    for now[0] in (100.0, 109.9):
        lease.check()
    assert not looks
    now[0] = 110.0  # as after a suspend: no beat, no time on other clocks
    lease.check()
    assert looks == ["look"], "it is still its own"
    storage.write(f"{CLAIMS}/00000002.json", b"")
    with pytest.raises(TakenOverError):
        lease.check()


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
    stamp = f"{year:04d}-01-01T00:00:00+00:00" if abs(hours) > 24 else _hours_from_now(hours)
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
        **(vars(record(*args, **options)) | {"time": _hours_from_now(5), "host": "elsewhere"})
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
    change(storage, time=_hours_from_now(-1))
    assert not is_held(storage)
    lease.release()


def test_what_it_says_can_be_read_by_older_versions(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = quick(storage)
    lease.acquire()
    values = json.loads(storage.read(LEASE))
    assert values.keys() >= {"token", "beats", "host", "boot", "pid", "process_started", "time", "number"}
    lease.release()


def _hours_from_now(hours: float) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
