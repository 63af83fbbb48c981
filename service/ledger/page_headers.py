"""The headers of a Parquet file's pages, which the pages' own checksums do not cover.

A header is a structure in Thrift's compact protocol.
"""

from __future__ import annotations

_COMPRESSED_SIZE = 3  # the number of the field that says how long the page is that follows
_STRUCT = 12


def page_header(data: bytes, at: int) -> tuple[int, int]:
    """Where the header ends that begins at ``at``, and the length of its page; raises IndexError if it is cut off."""
    size = field = 0
    while data[at]:
        head, at = data[at], at + 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _varint(data, at)
        if field == _COMPRESSED_SIZE:
            number, at = _varint(data, at)
            size = number >> 1  # zigzag; a length is not negative
        else:
            at = _after(data, at, head & 15)
    return at + 1, size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


def _after(data: bytes, at: int, kind: int) -> int:
    """Where the value of this kind ends; headers hold truth values, bytes, integers, texts and structures."""
    if kind in (1, 2):  # the kind is the value
        return at
    if kind == 3:
        return at + 1
    if kind in (4, 5, 6):
        return _varint(data, at)[1]
    if kind == 8:
        length, at = _varint(data, at)
        return at + length
    if kind != _STRUCT:
        raise ValueError(f"a page's header holds a value of the unknown kind {kind}")
    while data[at]:
        head, at = data[at], at + 1
        if not head >> 4:
            at = _varint(data, at)[1]
        at = _after(data, at, head & 15)
    return at + 1
