"""Drivers that die: at a chosen write, as a kill would end them: nothing is written afterwards; or between tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pyarrow as pa

from service.executors.base import Outcome
from service.executors.serial import SerialExecutor
from service.storage.backend import temporary
from service.storage.local import LocalDirectory

Moment = Literal["before", "within", "after"]


class Crash(BaseException):
    """Not an Exception, as a kill is none: nothing may handle it."""


class CrashingExecutor(SerialExecutor):
    """Ends the driver abruptly after some tasks."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def wait(self, timeout_s: float) -> list[Outcome]:
        if self.left == 0:
            raise Crash
        self.left -= 1
        return super().wait(timeout_s)


class CrashingDirectory(LocalDirectory):
    """Counts changes to files: with ``crash_in`` set, that many more are made, and the next one crashes."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.crash_in: int | None = None
        self.moment: Moment = "before"
        self.dead = False

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        def part() -> None:
            super(CrashingDirectory, self).write(
                temporary(name), bytes(content)[: len(bytes(content)) // 2], durable=False
            )

        self._change(lambda: super(CrashingDirectory, self).write(name, content, durable=False), part)

    def open_output(self, name: str) -> pa.NativeFile:
        if self.dead:
            raise Crash
        return super().open_output(name)

    def move(self, name: str, to: str) -> None:
        self._change(lambda: super(CrashingDirectory, self).move(name, to))

    def delete(self, name: str) -> None:
        self._change(lambda: super(CrashingDirectory, self).delete(name))

    def _change(self, whole: Callable[[], None], part: Callable[[], None] = lambda: None) -> None:
        if self.dead:
            raise Crash
        if self.crash_in is None or self.crash_in > 0:
            whole()
            self.crash_in = None if self.crash_in is None else self.crash_in - 1
            return
        self.dead = True
        if self.moment == "within":
            part()
        elif self.moment == "after":
            whole()
        raise Crash
