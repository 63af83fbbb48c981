"""Parquet files that carry a checksum of themselves, so that no damage to one passes for other values.

The footer of such a file has, among the metadata of its schema, the key ``t1t2_sha256``. The value is the SHA-256, in
hexadecimal, of all the file's bytes, where 64 zeros stand for the value itself. Parquet's own checksums, which are
written too, cover the content of pages alone: neither their headers nor the footer with its statistics. For these there
is the key ``t1t2_frame``: the SHA-256 of all page headers and then of the footer, where zeros stand for both values.
Where the headers lie is told by the key ``t1t2_headers``: for each, the bytes since the one before, and its length. Who
checks the frame, and each page as it is read, need not read the rest: the analysis does so.

``analysis/checksums.py`` checks the same, because the analysis does not import the service.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.errors import DamagedFileError, StorageError
from service.ledger.page_headers import page_header

CHECKSUM_KEY = b"t1t2_sha256"
FRAME_KEY = b"t1t2_frame"
HEADERS_KEY = b"t1t2_headers"
BLANK = b"0" * 64  # stands for the checksum while it is computed
BLOCK = 1 << 20
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what pyarrow raises when it reads a damaged file
_PREFIX = CHECKSUM_KEY + b"\x18\x40"  # in Thrift's compact protocol: the key, and a text of 64 characters to come
_CHECKSUM = re.compile(re.escape(_PREFIX) + rb"([0-9a-f]{64})")


class ChecksummedWriter:
    """Writes a Parquet file with its checksum to an Arrow stream; a context that closes the file, but not the stream.

    :attr:`sha256` is that of the whole file as ``sha256sum`` computes it, once it is closed.
    """

    def __init__(self, sink: pa.NativeFile, schema: pa.Schema, compression: str) -> None:
        self.sha256 = ""
        self._sink = _Sink(sink)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema.with_metadata({**(schema.metadata or {}), FRAME_KEY: BLANK, CHECKSUM_KEY: BLANK}),
            compression=compression,
            write_page_checksum=True,
        )

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows, which have the columns of the schema."""
        if isinstance(rows, pa.Table):
            self._writer.write_table(rows)
        else:
            self._writer.write_batch(rows)

    def __enter__(self) -> ChecksummedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.add_key_value_metadata({HEADERS_KEY: self._sink.places()})
        self._sink.is_closing = True
        self._writer.close()
        if error is None:
            self.sha256 = self._sink.finish()


class _Sink:
    """A Python file object that hashes what it passes on, and holds the footer back until the checksum is known."""

    closed = False

    def __init__(self, sink: pa.NativeFile) -> None:
        self.is_closing = False
        self._sink = sink
        self._hash = hashlib.sha256()
        self._frame = hashlib.sha256()
        self._headers: list[str] = []
        self._told = 0  # of them, in the footer
        self._after_header = 0  # where the last header ended
        self._is_framed = True  # whether all headers are known
        self._rest = len(b"PAR1")  # bytes to come that belong to no page header
        self._written = 0
        self._footer = b""

    def write(self, data: bytes) -> int:
        if self._footer or (self.is_closing and _PREFIX + BLANK in data):
            self._footer += data
        else:
            self._hash.update(data)
            self._note_headers(data)
            self._sink.write(data)
        self._written += len(data)
        return len(data)

    def _note_headers(self, data: bytes) -> None:
        """Hash the page headers in what is written; each comes in one piece, or there is no frame.

        There is none with pyarrow 17 either, which writes more than pages. Then all bytes are read for a check.
        """
        at = min(self._rest, len(data))
        self._rest -= at
        try:
            while self._is_framed and at < len(data):
                end, size = page_header(data, at)
                self._frame.update(data[at:end])
                self._headers.append(f"{self._written + at - self._after_header}:{end - at},")
                self._after_header = self._written + end
                at = min(end + size, len(data))
                self._rest = end + size - at
        except (IndexError, ValueError):
            self._is_framed = False

    def places(self) -> str:
        """Where the headers lie that were written until now."""
        self._told = len(self._headers)
        return "".join(self._headers)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def finish(self) -> str:
        """Write the footer with the checksum in it; returns the SHA-256 of the whole file."""
        prefix = FRAME_KEY + b"\x18\x40"
        before, found, after = self._footer.rpartition(prefix + BLANK)
        if found and self._is_framed and not self._rest and self._told == len(self._headers):
            self._frame.update(self._footer)
            self._footer = before + prefix + self._frame.hexdigest().encode() + after
        before, prefix, after = self._footer.rpartition(_PREFIX + BLANK)
        if not prefix:
            raise RuntimeError(f"the footer that pyarrow {pa.__version__} wrote has no place for the checksum")
        own = self._hash.copy()
        own.update(self._footer)
        footer = before + _PREFIX + own.hexdigest().encode() + after
        self._hash.update(footer)
        self._sink.write(footer)
        return self._hash.hexdigest()


