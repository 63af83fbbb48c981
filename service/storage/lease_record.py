"""What a lease's files say: who holds a study, as which number, and whether that driver lives."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from service.errors import DamagedFileError, TakenOverError
from service.storage.checked_json import dumps_checked, loads_checked
from service.storage.files import Storage

LEASE = "lease.json"
CLAIMS = "lease"  # the directory of the claims: one small file for each taking, named by its number
TTL_S = 20.0
CLAIM = re.compile(r"([0-9]{1,40})\.json")


@dataclass(frozen=True, kw_only=True)
class LeaseRecord:
    """The content of ``lease.json``, and of a claim."""

    token: str  # of the driver's own, unlike any other
    host: str
    boot: str  # see :func:`boot_id`
    pid: int
    process_started: str
    beats: int
    time: str  # of the last beat, by the driver's clock
    number: int = 0  # how often the study had been taken, this time included; older versions give none
    released: bool = False  # given back: nobody holds the study

    @property
    def driver(self) -> str:
        """How messages name its holder."""
        return f"{self.host}:{self.pid}"

    def dumps(self) -> bytes:
        """As JSON."""
        return dumps_checked(asdict(self))

    @staticmethod
    def loads(content: bytes) -> LeaseRecord | None:
        """What :meth:`dumps` gave; None for what is damaged or senseless."""
        try:
            values = loads_checked(content, LEASE)
            known = {name: values[name] for name in LeaseRecord.__annotations__ if name in values}
            record = LeaseRecord(**({"boot": "", "process_started": ""} | known))
            datetime.fromisoformat(record.time).timestamp()
        except (DamagedFileError, ValueError, TypeError, KeyError, OverflowError, OSError):
            return None
        texts = (record.token, record.host, record.boot, record.process_started)
        numbers = (record.pid, record.beats, record.number)
        are_right = all(isinstance(each, str) for each in texts) and all(type(each) is int for each in numbers)
        return record if are_right and isinstance(record.released, bool) else None


def claim_path(number: int) -> str:
    """The claim file of a number."""
    return f"{CLAIMS}/{number:08d}.json"


def claims(storage: Storage) -> list[int]:
    """The numbers that are claimed, ascending. The last one is of the holder; the others are about to be deleted."""
    names = (path.rpartition("/")[2] for path in storage.files(CLAIMS, ".json"))
    return sorted(int(found[1]) for name in names if (found := CLAIM.fullmatch(name)))


def check_number(storage: Storage, number: int) -> None:
    """Raise TakenOverError if the study has been taken since the number was claimed, or if it was given back."""
    highest = max(claims(storage), default=0)
    if highest != number:
        raise TakenOverError(f"{storage.uri}: this is of lease {number}, and lease {highest} holds the study now")


def read_record(storage: Storage, name: str) -> LeaseRecord | None:
    """What a lease's file says; None if there is none, or if it is damaged."""
    try:
        return LeaseRecord.loads(storage.read(name))
    except FileNotFoundError:
        return None


def is_held(storage: Storage) -> bool:
    """Whether a driver seems to be at work, by one look.

    Its last sign of life must be less than twice :data:`TTL_S` away from now, in either direction: a lease that is
    stamped further in the future is of a driver whose clock is wrong or of nobody, and a driver that is asked to go on
    then finds out by watching it. A process of this host must also exist.
    """
    record = read_record(storage, LEASE)
    if record is None or record.released:
        return False
    is_fresh = abs(time.time() - datetime.fromisoformat(record.time).timestamp()) < 2 * TTL_S
    return is_fresh and alive_here(record) is not False


def alive_here(record: LeaseRecord) -> bool | None:
    """Whether the record's process exists on this host; None if it is of another host."""
    if record.host != socket.gethostname() or not record.boot or record.boot != boot_id():
        return None
    return record.process_started == process_start(record.pid)


def boot_id() -> str:
    """Differs between hosts, boots and process namespaces (containers number their processes anew); "" if not Linux."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{namespace}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" if it does not exist or is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
