"""The lease: one driver, what becomes of a dead one's, and what one that was stopped finds out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import StudyBusyError, TakenOverError
from service.storage.files import Storage, open_storage
from service.storage.lease import Lease
from service.storage.lease_record import CLAIMS, LEASE, alive_here, claims, is_held, read_record
from tests.service.object_store import FlakyS3, s3_server
from tests.service.storage.leases import await_loss, change, fall_silent, patient, quick, seem_elsewhere
from tests.service.storage.memory import Memory


class Remote(Memory):
    """A place where looking is dear, so that a beat is believed for a while."""

    is_remote = True


@pytest.fixture(scope="module")
def s3() -> Iterator[FlakyS3]:
    """One server for all tests: it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch, "studies") as store:
        yield store


@pytest.fixture(params=["disk", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A study's place, on a disk and in an S3 store."""
    if request.param == "disk":
        return open_storage(tmp_path / "study")
    server: FlakyS3 = request.getfixturevalue("s3")
    return open_storage(server.uri(f"studies/{tmp_path.name}"), first_delay_s=0.02)


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
