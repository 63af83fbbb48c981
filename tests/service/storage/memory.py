"""A storage backend of the tests' own, as ``service/README.md`` says how to add one: files in a dictionary."""

from __future__ import annotations

import io
import threading

import pyarrow as pa


class Memory:
    """Files below ``uri``; those with the same ``files``, by their whole paths, see the same."""

    is_remote = False
    creates_exclusively = True

    def __init__(self, uri: str = "memory://", files: dict[str, bytes] | None = None) -> None:
        self.uri = uri
        self._files = {} if files is None else files
        self._lock = threading.Lock()

    def child(self, name: str) -> Memory:
        return Memory(self._path(name), self._files)

    def read(self, name: str) -> bytes:
        try:
            return self._files[self._path(name)]
        except KeyError:
            raise FileNotFoundError(name) from None

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        self._files[self._path(name)] = bytes(content)

    def swap(self, name: str, content: bytes, version: str) -> str:
        self.write(name, content, durable=False)
        return ""

    def create(self, name: str, content: bytes) -> bool:
        with self._lock:
            return self._files.setdefault(self._path(name), bytes(content)) is content

    def open_input(self, name: str) -> pa.NativeFile:
        return pa.BufferReader(self.read(name))

    def open_output(self, name: str) -> pa.NativeFile:
        return _Output(self, name)

    def move(self, name: str, to: str) -> None:
        self.write(to, self.read(name), durable=True)
        self.delete(name)

    def delete(self, name: str) -> None:
        self._files.pop(self._path(name), None)

    def exists(self, name: str) -> bool:
        return self._path(name) in self._files

    def entries(self, directory: str) -> tuple[list[str], list[str]]:
        start = f"{self._path(directory)}/"
        below = [path.removeprefix(start).split("/") for path in list(self._files) if path.startswith(start)]
        return [parts[0] for parts in below if len(parts) == 1], list({parts[0] for parts in below if len(parts) > 1})

    def nearest_directory(self) -> None:
        return None

    def remove_empty(self, keep: object) -> None:
        pass

    def _path(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}".rstrip("/")


class _Output(io.BytesIO):
    """Half written until it is closed, as a real one's file is."""

    def __init__(self, memory: Memory, name: str) -> None:
        super().__init__()
        self._memory, self._name = memory, name
        memory.write(name, b"", durable=False)

    def close(self) -> None:
        if not self.closed:
            self._memory.write(self._name, self.getvalue(), durable=False)
        super().close()
