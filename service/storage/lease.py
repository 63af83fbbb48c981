"""One driver for each study: a lease in the study's storage, kept alive by a heartbeat.

Whether another driver lives is judged by watching its heartbeat count move, so clocks need not agree. On the same host
its process tells at once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.errors import StudyBusyError
from service.storage.files import Storage

LEASE = "lease.json"
BEAT_S = 2.0
TTL_S = 20.0
SETTLE_S = 0.5


class Lease:
    """Held between :meth:`acquire` and :meth:`release`."""

    def __init__(self, storage: Storage, beat_s: float = BEAT_S, ttl_s: float = TTL_S) -> None:
        self._storage = storage
        self._beat_s, self._ttl_s = beat_s, ttl_s
        self._holder = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid": os.getpid(),
            "process_started": _process_start(os.getpid()),
        }
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.taken_by: str | None = None  # another driver, that thought this one dead

    def acquire(self) -> str | None:
        """Get the lease; raises StudyBusyError while another driver lives. Returns the dead one it was taken from."""
        if not self._storage.create(LEASE, self._content()):
            dead = self._wait_for_death()
            self._storage.write(LEASE, self._content())
            time.sleep(SETTLE_S)  # of two that take over at once, the later write wins
            if not self._is_ours():
                raise StudyBusyError(f"{self._storage.uri}: another driver has just taken this study over")
        else:
            dead = None
            if not self._storage.creates_exclusively:
                time.sleep(SETTLE_S)
                if not self._is_ours():
                    raise StudyBusyError(f"{self._storage.uri}: another driver has just started this study")
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return dead

    def release(self) -> None:
        """Give the lease back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # a storage that has failed: the lease will expire
            if self.taken_by is None and self._is_ours():
                self._storage.delete(LEASE)

    def _wait_for_death(self) -> str:
        """The other driver's address, once it is certainly dead; raises StudyBusyError on a sign of life."""
        other = read_lease(self._storage)
        if other is None:
            return ""  # it has just ended
        who = f"{other['host']}:{other['pid']}"
        if alive_here(other) is not False and self._moves(other):
            raise StudyBusyError(
                f"{self._storage.uri}: the driver {who} is running this study; watch it with "
                "`t1t2 status`, or stop it first"
            )
        return who

    def _moves(self, other: dict[str, Any]) -> bool:
        """Whether the other's heartbeat goes on within the time to live."""
        deadline = time.monotonic() + self._ttl_s
        while time.monotonic() < deadline:
            time.sleep(min(0.2, self._beat_s / 2))
            latest = read_lease(self._storage)
            if latest is None:
                return False
            if (latest["token"], latest["beats"]) != (other["token"], other["beats"]):
                return True
        return False

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            try:
                current = read_lease(self._storage)
                if current is not None and current["token"] != self._holder["token"]:
                    self.taken_by = f"{current['host']}:{current['pid']}"
                    return
                self._storage.write(LEASE, self._content(), durable=False)
            except OSError:
                continue  # the driver's own writes report what is wrong with the storage

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._holder, "beats": self._beats, "time": datetime.now(UTC).isoformat()}).encode()

    def _is_ours(self) -> bool:
        current = read_lease(self._storage)
        return current is not None and current["token"] == self._holder["token"]


def read_lease(storage: Storage) -> dict[str, Any] | None:
    """What the lease says; None if there is none, or if it is damaged."""
    try:
        lease = storage.read_json(LEASE)
    except (FileNotFoundError, ValueError):
        return None
    is_whole = isinstance(lease, dict) and lease.keys() >= {"token", "beats", "host", "pid", "time"}
    return lease if is_whole else None


def is_held(storage: Storage) -> bool:
    """Whether a driver seems to be alive: here by its process, elsewhere by the time of its last sign of life."""
    lease = read_lease(storage)
    if lease is None:
        return False
    here = alive_here(lease)
    age = time.time() - datetime.fromisoformat(lease["time"]).timestamp()
    return here if here is not None else age < 2 * TTL_S


def alive_here(lease: dict[str, Any]) -> bool | None:
    """Whether the lease's process runs on this host; None if it is of another host."""
    if lease.get("host") != socket.gethostname() or not lease.get("boot") or lease.get("boot") != _boot_id():
        return None
    return lease.get("process_started") == _process_start(int(lease.get("pid", 0)))


def _boot_id() -> str:
    """Differs between hosts, boots and process namespaces (containers number their processes anew); "" if not Linux."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{namespace}"
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" if it does not exist or is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
