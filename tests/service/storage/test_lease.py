"""The lease: one driver, and what becomes of a dead one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service import StudyBusyError
from service.storage.files import open_storage
from service.storage.lease import LEASE, Lease, alive_here, is_held

QUICK = {"beat_s": 0.05, "ttl_s": 0.5}
PATIENT = {"beat_s": 0.05, "ttl_s": 60.0}  # a beat is seen long before, however busy the machine


def change(directory: Path, **values: Any) -> None:
    path = directory / LEASE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_is_held_until_released(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    lease = Lease(storage, **PATIENT)
    assert lease.acquire() is None
    with pytest.raises(StudyBusyError, match=f":{os.getpid()} is running this study"):
        Lease(storage, **PATIENT).acquire()
    lease.release()
    assert Lease(storage, **QUICK).acquire() is None


def test_a_process_that_died_here_is_noticed_at_once(tmp_path: Path) -> None:
    code = (
        "import os; from service.storage.lease import Lease; from service.storage.files import open_storage; "
        f"Lease(open_storage({str(tmp_path)!r})).acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3])
    dead = json.loads((tmp_path / LEASE).read_text())
    assert alive_here(dead) is False
    assert Lease(open_storage(tmp_path)).acquire() == f"{dead['host']}:{dead['pid']}"


def test_a_number_that_another_process_has_now_is_not_alive(tmp_path: Path) -> None:
    Lease(open_storage(tmp_path)).acquire()
    lease = json.loads((tmp_path / LEASE).read_text())
    assert alive_here(lease) is True
    assert alive_here(lease | {"process_started": "1"}) is False
    assert alive_here(lease | {"host": "elsewhere"}) is None
    assert alive_here(lease | {"boot": "another"}) is None


def test_a_silent_driver_elsewhere_loses_it_after_its_time_to_live(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    silent = Lease(storage, beat_s=1000.0)
    silent.acquire()
    change(tmp_path, host="elsewhere")
    started = time.monotonic()
    taken = Lease(storage, **QUICK)
    assert str(taken.acquire()).startswith("elsewhere:")
    assert time.monotonic() - started >= 0.5
    taken.release()


def test_a_driver_that_was_thought_dead_notices(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    first = Lease(storage, **QUICK)
    first.acquire()
    change(tmp_path, token="another", host="usurper", pid=7)
    end = time.monotonic() + 60
    while not first.taken_by and time.monotonic() < end:
        time.sleep(0.05)
    assert first.taken_by == "usurper:7"
    first.release()
    assert (tmp_path / LEASE).exists(), "it belongs to the other one now"


@pytest.mark.parametrize("content", ["", "[]", '{"token": "x"}'])
def test_a_damaged_lease_keeps_nobody_out(tmp_path: Path, content: str) -> None:
    (tmp_path / LEASE).write_text(content)
    storage = open_storage(tmp_path)
    assert not is_held(storage)
    lease = Lease(storage, **QUICK)
    assert lease.acquire() == "", "of nobody that is known"
    assert is_held(storage)
    lease.release()
    assert not is_held(storage)
