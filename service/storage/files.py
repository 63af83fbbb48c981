"""The files of a study, wherever they lie: every operation is tried again with growing delays before it fails."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from service.errors import StorageError, StudyError
from service.storage.backend import TEMPORARY, Backend, temporary
from service.storage.fence import Check, Fenced
from service.storage.limited import NoAnswerError, Operation
from service.storage.local import LocalDirectory
from service.storage.object_store import ObjectStore

T = TypeVar("T")
RetryListener = Callable[[str, OSError, float], None]  # what was tried, the error, the seconds until the next try
TRIES, FIRST_DELAY_S = 7, 0.25
LIMIT_S = 60.0  # for one try
# What does not pass by itself, and is not tried again.
PERMANENT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
BACKENDS: dict[str, Callable[[str], Backend]] = {"": LocalDirectory, "file": LocalDirectory}  # by the URI's scheme


def open_storage(uri: str | os.PathLike[str], *, tries: int = TRIES, first_delay_s: float = FIRST_DELAY_S) -> Storage:
    """The files below a directory or a URI; pyarrow knows the schemes that :data:`BACKENDS` does not name.

    Raises :class:`service.errors.StudyError` if there can be no such place. Whether it can be reached, the first
    operation tells.
    """
    text = os.fspath(uri)
    try:
        backend = BACKENDS.get(text.partition("://")[0] if "://" in text else "", ObjectStore)(text)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StudyError(
            f"storage {text!r}: cannot be opened ({error}); give a directory or a URI such as "
            "file:///data/studies, s3://bucket/studies or gs://bucket/studies"
        ) from None
    return Storage(backend, tries=tries, first_delay_s=first_delay_s)


def _tell_nobody(what: str, error: OSError, delay: float) -> None:
    """Where nobody wants to know of retries."""


class Storage:
    """The files below one root: what :class:`service.storage.backend.Backend` offers, tried again, and more.

    Each operation is tried ``tries`` times, with delays that double from ``first_delay_s`` seconds; then it raises
    :class:`service.errors.StorageError`. So it does at once where trying again is of no use (:data:`PERMANENT`). A file
    that is missing is a FileNotFoundError, at once.

    An operation that gives no answer for ``limit_s`` seconds counts as a try that has failed. It is not begun again as
    long as it hangs, because what was written twice could end in the wrong order: the next try goes on waiting for it.
    What is read from or written to an opened file is neither limited nor tried again.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        tries: int = TRIES,
        first_delay_s: float = FIRST_DELAY_S,
        limit_s: float = LIMIT_S,
        on_retry: RetryListener = _tell_nobody,
    ) -> None:
        self._backend = backend
        self._limit_s = limit_s
        self._tries, self._first_delay_s, self._on_retry = tries, first_delay_s, on_retry
        self.uri = backend.uri
        self.is_remote = backend.is_remote

    @property
    def creates_exclusively(self) -> bool:
        """See the backend's; an object store may find out with its first file that it does not."""
        return self._backend.creates_exclusively

    def fenced(self, check: Check) -> Storage:
        """The same files, where ``check`` is called before each change and keeps it from happening if it raises."""
        return self._like(Fenced(self._backend, check), self._tries, self._on_retry)

    def retrying(self, *, tries: int | None = None, on_retry: RetryListener | None = None) -> Storage:
        """The same files with another number of tries, or with a listener that is told before something is retried."""
        return self._like(self._backend, tries or self._tries, on_retry or self._on_retry)

    def child(self, name: str) -> Storage:
        """The files below the directory ``name``, without the listener."""
        return self._like(self._backend.child(name), self._tries, _tell_nobody)

    def read(self, name: str) -> bytes:
        return self._retry(f"read {name}", lambda: self._backend.read(name))

    def open(self, name: str) -> pa.NativeFile:
        """A file for reading, at any position. Reading from it is not tried again."""
        return self._retry(f"read {name}", lambda: self._backend.open_input(name))

    def write(self, name: str, content: bytes | pa.Buffer, durable: bool = True) -> None:
        self._retry(f"write {name}", lambda: self._backend.write(name, content, durable=durable), is_new=True)

    def swap(self, name: str, content: bytes, version: str) -> str:
        return self._retry(f"write {name}", lambda: self._backend.swap(name, content, version), is_new=True)

    def create(self, name: str, content: bytes) -> bool:
        return self._retry(f"create {name}", lambda: self._backend.create(name, content), is_new=True)

    @contextmanager
    def replacing(self, name: str) -> Iterator[pa.NativeFile]:
        """A stream for a large file that takes its place only when the block ends without an exception."""
        unfinished = temporary(name)
        try:
            with self._retry(f"write {name}", lambda: self._backend.open_output(unfinished), is_new=True) as file:
                yield file
            self.move(unfinished, name)
        except BaseException as error:
            with suppress(OSError):
                self._backend.delete(unfinished)
            # A full disk shows here, where writing is not tried again. Damaged input is an OSError without a number.
            if (
                isinstance(error, OSError)
                and not isinstance(error, StorageError | FileNotFoundError)
                and error.errno is not None
            ):
                raise StorageError(f"cannot write {name} in {self.uri}: {error}") from error
            raise

    def move(self, name: str, to: str) -> None:
        self._retry(f"move {name} to {to}", lambda: self._backend.move(name, to))

    def delete(self, name: str) -> None:
        self._retry(f"delete {name}", lambda: self._backend.delete(name))

    def exists(self, name: str) -> bool:
        return self._retry(f"look for {name}", lambda: self._backend.exists(name))

    def files(self, directory: str, suffix: str = "") -> list[str]:
        """The sorted paths of the files directly in ``directory``; none if there is no such directory."""
        names = self._retry(f"list {directory or self.uri}", lambda: self._backend.entries(directory)[0])
        return [
            f"{directory}/{name}".lstrip("/")
            for name in sorted(names)
            if name.endswith(suffix) and not name.endswith(TEMPORARY)
        ]

    def directories(self, directory: str = "") -> list[str]:
        """The sorted names of the directories directly in ``directory``."""
        return sorted(self._retry(f"list {directory or self.uri}", lambda: self._backend.entries(directory)[1]))

    def nearest_directory(self) -> Path | None:
        return self._backend.nearest_directory()

    def remove_empty(self, keep: Path | None) -> None:
        self._backend.remove_empty(keep)

    def _like(self, backend: Backend, tries: int, on_retry: RetryListener) -> Storage:
        """Other files, with the delays and the limit of these."""
        return Storage(
            backend, tries=tries, first_delay_s=self._first_delay_s, limit_s=self._limit_s, on_retry=on_retry
        )

    def _retry(self, what: str, operation: Callable[[], T], *, is_new: bool = False) -> T:
        """Where a new file is written, what is missing is its directory, which another process has just removed."""
        tries, begun = 0, Operation(operation)
        while True:
            try:
                return begun.result(self._limit_s)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not is_new:
                    raise
                if error.errno in PERMANENT:
                    raise StorageError(f"cannot {what} in {self.uri}: {error}") from error
                tries += 1
                if tries == self._tries:
                    raise StorageError(f"cannot {what} in {self.uri} after {tries} tries: {error}") from error
                if isinstance(error, NoAnswerError):
                    self._on_retry(what, error, 0.0)
                    continue
                delay = self._first_delay_s * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
                self._on_retry(what, error, delay)
                time.sleep(delay)
                begun = Operation(operation)
