"""Whole files below one root: a local or NFS directory, or an object store, by way of ``pyarrow.fs``.

Every write is atomic: a temporary name and a rename on file systems, one PUT on object stores. Every operation is
retried with backoff; one that goes on failing raises :class:`service.errors.StorageError`.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from service.errors import StorageError, StudyError

T = TypeVar("T")
RetryListener = Callable[[str, OSError, float], None]  # what was tried, the error, the seconds until the next try


class Storage:
    """The files of one study. Paths are relative to the root, with ``/``."""

    def __init__(self, uri: str | os.PathLike[str], tries: int = 7, first_delay_s: float = 0.25) -> None:
        self.uri = os.fspath(uri)
        self.filesystem, self.root = _open(self.uri)
        self.is_local = isinstance(self.filesystem, fs.LocalFileSystem)
        self.on_retry: RetryListener = lambda what, error, delay: None
        self._tries = tries
        self._first_delay_s = first_delay_s

    def path(self, name: str) -> str:
        """The path of ``name`` within :attr:`filesystem`."""
        return f"{self.root}/{name}" if name else self.root

    def child(self, name: str) -> Storage:
        """The storage below the directory ``name``."""
        base, query, rest = self.uri.partition("?")
        return Storage(f"{base.rstrip('/')}/{name}{query}{rest}", self._tries, self._first_delay_s)

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError."""

        def read() -> bytes:
            with self.filesystem.open_input_stream(self.path(name)) as file:
                content: bytes = file.read()
            return content

        return self.retry(f"read {name}", read)

    def read_json(self, name: str) -> Any:
        """The content of a JSON file; raises FileNotFoundError."""
        return json.loads(self.read(name))

    def write(self, name: str, content: bytes | pa.Buffer, durable: bool = True) -> None:
        """Put ``content`` in place in one step, on disk for good if ``durable``."""
        self.retry(f"write {name}", lambda: self._write(name, content, durable))

    def write_json(self, name: str, values: object, durable: bool = True) -> None:
        """Put a JSON file in place in one step."""
        self.write(name, json.dumps(values, indent=1).encode(), durable)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that must not exist yet; False if it does. On object stores check and write are two steps."""
        if not self.is_local:
            if self.exists(name):
                return False
            self.write(name, content)
            return True
        temporary = self._temporary(name)
        self._write_local(temporary, content, durable=True)
        try:
            os.link(temporary, self.path(name))
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        return True

    @contextmanager
    def replacing(self, name: str) -> Iterator[pa.NativeFile]:
        """A stream for a large file that takes its place only when the block ends without an exception."""
        temporary = self._temporary(name)
        self.filesystem.create_dir(os.path.dirname(temporary))
        try:
            with self.filesystem.open_output_stream(temporary) as file:
                yield file
            self.retry(f"write {name}", lambda: self.filesystem.move(temporary, self.path(name)))
        except BaseException:
            if self.filesystem.get_file_info(temporary).type == fs.FileType.File:
                self.filesystem.delete_file(temporary)
            raise

    def move(self, name: str, to: str) -> None:
        """Rename a file."""

        def move() -> None:
            self.filesystem.create_dir(os.path.dirname(self.path(to)))
            self.filesystem.move(self.path(name), self.path(to))

        self.retry(f"move {name}", move)

    def delete(self, name: str) -> None:
        """Delete a file; none there is fine."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(self.path(name))

        self.retry(f"delete {name}", delete)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        info = self.retry(f"look for {name}", lambda: self.filesystem.get_file_info(self.path(name)))
        return bool(info.type == fs.FileType.File)

    def files(self, directory: str, suffix: str = "") -> list[str]:
        """The sorted paths of the files directly in ``directory``; none if there is no such directory."""
        return [
            f"{directory}/{name}".lstrip("/")
            for name in self._names(directory, fs.FileType.File)
            if name.endswith(suffix) and not name.endswith(".tmp")
        ]

    def directories(self, directory: str = "") -> list[str]:
        """The sorted names of the directories directly in ``directory``."""
        return self._names(directory, fs.FileType.Directory)

    def retry(self, what: str, operation: Callable[[], T]) -> T:
        """The result of ``operation``, tried again with growing delays after any OSError but a missing file."""
        for number in range(self._tries):
            try:
                return operation()
            except FileNotFoundError:
                raise
            except OSError as error:
                if number + 1 == self._tries:
                    raise StorageError(f"cannot {what} in {self.uri} after {self._tries} tries: {error}") from error
                delay = self._first_delay_s * 2**number * random.uniform(0.75, 1.25)
                self.on_retry(what, error, delay)
                time.sleep(delay)
        raise AssertionError("unreachable")

    def _names(self, directory: str, kind: fs.FileType) -> list[str]:
        selector = fs.FileSelector(self.path(directory), allow_not_found=True)
        found = self.retry(f"list {directory or self.uri}", lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == kind)

    def _write(self, name: str, content: bytes | pa.Buffer, durable: bool) -> None:
        if self.is_local:
            temporary = self._temporary(name)
            try:
                self._write_local(temporary, content, durable)
                os.replace(temporary, self.path(name))
            except OSError:
                if os.path.exists(temporary):
                    os.unlink(temporary)
                raise
        else:
            with self.filesystem.open_output_stream(self.path(name)) as file:
                file.write(content)

    def _write_local(self, path: str, content: bytes | pa.Buffer, durable: bool) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def _temporary(self, name: str) -> str:
        return f"{self.path(name)}.{uuid.uuid4().hex[:8]}.tmp"


def _open(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the root path that ``uri`` names."""
    try:
        if "://" not in uri:
            return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
        filesystem, root = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StudyError(
            f"storage {uri!r}: cannot be opened ({error}); give a directory or a URI such as "
            "file:///data/studies, s3://bucket/studies or gs://bucket/studies"
        ) from None
    return filesystem, root.rstrip("/")