def opened_whole(source: pa.NativeFile, where: str) -> pq.ParquetFile:
    """A file for reading, once all its bytes are known to be as they were written.

    A file without a checksum, written before there were any, is opened unchecked: see :func:`is_checksummed`.
    Raises :class:`service.errors.DamagedFileError`, or StorageError if the bytes cannot be had.
    """
    try:
        place = _place(source)
        if place is not None:
            start, written = place
            if sha256_of(source, blank_at=start).encode() != written:
                raise ValueError("its content does not fit its checksum")
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error}") from error
    except ValueError as error:
        raise DamagedFileError(where, str(error)) from None
    try:
        parquet = opened_again(source, where)
    except DamagedFileError as error:
        if place is None:
            raise
        raise StorageError(f"cannot read {where}, whose bytes have just been found whole: {error.reason}") from error
    if place is None and is_checksummed(parquet.schema_arrow):
        raise DamagedFileError(where, "its checksum cannot be read")
    return parquet


def opened_again(source: pa.NativeFile, where: str) -> pq.ParquetFile:
    """A file that was found whole a moment ago; its pages' own checksums are verified as they are read."""
    try:
        source.seek(0)
        return pq.ParquetFile(source, page_checksum_verification=True)
    except UNREADABLE as error:
        raise DamagedFileError(where, one_line(error)) from None


def sha256_of(source: pa.NativeFile, blank_at: int | None = None) -> str:
    """The SHA-256 of a whole file, as ``sha256sum`` computes it; with zeros for the checksum at ``blank_at``."""
    whole = hashlib.sha256()
    start = 0
    if blank_at is not None:
        for block in _blocks(source, 0, blank_at):
            whole.update(block)
        whole.update(BLANK)
        start = blank_at + len(BLANK)
    for block in _blocks(source, start, source.size()):
        whole.update(block)
    return whole.hexdigest()


def is_checksummed(schema: pa.Schema) -> bool:
    """Whether the file with this schema was written with a checksum."""
    return CHECKSUM_KEY in (schema.metadata or {})


def one_line(error: BaseException) -> str:
    """What an error of pyarrow's says, without its line breaks."""
    return " ".join(f"{error or type(error).__name__}".split())


def _place(source: pa.NativeFile) -> tuple[int, bytes] | None:
    """Where the checksum stands in a file, and what it says; None if there is none. Raises ValueError for damage."""
    size = source.size()
    end = _read(source, max(0, size - 8), size)
    if size < 12 or end[4:] != b"PAR1":
        raise ValueError("it is not a whole Parquet file" if size else "it is empty")
    length = int.from_bytes(end[:4], "little") + 8
    if length > size:
        raise ValueError("its footer is not whole")
    footer = _read(source, size - length, size)
    found = list(_CHECKSUM.finditer(footer))
    if found:
        return size - length + found[-1].start(1), found[-1].group(1)
    if CHECKSUM_KEY in footer:
        raise ValueError("its checksum cannot be read")
    return None


def _read(source: pa.NativeFile, start: int, stop: int) -> bytes:
    return b"".join(_blocks(source, start, stop))


def _blocks(source: pa.NativeFile, start: int, stop: int) -> Iterator[Any]:
    """The bytes of a file from ``start`` to ``stop``, a block at a time."""
    source.seek(start)
    while start < stop:
        block = source.read(min(BLOCK, stop - start))
        if not block:
            raise ValueError("it ends before its end")
        start += len(block)
        yield block
