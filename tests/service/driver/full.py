"""A directory on a disk that fills up: the ledger's files find no room, small ones still do."""

from __future__ import annotations

import errno
from typing import ClassVar

import pyarrow as pa

from service.storage.local import LocalDirectory


class FullDisk(LocalDirectory):
    """Takes ``room`` files of the ledger's, then no more, whoever opens it."""

    room: ClassVar[int] = 0

    def write(self, name: str, content: bytes | pa.Buffer, *, durable: bool) -> None:
        if name.startswith("ledger/"):
            if FullDisk.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device", name)
            FullDisk.room -= 1
        super().write(name, content, durable=durable)
