"""What is asked of a study's driver by others: one file below ``control/`` for each request, until it is taken."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from service.errors import StudyError
from service.records.manifest import Manifest
from service.records.typed_json import parse
from service.storage.checked_json import dumps_checked
from service.storage.files import Storage, open_storage
from trainers.errors import quoted

Action = Literal["pause", "resume", "cancel", "retry", "extend"]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Something that a driver is asked to do."""

    action: Action
    configurations: int = 0  # for "extend": how many the study shall have in all
    study_hash: str = ""  # of the study that is asked; "" where the request does not tell

    def __post_init__(self) -> None:
        if self.action == "extend" and self.configurations < 1:
            raise ValueError("extend: must say how many configurations")


def request(uri: str, action: Action, **arguments: Any) -> None:
    """Ask the study's driver, or its next one, for something. ``extend`` takes ``configurations=N``.

    Raises :class:`StudyError`, and asks for nothing, where no driver could do it.
    """
    if action not in ACTIONS:
        raise StudyError(f"request {action!r}: must be one of {', '.join(ACTIONS)}")
    storage = open_storage(uri)
    manifest = Manifest.load(storage)
    manifest.check_trainable(uri)
    if action == "extend":
        wanted, present = arguments.get("configurations"), manifest.configurations
        if not isinstance(wanted, int) or wanted < present:
            raise StudyError(
                f"configurations = {quoted(wanted)}: must be a whole number, at least the study's {present}"
            )
        dataclasses.replace(manifest.study_spec(uri), configurations=wanted)  # raises where no study can have so many
    name = f"control/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    asked = {"action": action, "from": f"{socket.gethostname()}:{os.getpid()}", "study_hash": manifest.study_hash}
    storage.write(name, dumps_checked({**asked, **arguments}, indent=1))


def take_requests(
    storage: Storage, study_hash: str, on_ignored: Callable[[str], None] = lambda why: None
) -> Generator[Request, None, None]:
    """The requests that wait, oldest first. What is no request to the study ``study_hash`` is deleted and told.

    The file of a request is deleted when the next one is asked for, so that a request is not lost with a driver that
    dies while it carries it out. The next driver may then carry it out a second time, which changes nothing more.
    """
    for path in storage.files("control", ".json"):
        try:
            taken = parse(Request, storage.read(path), path)
            if taken.study_hash not in ("", study_hash):
                raise StudyError(f"{path}: asks something of another study")
        except FileNotFoundError:
            continue
        except StudyError as error:
            on_ignored(str(error))
        else:
            yield taken
        storage.delete(path)
