"""Checkpoint files: any damage is told, and so is a file in another pack's place."""

from __future__ import annotations

import io
import json
import random
import zipfile

import pytest
import torch

from service.errors import DamagedFileError
from service.executors.checkpoints import Points, is_checked, packed, unpacked
from trainers.checkpoint import dumps
from trainers.records import Checkpoint

NAME = "checkpoints/0123.zip"
POINTS: Points = {"member": [0, 1], "t1_loss": [0.5, 0.25]}
STATE = Checkpoint(7, {"weights": torch.arange(500.0)})


def test_what_was_packed_is_unpacked() -> None:
    checkpoint, points = unpacked(NAME, packed(NAME, STATE, POINTS))
    assert (checkpoint.step, points) == (7, POINTS)
    assert torch.equal(checkpoint.tensors["weights"], STATE.tensors["weights"])
    assert is_checked(NAME, packed(NAME, STATE, POINTS))


def test_a_file_in_another_packs_place_is_told() -> None:
    with pytest.raises(DamagedFileError, match="or it is another pack's"):
        unpacked("checkpoints/4567.zip", packed(NAME, STATE, POINTS))


def test_every_flipped_bit_is_told() -> None:
    content, pick = packed(NAME, STATE, POINTS), random.Random(3)
    for _ in range(600):
        damaged = bytearray(content)
        damaged[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
        with pytest.raises(DamagedFileError):
            unpacked(NAME, bytes(damaged))


@pytest.mark.parametrize("keep", [0, 1, 22, 64, 300, -1, -64, -100])
def test_a_file_that_is_cut_is_told(keep: int) -> None:
    with pytest.raises(DamagedFileError):
        unpacked(NAME, packed(NAME, STATE, POINTS)[:keep])
    with pytest.raises(DamagedFileError):
        is_checked(NAME, packed(NAME, STATE, POINTS)[:keep])


def test_a_file_from_before_there_were_checksums_is_read() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("points.json", json.dumps(POINTS))
        archive.writestr("checkpoint.safetensors", dumps(STATE))
    assert unpacked(NAME, content.getvalue())[1] == POINTS
    assert not is_checked(NAME, content.getvalue())


@pytest.mark.parametrize("flag", [0x01, 0x40])  # of encrypted members
def test_an_archive_that_zipfile_refuses_is_told(flag: int) -> None:
    """What it raises for some flipped bits is a RuntimeError or a NotImplementedError, and no BadZipFile."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("points.json", json.dumps(POINTS))
        archive.writestr("checkpoint.safetensors", dumps(STATE))
    damaged = bytearray(content.getvalue())
    damaged[damaged.index(b"PK\x01\x02") + 8] |= flag
    with pytest.raises(DamagedFileError):
        unpacked(NAME, bytes(damaged))
