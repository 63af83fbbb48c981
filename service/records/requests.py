"""What is asked of a study's driver by others: one file below ``control/`` for each request, until it is taken."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from service.errors import StudyError
from service.records.manifest import MANIFEST, Manifest
from service.spec.study_spec import StudySpec
from service.storage.files import Storage, open_storage
from trainers.errors import quoted

Action = Literal["pause", "resume", "cancel", "retry", "extend"]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Something that a driver is asked to do."""

    action: Action
    configurations: int = 0  # for "extend": how many the study shall have in all


def request(uri: str, action: Action, **arguments: Any) -> None:
    """Ask the study's driver, or its next one, for something. ``extend`` takes ``configurations=N``.

    Raises :class:`StudyError`, and asks for nothing, where no driver could do it.
    """
    if action not in ACTIONS:
        raise StudyError(f"request {action!r}: must be one of {', '.join(ACTIONS)}")
    storage = open_storage(uri)
    manifest = Manifest.load(storage)
    if action == "extend":
        wanted, present = arguments.get("configurations"), manifest.configurations
        if not isinstance(wanted, int) or wanted < present:
            raise StudyError(
                f"configurations = {quoted(wanted)}: must be a whole number, at least the study's {present}"
            )
        spec = StudySpec.from_dict(manifest.spec, where=f"{uri}/{MANIFEST}")
        dataclasses.replace(spec, configurations=wanted)  # raises where no study can have so many
    name = f"control/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    storage.write_json(name, {"action": action, "from": f"{socket.gethostname()}:{os.getpid()}", **arguments})


def take_requests(storage: Storage) -> Generator[Request, None, None]:
    """The requests that wait, oldest first. What is no request is passed over.

    The file of a request is deleted when the next one is asked for, so that a request is not lost with a driver that
    dies while it carries it out. The next driver may then carry it out a second time, which changes nothing more.
    """
    for path in storage.files("control", ".json"):
        try:
            values = storage.read_json(path)
            taken = Request(action=values["action"], configurations=int(values.get("configurations", 0)))
        except (FileNotFoundError, ValueError, OverflowError, TypeError, KeyError, AttributeError):
            taken = None
        if taken is not None and taken.action in ACTIONS:
            yield taken
        storage.delete(path)
