"""Studies that a test holds in their middle: a driver in another thread, and the wait until a study gets somewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service import StudyStatus, read_status
from service.errors import StudyNotFoundError
from tests.service.tickets import Tickets
from tests.service.toy_studies import run_toy

PATIENCE_S = 120.0
HELD: dict[str, Any] = {
    "trainer": "tests.service.toy:ticketed",
    "arms": ["initial", "online", "rerun"],
    "grid": {},
    "models": [{"hidden": [8]}],
}


@contextmanager
def driving(out: Path, tickets: Tickets, **changes: Any) -> Iterator[None]:
    """A driver, after the first run of a study and in the middle of the second; the block's end waits for its end."""
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            run_toy(out, **HELD, **changes)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=drive)
    tickets.give(1)
    thread.start()
    try:
        await_status(out, lambda status: status.total_done == 1)
        yield
    finally:
        tickets.open()
        thread.join()
    assert not failures, failures


def await_status(uri: Path | str, reached: Callable[[StudyStatus], object]) -> StudyStatus:
    """Wait until the study is there and ``reached`` is true of its status; that status."""
    end = time.monotonic() + PATIENCE_S
    found: object = "no study"
    while time.monotonic() < end:
        try:
            found = status = read_status(str(uri))
            if reached(status):
                return status
        except StudyNotFoundError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the study does not get there within {PATIENCE_S:.0f} s: {found}")
