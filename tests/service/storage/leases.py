"""Leases whose holders beat quickly, fall silent, or seem to be elsewhere."""

from __future__ import annotations

import time
from typing import Any

from service.storage.files import Storage
from service.storage.lease import Lease
from service.storage.lease_record import CLAIMS, LEASE, LeaseRecord, read_record


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
