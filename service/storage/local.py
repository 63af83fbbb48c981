"""A directory on a disk or on NFS."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from service.storage.backend import temporary


class LocalDirectory:
    """Files below ``uri``, a path or a ``file://`` URI. A new file is written under another name and then renamed."""

    is_remote = False
    creates_exclusively = True

    def __init__(self, uri: str) -> None:
        self.uri = uri
        path = fs.FileSystem.from_uri(uri)[1] if "://" in uri else os.path.expanduser(uri)
        self._root = os.path.abspath(path)

    def child(self, name: str) -> LocalDirectory:
        return LocalDirectory(f"{self.uri.rstrip('/')}/{quote(name) if '://' in self.uri else name}")

    def read(self, name: str) -> bytes:
        with open(self._path(name), "rb") as file:
            return file.read()

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        path = self._path(name)
        unfinished = temporary(path)
        try:
            self._write(unfinished, content, durable)
            os.replace(unfinished, path)
        except OSError:
            with suppress(OSError):
                os.unlink(unfinished)
            raise

    def swap(self, name: str, content: bytes, version: str) -> str:
        self.write(name, content, durable=False)
        return ""

    def create(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        unfinished = temporary(path)
        self._write(unfinished, content, durable=True)
        try:
            os.link(unfinished, path)  # a rename would replace the other file
        except FileExistsError:
            return False
        finally:
            os.unlink(unfinished)
        return True

    def open_input(self, name: str) -> pa.NativeFile:
        return pa.OSFile(self._path(name), "rb")

    def open_output(self, name: str) -> pa.NativeFile:
        path = self._path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return pa.OSFile(path, "wb")

    def move(self, name: str, to: str) -> None:
        os.makedirs(os.path.dirname(self._path(to)), exist_ok=True)
        os.replace(self._path(name), self._path(to))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def exists(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(self._path(name)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def entries(self, directory: str) -> tuple[list[str], list[str]]:
        try:
            with os.scandir(self._path(directory)) as found:
                entries = list(found)
        except FileNotFoundError:
            return [], []
        return [entry.name for entry in entries if entry.is_file()], [entry.name for entry in entries if entry.is_dir()]

    def nearest_directory(self) -> Path:
        root = Path(self._root)
        return next(path for path in (root, *root.parents) if path.is_dir())

    def remove_empty(self, keep: Path | None) -> None:
        if any(files for _, _, files in os.walk(self._root)):
            return
        root = Path(self._root)
        inside = [Path(directory) for directory, _, _ in os.walk(root, topdown=False)]
        above = [path for path in root.parents if keep in path.parents]
        for path in (*(path for path in inside if path != keep), *above):
            with suppress(OSError):  # never made, or somebody else has just written there
                path.rmdir()

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _write(self, path: str, content: bytes | pa.Buffer, durable: bool) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
