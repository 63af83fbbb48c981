"""The analysis finds the damage that the service's own check finds, in files that the service wrote."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.checksums import damage
from analysis.files import StudyError
from analysis.study import load_study
from service.errors import DamagedFileError
from service.ledger.checksums import ChecksummedWriter, opened_whole
from tests.service.studies import run_serially, toy_spec

SCHEMA = pa.schema([("loss", pa.float64())], metadata={b"study_hash": b"12ab", b"file": b"runs.parquet"})


def written(count: int = 300) -> bytes:
    sink = pa.BufferOutputStream()
    with ChecksummedWriter(sink, SCHEMA, "zstd") as writer:
        writer.write(pa.table({"loss": [i / 7 for i in range(count)]}).cast(SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def judged(
    content: bytes, study_hash: str | None = "12ab", path: str = "runs.parquet", must: bool = True
) -> str | None:
    return damage(pa.BufferReader(content), study_hash, path, must)


def test_a_sound_file_is_sound_in_its_place_alone() -> None:
    assert judged(written()) is judged(written(0)) is judged(written(), None) is None
    assert judged(written(), "34cd") == "it belongs to another study"
    assert judged(written(), path="attempts.parquet") == "it was written as runs.parquet"


def test_a_file_from_before_there_were_checksums() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"loss": [0.5]}), sink)
    content = sink.getvalue().to_pybytes()
    assert judged(content, must=False) is None
    assert judged(content, must=True) == "its checksum is missing"


@pytest.mark.parametrize("seed", range(3))
def test_both_checks_agree_on_every_damage(seed: int) -> None:
    content, pick = written(), random.Random(seed)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[pick.randrange(len(damaged))] ^= 1 << pick.randrange(8)
        cut = bytes(damaged[: pick.choice([len(damaged), pick.randrange(len(damaged))])])
        assert judged(cut)
        with pytest.raises(DamagedFileError):
            opened_whole(pa.BufferReader(cut), "runs.parquet")


@pytest.mark.parametrize("seed", range(3))
def test_the_frame_and_the_checksums_of_pages_tell_every_damage(seed: int) -> None:
    content, pick = written(3_000), random.Random(seed)
    assert damage(pa.BufferReader(content), "12ab", "runs.parquet", True, frame_alone=True) is None
    for _ in range(300):
        damaged = bytearray(content)
        damaged[pick.randrange(len(damaged))] ^= 1 << pick.randrange(8)
        if damage(pa.BufferReader(bytes(damaged)), "12ab", "runs.parquet", True, frame_alone=True) is None:
            try:
                rows = pq.ParquetFile(pa.BufferReader(bytes(damaged)), page_checksum_verification=True).read()
            except OSError:
                continue
            sound = pq.ParquetFile(pa.BufferReader(content)).read()
            assert rows.equals(sound), "the flipped bit is of the whole file's checksum"


@pytest.mark.skipif(pa.__version__.startswith("17."), reason="pyarrow 17 writes more than pages: files are read whole")
def test_the_frame_was_written() -> None:
    """Without it the check would still hold, but read the whole file."""
    prefix = b"t1t2_frame\x18\x40"
    assert prefix + b"0" * 64 not in written(3_000)
    assert prefix in written(3_000)


def test_a_table_is_checked_when_it_is_asked_for(tmp_path: Path) -> None:
    run_serially(toy_spec(configurations=1), tmp_path)
    table = tmp_path / "trajectories.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 4
    table.write_bytes(content)
    study = load_study(tmp_path)
    assert len(study.runs)
    for _ in range(2):
        with pytest.raises(StudyError, match=r"trajectories.parquet: is damaged \(.*t1t2 resume"):
            _ = study.trajectories
