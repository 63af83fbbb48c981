"""A fence around a study's files: nothing is changed unless the driver that asks for it still holds the study."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from service.storage.backend import TEMPORARY, Backend, temporary

Check = Callable[[], None]


class Fenced:
    """A backend that calls ``check`` right before it changes a file; what that raises keeps the change from happening.

    It stands below the retries of :class:`service.storage.files.Storage`, so each try is checked by itself. A process
    can still be stopped between the check and the change: on a disk, where a new file is renamed into place, only
    between two system calls; elsewhere, for as long as a request takes.
    """

    def __init__(self, backend: Backend, check: Check) -> None:
        self._backend, self._check = backend, check
        self.uri = backend.uri
        self.is_remote = backend.is_remote

    @property
    def creates_exclusively(self) -> bool:
        """As the backend within."""
        return self._backend.creates_exclusively

    def child(self, name: str) -> Fenced:
        """The files below the directory ``name``, behind the same fence."""
        return Fenced(self._backend.child(name), self._check)

    def read(self, name: str) -> bytes:
        """Unchecked, as all that only reads."""
        return self._backend.read(name)

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        """Checked; on a disk once more when the content is written and the name is not yet taken."""
        self._check()
        if self._backend.is_remote:
            self._backend.write(name, content, durable=durable)
            return
        unfinished = temporary(name)
        try:
            self._backend.write(unfinished, content, durable=durable)
            self.move(unfinished, name)
        except BaseException:
            with suppress(OSError):
                self._backend.delete(unfinished)
            raise

    def swap(self, name: str, content: bytes, version: str) -> str:
        """Checked."""
        self._check()
        return self._backend.swap(name, content, version)

    def create(self, name: str, content: bytes) -> bool:
        """Checked."""
        self._check()
        return self._backend.create(name, content)

    def open_input(self, name: str) -> pa.NativeFile:
        """Unchecked."""
        return self._backend.open_input(name)

    def open_output(self, name: str) -> pa.NativeFile:
        """Checked; the move to its place is checked again."""
        self._check()
        return self._backend.open_output(name)

    def move(self, name: str, to: str) -> None:
        """Checked."""
        self._check()
        self._backend.move(name, to)

    def delete(self, name: str) -> None:
        """Checked, but for unfinished files, which are this process's own and must go in any case."""
        if not name.endswith(TEMPORARY):
            self._check()
        self._backend.delete(name)

    def exists(self, name: str) -> bool:
        """Unchecked."""
        return self._backend.exists(name)

    def entries(self, directory: str) -> tuple[list[str], list[str]]:
        """Unchecked."""
        return self._backend.entries(directory)

    def nearest_directory(self) -> Path | None:
        """As the backend within."""
        return self._backend.nearest_directory()

    def remove_empty(self, keep: Path | None) -> None:
        """Checked."""
        self._check()
        self._backend.remove_empty(keep)
