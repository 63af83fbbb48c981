"""Checkpoint files: the state of a pack in training and the points so far, with a checksum over all of it.

A file is a ZIP archive. Its comment is the SHA-256, in hexadecimal, of the file's name and of all bytes before the
comment: it shows damage, and that a file stands in another pack's place.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.errors import DamagedFileError
from service.spec.plan import PlannedRun
from service.spec.study_spec import digest

if TYPE_CHECKING:
    from trainers.records import Checkpoint

Points = dict[str, list[Any]]
_LENGTH = 64  # of the checksum, which ends the file


def checkpoint_name(runs: Sequence[PlannedRun]) -> str:
    """The checkpoint file of a pack: the same for every attempt at the same runs."""
    return f"checkpoints/{digest([run.run_id for run in runs])[:20]}.zip"


def packed(name: str, checkpoint: Checkpoint, points: Points) -> bytes:
    """The content of the file ``name``."""
    from trainers.checkpoint import dumps

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.comment = b"0" * _LENGTH
        archive.writestr("points.json", json.dumps(points))
        archive.writestr("checkpoint.safetensors", dumps(checkpoint))
    before = content.getvalue()[:-_LENGTH]
    return before + _checksum(name, before)


def unpacked(name: str, content: bytes) -> tuple[Checkpoint, Points]:
    """The checkpoint in the file ``name``, and the points; raises DamagedFileError."""
    from trainers.checkpoint import loads

    is_checked(name, content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return loads(archive.read("checkpoint.safetensors")), json.loads(archive.read("points.json"))
    except Exception as error:  # a damaged archive of an earlier version, without a checksum, may raise anything
        raise DamagedFileError(name, f"{type(error).__name__}: {error}") from error


def is_checked(name: str, content: bytes) -> bool:
    """Whether a checkpoint has a checksum: one of an earlier version has none.

    Raises DamagedFileError if the content does not fit its checksum and name, or is no archive.
    """
    if not (content[-22:-18] == b"PK\x05\x06" and content[-2:] == b"\0\0"):  # that is, it has no comment
        if content[-_LENGTH:] != _checksum(name, content[:-_LENGTH]):
            raise DamagedFileError(name, "its content does not fit its checksum, or it is another pack's")
        return True
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None or not {"points.json", "checkpoint.safetensors"} <= {*archive.namelist()}:
                raise DamagedFileError(name, "it is no whole archive")
    except DamagedFileError:
        raise
    except Exception as error:  # see above
        raise DamagedFileError(name, f"{type(error).__name__}: {error}") from error
    return False


def _checksum(name: str, before: bytes) -> bytes:
    return hashlib.sha256(name.encode() + before).hexdigest().encode()
