"""Read a TOML file as somebody's spec: whatever the file holds, the end is its values or one message."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from service.errors import SpecError

LARGEST_FILE = 2**20  # bytes; the largest sensible spec has a hundredth of it, and tomllib reads so many in a second
DEEPEST_KEY = 64
# A key a.b.c… of more parts: tomllib takes quadratic time for it, and nothing that follows can walk so deep a table.
# Possessive, and begun at the beginnings of words alone, so that the search itself takes linear time.
PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
DEEP_KEY = re.compile(rf"(?<![\w-])(?:{PART}\.[ \t]*+){{{DEEPEST_KEY}}}")
OTHER_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))  # by the mark that they begin with


def read_toml(path: str | Path) -> dict[str, Any]:
    """The values of a TOML file; raises :class:`SpecError` where there are none.

    Line ends may be of any system, old Macintosh ones included, and a UTF-8 byte order mark is passed over, because
    editors write both without being asked.
    """
    text = _text(_content(path), path)
    if DEEP_KEY.search(text):
        raise SpecError(f"{path}: is no spec (a key of more than {DEEPEST_KEY} parts)")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: is not TOML ({error})") from None
    except RecursionError:
        raise SpecError(f"{path}: is no spec (lists or tables nested too deep)") from None
    except ValueError:  # the only one left: Python reads no integer of more than 4,300 digits
        raise SpecError(f"{path}: is not TOML (an integer of thousands of digits; TOML has 64 bits)") from None


def _content(path: str | Path) -> bytes:
    """The bytes of a regular file that is not too large. Nothing else is read: a device or a pipe may have no end."""
    try:
        with open(path, "rb", buffering=0, opener=_opened) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SpecError(f"{path}: cannot be read (no file, but a {_kind(found.st_mode)})")
            if found.st_size > LARGEST_FILE:
                raise SpecError(
                    f"{path}: is no spec (it has {found.st_size:,} bytes, a spec at most {LARGEST_FILE:,} bytes)"
                )
            return file.read(LARGEST_FILE) or b""
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{path}: cannot be read ({error})") from None


def _opened(path: str, flags: int) -> int:
    """A descriptor at once: opening a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    return "pipe or socket" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "device"


def _text(content: bytes, path: str | Path) -> str:
    for mark, encoding in OTHER_ENCODINGS:
        if content.startswith(mark):
            raise SpecError(f"{path}: cannot be read (it is {encoding}: save it as UTF-8)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: cannot be read (not UTF-8: {error.reason} at byte {error.start:,})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
