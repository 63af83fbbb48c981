"""Whatever a file holds, reading it as TOML ends in its values or in one message, at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from service import SpecError
from service.spec.toml_file import LARGEST_FILE, read_toml
from tests.service.spec.any_spec import LIMIT_S

NO_TOML = {
    "an integer of 5,000 digits": (b"seed = " + b"9" * 5000, "an integer of thousands of digits"),
    "nested lists": (b"a = " + b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "nested tables": (b"a = " + b"{a=" * 100_000, "nested too deep"),
    "a dotted key": (b".".join([b"a"] * 100_000) + b" = 1", "a key of more than 64 parts"),
    "a dotted key with quotes": (b" . ".join([b"'a'", b'"b"'] * 50_000) + b" = 1", "a key of more than 64 parts"),
    "a dotted header": (b"[" + b".".join([b"a"] * 100_000) + b"]", "a key of more than 64 parts"),
    "UTF-16": ("name = 'a'".encode("utf-16"), "UTF-16: save it as UTF-8"),
    "Latin-1": ("name = 'Käse'".encode("latin-1"), "not UTF-8: invalid continuation byte at byte 9"),
    "one word": (b"a" * 1_000_000, "is not TOML"),
    "many short keys": (b"a.b.c.d.e " * 100_000, "is not TOML"),
    "quotes": (b"\"'" * 500_000, "is not TOML"),
    "no value": (b"name = ", "is not TOML"),
    "a null byte": (b"name = 'a\0b'", "is not TOML"),
    "too large": (b"#" * (LARGEST_FILE + 1), "has 1,048,577 bytes, a spec at most 1,048,576 bytes"),
}


@pytest.mark.parametrize(("content", "reason"), NO_TOML.values(), ids=NO_TOML)
def test_what_is_no_toml_is_told_in_one_line_and_at_once(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(SpecError) as caught:
        read_toml(path)
    assert time.monotonic() - began < LIMIT_S
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content", [b"a = 1\nb = 2\n", b"a = 1\r\nb = 2", b"a = 1\rb = 2\r", b"\xef\xbb\xbfa = 1\nb = 2"]
)
def test_line_ends_of_every_system_and_a_byte_order_mark_are_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.toml").write_bytes(content)
    assert read_toml(tmp_path / "spec.toml") == {"a": 1, "b": 2}


def test_a_large_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_bytes(b"a = 1\n" + b"#" * (LARGEST_FILE - 6))
    assert read_toml(tmp_path / "spec.toml") == {"a": 1}


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**30)
    kinds: dict[str | Path, str] = {"/dev/zero": "but a device", tmp_path / "pipe": "but a pipe", tmp_path: "directory"}
    for path, words in {**kinds, tmp_path / "huge": "1,073,741,824 bytes", "a\0b": "null byte"}.items():
        with pytest.raises(SpecError, match=words):
            read_toml(path)
