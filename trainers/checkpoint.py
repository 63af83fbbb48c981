"""Checkpoints as bytes, in the safetensors format: tensors and plain text, never pickled objects."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch

from trainers.errors import ConfigError, quoted
from trainers.records import Checkpoint

VERSION = "1"


def dumps(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes for any store."""
    metadata = {"version": VERSION, "step": str(checkpoint.step)}
    return safetensors.torch.save({name: t.contiguous() for name, t in checkpoint.tensors.items()}, metadata)


def loads(data: bytes) -> Checkpoint:
    """The checkpoint that :func:`dumps` made. Raises :class:`ConfigError` where the bytes are not a whole one."""
    try:
        tensors = safetensors.torch.load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        version, step = metadata["version"], int(metadata["step"])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ConfigError(
            f"checkpoint of {len(data)} bytes: must be a whole one written by this package ({error})"
        ) from None
    if version != VERSION:
        raise ConfigError(f"checkpoint version = {quoted(version)}: must be {VERSION!r}")
    return Checkpoint(step, tensors)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a file atomically: it holds the old checkpoint or the new one, whenever the process dies."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(dumps(checkpoint))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path) -> Checkpoint:
    """The checkpoint in a file."""
    return loads(path.read_bytes())
