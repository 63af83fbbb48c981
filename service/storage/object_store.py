"""An object store, by way of ``pyarrow.fs``: S3, Google Cloud Storage, or whatever else its URIs name."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from service.storage.conditional import NotConditionalError, conditional_writes


class ObjectStore:
    """Objects below ``uri``, a bucket and a prefix. One PUT replaces an object in one step."""

    is_remote = True

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._filesystem, root = fs.FileSystem.from_uri(uri)
        self._root = root.rstrip("/")
        self._conditional = conditional_writes(uri, getattr(self._filesystem, "region", ""))

    @property
    def creates_exclusively(self) -> bool:
        """Only by conditional writes; without them, looking for an object and writing it are two requests."""
        return self._conditional is not None

    def child(self, name: str) -> ObjectStore:
        base, query, options = self.uri.partition("?")
        return ObjectStore(f"{base.rstrip('/')}/{quote(name)}{query}{options}")

    def read(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(self._path(name)) as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        with self._filesystem.open_output_stream(self._path(name)) as file:
            file.write(content)

    def create(self, name: str, content: bytes) -> bool:
        if self.exists(name):
            return False
        if self._conditional is not None:
            try:
                return self._conditional.create(self._path(name), content)
            except NotConditionalError:
                self._conditional = None
        self.write(name, content, durable=True)
        return True

    def swap(self, name: str, content: bytes, version: str) -> str:
        if self._conditional is not None:
            try:
                return self._conditional.swap(self._path(name), content, version)
            except NotConditionalError:
                self._conditional = None
        self.write(name, content, durable=False)
        return ""

    def open_input(self, name: str) -> pa.NativeFile:
        return self._filesystem.open_input_file(self._path(name))

    def open_output(self, name: str) -> pa.NativeFile:
        self._make_parent(name)
        return self._filesystem.open_output_stream(self._path(name))

    def move(self, name: str, to: str) -> None:
        self._make_parent(to)
        try:
            self._filesystem.move(self._path(name), self._path(to))
        except OSError:
            if self.exists(name):
                raise
            if not self.exists(to):  # not every store says by itself that there is no such object
                raise FileNotFoundError(name) from None
            # This try or the one before has moved it; what failed came after the old name was deleted.

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.delete_file(self._path(name))

    def exists(self, name: str) -> bool:
        return bool(self._filesystem.get_file_info(self._path(name)).type == fs.FileType.File)

    def entries(self, directory: str) -> tuple[list[str], list[str]]:
        found = self._filesystem.get_file_info(fs.FileSelector(self._path(directory), allow_not_found=True))
        files = [info.base_name for info in found if info.type == fs.FileType.File]
        return files, [info.base_name for info in found if info.type == fs.FileType.Directory]

    def nearest_directory(self) -> None:
        return None

    def remove_empty(self, keep: object) -> None:
        """Nothing to remove: a prefix is only a part of names."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _make_parent(self, name: str) -> None:
        self._filesystem.create_dir(self._path(name).rpartition("/")[0])
