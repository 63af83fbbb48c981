"""Operations that may never end: each runs in a thread of its own, so that whoever waits for it can stop waiting.

A mount whose server is gone holds a system call for ever, and nothing can end it. The threads are daemons, kept for the
next operation when theirs has ended; a process can end though one of them hangs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NoAnswerError(OSError):
    """An operation has not ended in time. It may yet."""


class Operation(Generic[T]):
    """``action`` in another thread, begun at once."""

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._ended = threading.Lock()  # held until it has ended; cheaper than an Event
        self._ended.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None
        try:
            helper = _idle.pop()
        except IndexError:
            helper = _new_helper()
        helper.put(self)

    def result(self, limit_s: float) -> T:
        """What ``action`` has returned or raised; NoAnswerError if it has not ended after another ``limit_s``."""
        if not self._ended.acquire(timeout=limit_s):
            raise NoAnswerError(f"no answer for {limit_s:g} s")
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # None only where T allows it

    def run(self) -> None:
        """Do it; called by its thread."""
        try:
            self._result = self._action()
        except BaseException as error:  # whoever waits raises it
            self._error = error

    def end(self) -> None:
        """Let whoever waits go on; called by its thread."""
        self._ended.release()


Helper = SimpleQueue[Operation[Any]]  # what a thread is told to do
_idle: list[Helper] = []
os.register_at_fork(after_in_child=_idle.clear)  # a child process has none of the threads


def _new_helper() -> Helper:
    operations: Helper = SimpleQueue()
    threading.Thread(target=_work, args=(operations,), name="storage", daemon=True).start()
    return operations


def _work(operations: Helper) -> None:
    while True:
        operation = operations.get()
        operation.run()
        _idle.append(operations)
        operation.end()
        del operation  # what it has returned may be large
