"""Operations in threads of their own: what they give, and that one which never ends keeps nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.storage.limited import NoAnswerError, Operation


def test_what_is_returned_and_what_is_raised() -> None:
    def fails() -> None:
        raise KeyboardInterrupt

    assert Operation(lambda: 7).result(60.0) == 7
    with pytest.raises(KeyboardInterrupt):
        Operation(fails).result(60.0)


def test_one_that_ends_late_is_waited_for_again() -> None:
    gate = threading.Event()
    operation = Operation(gate.wait)
    with pytest.raises(NoAnswerError, match=r"^no answer for 0\.01 s$"):
        operation.result(0.01)
    gate.set()
    assert operation.result(60.0) is True


def test_threads_are_used_again() -> None:
    before = {Operation(threading.get_ident).result(60.0) for _ in range(50)}
    assert len(before) <= 2, "the thread is idle before its operation's result is known"


def test_a_process_ends_though_an_operation_hangs() -> None:
    program = (
        "import threading\n"
        "from service.storage.limited import Operation\n"
        "try:\n"
        "    Operation(threading.Event().wait).result(0.01)\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "no answer for 0.01 s\n"
