"""A Parquet file that carries its checksum: whatever bit is flipped, wherever it is cut, it is told."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.errors import DamagedFileError, StorageError
from service.ledger.checksums import CHECKSUM_KEY, ChecksummedWriter, is_checksummed, opened_whole, sha256_of

SCHEMA = pa.schema([("name", pa.string()), ("loss", pa.float64())], metadata={b"table": b"runs"})
ROWS = pa.table({"name": [f"run {i}" for i in range(200)], "loss": [i / 7 for i in range(200)]}).cast(SCHEMA)


def written(*parts: pa.Table | pa.RecordBatch) -> tuple[bytes, str]:
    sink = pa.BufferOutputStream()
    with ChecksummedWriter(sink, SCHEMA, "zstd") as writer:
        for part in parts:
            writer.write(part)
    return sink.getvalue().to_pybytes(), writer.sha256


def read(content: bytes) -> pa.Table:
    return opened_whole(pa.BufferReader(content), "runs.parquet").read()


@pytest.mark.parametrize("parts", [(), (ROWS,), (ROWS, ROWS), tuple(ROWS.to_batches(50)), (*ROWS.to_batches(), ROWS)])
def test_what_was_written_is_read(parts: tuple[pa.Table | pa.RecordBatch, ...]) -> None:
    content, sha256 = written(*parts)
    expected = sum(part.num_rows for part in parts)
    assert read(content).num_rows == expected
    assert hashlib.sha256(content).hexdigest() == sha256 == sha256_of(pa.BufferReader(content))


def test_other_readers_see_an_ordinary_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    path.write_bytes(written(ROWS)[0])
    assert pq.read_table(path, page_checksum_verification=True).equals(ROWS)
    assert pl.read_parquet(path).height == ROWS.num_rows
    assert duckdb.read_parquet(str(path)).count("*").fetchall() == [(ROWS.num_rows,)]


def test_every_flipped_bit_is_told() -> None:
    content = written(ROWS)[0]
    pick = random.Random(1)
    footer = range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content))
    places = [*footer, *(pick.randrange(len(content)) for _ in range(1_000))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << pick.randrange(8)
        with pytest.raises(DamagedFileError, match=r"^runs.parquet: is damaged \("):
            read(bytes(damaged))


@pytest.mark.parametrize("keep", [0, 1, 8, 11, 12, 100, -1, -8, -100])
def test_a_file_that_is_cut_is_told(keep: int) -> None:
    with pytest.raises(DamagedFileError):
        read(written(ROWS)[0][:keep])


def test_garbage_is_told() -> None:
    for size in (1, 12, 5_000):
        with pytest.raises(DamagedFileError):
            read(random.Random(size).randbytes(size))


def test_a_file_from_before_there_were_checksums_is_read() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(ROWS, sink)
    parquet = opened_whole(pa.BufferReader(sink.getvalue()), "runs.parquet")
    assert not is_checksummed(parquet.schema_arrow)
    assert parquet.read().equals(ROWS)
    assert is_checksummed(opened_whole(pa.BufferReader(written()[0]), "").schema_arrow)


def test_a_block_that_breaks_off_leaves_no_checksum() -> None:
    sink = pa.BufferOutputStream()

    def break_off() -> None:
        with ChecksummedWriter(sink, SCHEMA, "zstd") as writer:
            writer.write(ROWS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert CHECKSUM_KEY not in sink.getvalue().to_pybytes()


def test_bytes_that_cannot_be_had_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    path.write_bytes(written(ROWS)[0])

    class Failing:
        closed = False

        def __init__(self) -> None:
            self.file = path.open("rb")

        def read(self, count: int = -1) -> bytes:
            raise OSError("connection reset")

        def seek(self, place: int, whence: int = 0) -> int:
            return self.file.seek(place, whence)

        def tell(self) -> int:
            return self.file.tell()

        def close(self) -> None:
            self.file.close()

    with pytest.raises(StorageError, match="connection reset"):
        opened_whole(pa.PythonFile(Failing(), mode="r"), "runs.parquet")
