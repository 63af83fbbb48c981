"""One driver for each study: a lease in the study's storage, kept alive by a heartbeat.

Each taking has a number, one more than the one before, and claims it by creating ``lease/<number>.json``. Of several
that take at once, one alone creates the file, where the storage creates exclusively. Whoever claimed the highest number
holds the study; ``lease.json`` holds its heartbeat, and stays when the study is given back, so that numbers go on.

Whether another driver lives is judged by watching its heartbeat, so clocks need not agree. On the same host its process
tells at once. A driver that was stopped or suspended, and believed dead, must find out before it writes anything:
:meth:`Lease.check` stands before each of its writes (:mod:`service.storage.fence`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from service.errors import FileChangedError, StudyBusyError, TakenOverError
from service.storage.files import Storage
from service.storage.lease_record import (
    LEASE,
    TTL_S,
    LeaseRecord,
    alive_here,
    boot_id,
    claim_path,
    claims,
    process_start,
    read_record,
)

BEAT_S = 2.0
SETTLE_S = 0.5


def seconds_since_boot() -> float:
    """A clock that goes on while the machine is suspended, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class _Seen(NamedTuple):
    """What a driver that wants a lease sees of its holder."""

    number: int  # the highest that is claimed; 0 if none is
    content: bytes | None  # of lease.json; None if there is none

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it."""
        record = LeaseRecord.loads(self.content) if self.content is not None else None
        if record is None:
            return self.number == 0 and self.content is None
        return record.released and record.number >= self.number


class Lease:
    """Held between :meth:`acquire` and :meth:`release`."""

    def __init__(
        self,
        storage: Storage,
        beat_s: float = BEAT_S,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        """``beat_s`` and ``ttl_s`` must be the same for all that share a study. ``clock`` goes on during a suspend."""
        self._storage, self._once = storage, storage.retrying(tries=1)
        self._beat_s, self._ttl_s, self._clock = beat_s, ttl_s, clock
        # A beat proves the lease for half its time to live: what is begun in that half can end in the other one. A
        # look at a disk costs so little that no proof is needed there.
        self._proof_s = ttl_s / 2 if storage.is_remote else 0.0
        self._proven_at = float("-inf")  # when the last beat that was confirmed began
        self._token = uuid.uuid4().hex
        self._beats = 0
        self._version = ""  # of lease.json, as this driver wrote it last
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.number = 0  # of this taking; 0 before it
        self.taken_by: str | None = None  # another driver, that thought this one dead

    def acquire(self) -> str | None:
        """Get the lease; raises StudyBusyError while another driver lives. Returns the dead one it was taken from."""
        seen, dead = self._wait_until_free()
        number = seen.number + 1
        if not self._storage.create(claim_path(number), self._record(number).dumps()):
            raise StudyBusyError(f"{self._storage.uri}: another driver is just taking this study over")
        try:
            self._settle(number, seen)
            self.number = number
            began = self._clock()
            self._version = self._storage.swap(LEASE, self._record(number).dumps(), "")
            for older in claims(self._storage):
                if older < number:
                    self._storage.delete(claim_path(older))
        except BaseException:
            with suppress(OSError):
                self._storage.delete(claim_path(number))
            raise
        self._proven_at = began
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return dead

    def check(self) -> None:
        """Return if the lease is certainly this driver's: by a beat of late, or else by a look at the storage.

        Raises :class:`service.errors.TakenOverError` if another driver holds the study, and an OSError if the storage
        cannot tell.
        """
        if self.taken_by is None and self._clock() - self._proven_at >= self._proof_s:
            self._look()
        if self.taken_by is not None:
            raise TakenOverError(
                f"{self._storage.uri}: {self.taken_by} has taken this study over, because this one gave no sign of "
                "life for too long. Nothing was written since; what was committed before is kept"
            )

    def release(self, *, forget: bool = False) -> None:
        """Give the lease back; with ``forget``, for a study that never began, without a trace."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # a storage that has failed: the lease will expire
            if self.taken_by is None and self.number and self._look():
                if forget:
                    self._storage.delete(LEASE)
                    self._storage.delete(claim_path(self.number))
                else:
                    self._storage.write(LEASE, self._record(self.number, released=True).dumps())
        self._proven_at = float("-inf")
        self.taken_by = self.taken_by or "nobody, or the next driver,"

    # -- taking

    def _see(self) -> _Seen:
        highest = max(claims(self._storage), default=0)
        try:
            return _Seen(highest, self._storage.read(LEASE))
        except FileNotFoundError:
            return _Seen(highest, None)

    def _wait_until_free(self) -> tuple[_Seen, str | None]:
        """What was seen last, and the address of the holder if it is dead; raises StudyBusyError on a sign of life."""
        seen = self._see()
        if seen.is_free:
            return seen, None
        record = LeaseRecord.loads(seen.content) if seen.content is not None else None
        if record is None or record.number < seen.number:  # claimed, and no beat yet; or it is damaged
            record = read_record(self._storage, claim_path(seen.number)) or record
        who = record.driver if record is not None else ""
        if record is not None and alive_here(record) is False:
            return seen, who
        deadline = time.monotonic() + self._ttl_s
        while time.monotonic() < deadline:
            time.sleep(min(0.2, self._beat_s / 2))
            latest = self._see()
            if latest.is_free:
                return latest, None
            if latest != seen:
                raise StudyBusyError(
                    f"{self._storage.uri}: the driver {who or 'of it'} is running this study; watch it with "
                    "`t1t2 status`, or stop it first"
                )
        return seen, who

    def _settle(self, number: int, seen: _Seen) -> None:
        """See that the number is this driver's alone, and that no proof of the driver before is good any more."""
        if not self._storage.creates_exclusively:
            time.sleep(SETTLE_S)  # of two that take over at once, the later write wins
        latest = self._see()
        claim = read_record(self._storage, claim_path(number))
        if latest.number != number or claim is None or claim.token != self._token:
            raise StudyBusyError(f"{self._storage.uri}: another driver has just taken this study over")
        if latest.content != seen.content and not latest._replace(number=seen.number).is_free:
            time.sleep(self._ttl_s)  # it beat once more before it could see the claim: let the proof of that pass

    # -- holding

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            began = self._clock()
            try:
                if not self._look():
                    return
                if self._clock() - began > self._ttl_s / 4:
                    continue  # stopped since it looked: another may hold it by now
                try:
                    self._version = self._once.swap(LEASE, self._record(self.number).dumps(), self._version)
                except FileChangedError:
                    self._version = ""
                    continue  # the next beat looks who did that
                # One who claimed before this look is seen by it; one who claims after it has seen the beat.
                if not self._look():
                    return
                self._proven_at = began
            except OSError:
                continue  # the driver's own writes report what is wrong with the storage

    def _look(self) -> bool:
        """Whether the lease is still this driver's, as the storage says now; notes who has taken it."""
        record = read_record(self._once, LEASE)
        highest = max(claims(self._once), default=0)
        if highest == self.number:
            if record is None or record.token == self._token or 0 < record.number < self.number:
                return True
            if record.number == self.number:  # two took at once, where files are not created exclusively
                claim = read_record(self._once, claim_path(self.number))
                if claim is not None and claim.token == self._token:
                    return True
        is_other = record is not None and record.token != self._token
        self.taken_by = f"the driver {record.driver}" if record is not None and is_other else "another driver"
        return False

    def _record(self, number: int, *, released: bool = False) -> LeaseRecord:
        self._beats += 1
        return LeaseRecord(
            token=self._token,
            host=socket.gethostname(),
            boot=boot_id(),
            pid=os.getpid(),
            process_started=process_start(os.getpid()),
            beats=self._beats,
            time=datetime.now(UTC).isoformat(),
            number=number,
            released=released,
        )
