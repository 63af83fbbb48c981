"""What the service asks of a place that holds files. A new kind of place is one class with these methods."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Protocol

import pyarrow as pa

TEMPORARY = ".tmp"  # the ending of files that are being written; no listing shows them


class Backend(Protocol):
    """Whole files below one root, each try of an operation by itself.

    A name is a path relative to the root, with ``/`` between its parts. A file that is missing is a FileNotFoundError.
    Any other OSError may pass: :class:`service.storage.files.Storage` tries again.
    """

    uri: str  # the root, as users write it
    is_remote: bool  # whether an operation mostly waits, so that few large ones are quicker than many small ones

    @property
    def creates_exclusively(self) -> bool:
        """Whether one alone of several simultaneous calls of :meth:`create` is told True."""

    def child(self, name: str) -> Backend:
        """The files below the directory ``name``."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        """Put a file in place in one step: readers see the old or the new one. ``durable``: it outlives a power cut."""

    def swap(self, name: str, content: bytes, version: str) -> str:
        """Put a file in place if it is still the ``version`` that the last call returned; returns the new version.

        Raises :class:`service.errors.FileChangedError` if it is another. ``""`` is whatever is there, and what a place
        returns that cannot tell versions apart.
        """

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that must not exist yet; False if it does."""

    def open_input(self, name: str) -> pa.NativeFile:
        """A file for reading, at any position."""

    def open_output(self, name: str) -> pa.NativeFile:
        """A file for writing, which may be seen half written: callers choose a :func:`temporary` name and move it."""

    def move(self, name: str, to: str) -> None:
        """Rename a file; one that already has the name ``to`` is replaced in one step."""

    def delete(self, name: str) -> None:
        """Delete a file; none there is fine."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def entries(self, directory: str) -> tuple[list[str], list[str]]:
        """The names of the files and of the directories directly in ``directory``; none if it is not there."""

    def nearest_directory(self) -> Path | None:
        """The directory that is the root or the nearest one above it; None where directories are but parts of names."""

    def remove_empty(self, keep: Path | None) -> None:
        """Remove the root if no file is below it, and the empty directories above it, up to ``keep``, which stays."""


def temporary(name: str) -> str:
    """A new name for the file that is to become ``name``."""
    return f"{name}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
