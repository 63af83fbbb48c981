"""Damage to the JSON files of a study, and what every way of reading one may say of it afterwards.

Each reading either gives what it gave before the damage, or names the file that is damaged.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from service import StudyError, list_studies, read_events, read_status
from service.client.results import frame_of, open_study
from service.records.events import DAMAGED
from service.records.requests import take_requests
from service.storage.files import open_storage
from service.web.routes import respond
from tests.service.studies import toy_spec

COUNTS = ("name", "study_hash", "planned", "done", "completed", "diverged", "failed")  # of a status: told by the tables
TABLES = ("runs", "trajectories", "attempts")
SAME, ERROR, OTHER = "same", "error", "silently other"


@dataclass(frozen=True)
class Damage:
    """What is done to a file; ``other`` is the content of another study's file of the same kind."""

    name: str
    apply: Callable[[bytes, bytes], bytes]


DEEP = b'{"status":' * 50_000
DAMAGES = [
    Damage("emptied", lambda content, other: b""),
    Damage("cut", lambda content, other: content[: len(content) // 2]),
    Damage("last byte cut", lambda content, other: content.rstrip()[:-1]),
    Damage("zeroed", lambda content, other: bytes(len(content))),
    Damage("garbage", lambda content, other: random.Random(3).randbytes(len(content))),
    Damage("another type", lambda content, other: b'[{"action": 3}]'),
    Damage("another object", lambda content, other: b'{"status": {"state": 7}, "spec": [], "action": {}, "kind": 1}'),
    Damage("deep", lambda content, other: DEEP),
    Damage("swapped", lambda content, other: other),
]


def flipped(content: bytes, seed: int) -> bytes:
    """``content`` with one bit changed."""
    damaged = bytearray(content)
    position = random.Random(seed).randrange(8 * len(damaged))
    damaged[position // 8] ^= 1 << position % 8
    return bytes(damaged)


def files(study: Path) -> list[str]:
    """The paths of the JSON files of a study, below its directory."""
    below = [*study.glob("events/*"), *study.glob("control/*")]
    named = [study / name for name in ("study.json", "progress.json", "lease.json")]
    return [str(path.relative_to(study)) for path in [*named, *sorted(below)] if path.exists()]


def kind(path: str) -> str:
    """Files of one kind have equal kinds: ``study.json``, ``events``, …"""
    return path.partition("/")[0]


def counterpart(other: Path, path: str) -> bytes:
    """The content of another study's file of the same kind."""
    return next((other / each).read_bytes() for each in files(other) if kind(each) == kind(path))


def copied(study: Path, to: Path, path: str, content: bytes) -> Path:
    """A copy of the study with another content of one file."""
    target = to / study.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(study, target)
    (target / path).write_bytes(content)
    return target


class Looks:
    """What each of some ways of looking at a study gives while it is sound."""

    def __init__(self, study: Path, names: Sequence[str]) -> None:
        self.sound = {name: LOOKS[name](study) for name in names}

    def verdicts(self, damaged: Path, path: str) -> dict[str, str]:
        """How each way of looking takes the damage to ``path``: SAME, ERROR (the file is named), or OTHER."""
        return {name: self._verdict(name, damaged, path) for name in self.sound}

    def _verdict(self, name: str, damaged: Path, path: str) -> str:
        try:
            found = LOOKS[name](damaged)
        except StudyError as error:
            return ERROR if path in str(error) else f"{OTHER}: {error}"
        if is_same(found, self.sound[name]):
            return SAME
        if name in ("status", "list"):
            return ERROR if path in str(found["error"]) and is_unmistakable(found, self.sound[name]) else OTHER
        if name in ("events", "requests"):
            told = [line for line in found if line[0] == DAMAGED]
            rest = [line for line in found if line[0] != DAMAGED]
            is_left = all(line in self.sound[name] for line in rest)
            return ERROR if is_left and told and all(path in line[1] for line in told) else OTHER
        return OTHER


def is_same(found: Any, sound: Any) -> bool:
    """Whether two readings are equal."""
    if isinstance(found, pd.DataFrame):
        return found.equals(sound)
    return bool(found == sound)


def is_unmistakable(found: dict[str, Any], sound: dict[str, Any]) -> bool:
    """Whether a status says how many runs are committed, or that it does not know."""
    return found["state"] == "unreadable" or all(found[key] == sound[key] for key in COUNTS)


def _status(study: Path) -> dict[str, Any]:
    return {**read_status(str(study)).to_dict(), "uri": ""}


def _listed(study: Path) -> dict[str, Any]:
    (found,) = list_studies(str(study.parent))
    return {**found.to_dict(), "uri": ""}


def _events(study: Path) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for event in read_events(str(study))]


def _requests(study: Path) -> list[tuple[str, str]]:
    """The requests that a driver takes. The files go; the last of all ways of looking."""
    told: list[tuple[str, str]] = []
    storage = open_storage(study)
    taken = [
        (request.action, str(request.configurations))
        for request in take_requests(storage, toy_spec().hash, lambda why: told.append((DAMAGED, why)))
    ]
    assert not storage.files("control")
    return taken + told


def _table(name: str) -> Callable[[Path], pd.DataFrame]:
    def read(study: Path) -> pd.DataFrame:
        frame = frame_of(open_study(str(study)), name)
        keys = [key for key in ("run_id", "step", "attempt") if key in frame]  # shards come in no order
        return frame.sort_values(keys, ignore_index=True)

    return read


def _pages(study: Path) -> list[int]:
    """The pages of ``t1t2 serve``: an answer at each path, whatever is damaged; none is an error of the server."""
    paths = ("/", f"/studies/{study.name}", "/api/studies", f"/api/studies/{study.name}")
    statuses = [int(respond(str(study.parent), path).status) for path in paths]
    assert max(statuses) < 500
    if statuses[1] != 200:
        read_status(str(study))  # the error that the page tells
    return statuses


LOOKS: dict[str, Callable[[Path], Any]] = {
    "status": _status,
    "list": _listed,
    **{name: _table(name) for name in TABLES},
    "events": _events,
    "pages": _pages,
    "requests": _requests,
}


def structural(study: Path, other: Path) -> Iterator[tuple[str, Damage, bytes]]:
    """Every file of a study with every damage to it."""
    for path in files(study):
        content = (study / path).read_bytes()
        for damage in DAMAGES:
            yield path, damage, damage.apply(content, counterpart(other, path))
