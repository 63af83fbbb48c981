"""Checks Parquet files against the checksum that they carry, before a value is taken from them.

The footer of a file has, among the metadata of its schema, the key ``t1t2_sha256``. The value is the SHA-256, in
hexadecimal, of all the file's bytes, where 64 zeros stand for the value itself. The key ``t1t2_frame`` has the SHA-256
of all page headers and then of the footer, where zeros stand for both values: that is all but the content of pages,
which have checksums of Parquet's own. Where the headers lie is told by the key ``t1t2_headers``: for each, the bytes
since the one before, and its length. The service writes all three in ``service/ledger/checksums.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

CHECKSUM_KEY = b"t1t2_sha256"
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what pyarrow raises when it reads a damaged file
_BLANK = b"0" * 64
_BLOCK = 1 << 20
# As Thrift's compact protocol writes a text: its length, in bytes of which all but the last are above 127; then itself.
_CHECKSUM = re.compile(re.escape(CHECKSUM_KEY) + rb"\x18\x40([0-9a-f]{64})")
_FRAME = re.compile(rb"t1t2_frame\x18\x40([0-9a-f]{64})")
_HEADERS = re.compile(rb"t1t2_headers\x18[\x80-\xff]*[\x00-\x7f]((?:\d+:\d+,)*)")


def damage(
    source: pa.NativeFile, study_hash: str | None, path: str, has_checksum: bool, frame_alone: bool = False
) -> str | None:
    """What is wrong with a Parquet file, in words; None if nothing is.

    All its bytes must fit its checksum; it must be of the study with ``study_hash`` (where that is known), and belong
    at ``path`` within it. Of a file without a checksum, written before there were any, the footer must be readable. It
    is damaged if ``has_checksum`` says that it was written with one.

    With ``frame_alone`` all is checked but the content of pages, in a fraction of the time: whoever reads them must
    verify the checksum of each.
    """
    try:
        is_checked = _is_checked(source, frame_alone)
        source.seek(0)
        schema = pq.ParquetFile(source).schema_arrow
    except FileNotFoundError:
        raise
    except (*UNREADABLE, ValueError) as error:
        return " ".join(f"{error or type(error).__name__}".split())
    metadata = schema.metadata or {}
    if not is_checked:
        return "its checksum is missing" if has_checksum or CHECKSUM_KEY in metadata else None
    origin, place = (metadata.get(key, b"").decode(errors="replace") for key in (b"study_hash", b"file"))
    if study_hash is not None and origin != study_hash:
        return "it belongs to another study"
    return None if place == path else f"it was written as {place}"


def _is_checked(source: pa.NativeFile, frame_alone: bool) -> bool:
    """Whether a file has a checksum; raises ValueError if its content does not fit it."""
    size = source.size()
    end = _read(source, max(0, size - 8), size)
    if size < 12 or end[4:] != b"PAR1":
        raise ValueError("it is no whole Parquet file" if size else "it is empty")
    length = int.from_bytes(end[:4], "little") + 8
    if length > size:
        raise ValueError("its footer is not whole")
    footer = _read(source, size - length, size)
    found = list(_CHECKSUM.finditer(footer))
    if not found:
        if CHECKSUM_KEY in footer:
            raise ValueError("its checksum cannot be read")
        return False
    frames, headers = list(_FRAME.finditer(footer)), list(_HEADERS.finditer(footer))
    if frame_alone and headers and frames and frames[-1].group(1) != _BLANK:
        own = _hash_of_headers(source, headers[-1].group(1))
        for match in sorted((found[-1], frames[-1]), key=lambda match: match.start()):
            footer = footer[: match.start(1)] + _BLANK + footer[match.end(1) :]
        own.update(footer)
        if own.hexdigest().encode() != frames[-1].group(1):
            raise ValueError("its content does not fit its checksum")
        return True
    start = size - length + found[-1].start(1)
    own = hashlib.sha256()
    for block in _blocks(source, 0, start):
        own.update(block)
    own.update(_BLANK)
    for block in _blocks(source, start + len(_BLANK), size):
        own.update(block)
    if own.hexdigest().encode() != found[-1].group(1):
        raise ValueError("its content does not fit its checksum")
    return True


def _hash_of_headers(source: pa.NativeFile, places: bytes) -> hashlib._Hash:
    """The hash of all page headers; where they lie may be wrong, for the caller compares the hash with the file's."""
    own = hashlib.sha256()
    at = 0
    for place in places.split(b",")[:-1]:
        gap, length = place.split(b":")
        at += int(gap)
        own.update(source.read_at(int(length), at))
        at += int(length)
    return own


def _read(source: pa.NativeFile, start: int, stop: int) -> bytes:
    return b"".join(_blocks(source, start, stop))


def _blocks(source: pa.NativeFile, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from ``start`` to ``stop``, a block at a time."""
    source.seek(start)
    while start < stop:
        block = source.read(min(_BLOCK, stop - start))
        if not block:
            raise ValueError("it ends before its end")
        start += len(block)
        yield block
