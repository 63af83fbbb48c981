"""JSON files that carry a checksum of themselves, so that no damage to one passes for another content.

The key ``sha256`` comes last in the object. Its value is the SHA-256, in hexadecimal, of the object's other keys,
written as compact JSON (no spaces, ASCII alone) in the order in which they stand.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from service.errors import DamagedFileError

CHECKSUM = "sha256"
_DIGEST = re.compile("[0-9a-f]{64}")


def dumps_checked(values: dict[str, Any], *, indent: int | None = None) -> bytes:
    """The object ``values`` with its checksum. Raises ValueError for numbers that are not finite: JSON has none."""
    others = _compact({key: value for key, value in values.items() if key != CHECKSUM})
    digest = hashlib.sha256(others.encode()).hexdigest()
    if indent is None:
        return f'{others[:-1]}{"," if len(others) > 2 else ""}"{CHECKSUM}":"{digest}"}}'.encode()
    return json.dumps({**json.loads(others), CHECKSUM: digest}, indent=indent).encode()


def loads_checked(content: bytes, where: str) -> dict[str, Any]:
    """The values of the JSON object ``content`` of the file ``where``, without the checksum.

    An object that has no checksum was written by an earlier version or by hand, and is taken as it is. Raises
    :class:`service.errors.DamagedFileError`, which names the file, for what is no JSON object, or has another checksum.
    """
    try:
        values = json.loads(_text(content), parse_constant=_refuse)
        if not isinstance(values, dict):
            raise ValueError("a JSON object is expected")
        if values and CHECKSUM not in values and _is_digest(list(values.values())[-1]):
            raise ValueError(f"the name of its last key should be {CHECKSUM}")  # the damage hit this very name
        none = object()
        checksum = values.pop(CHECKSUM, none)
        found = hashlib.sha256(_compact(values).encode()).hexdigest()
        if checksum is not none and checksum != found:
            raise ValueError("its content does not fit its checksum")
    except RecursionError:
        raise DamagedFileError(where, "it is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, integers of thousands of digits, 1e999
        raise DamagedFileError(where, str(error)) from None
    return values


def _compact(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _text(content: bytes) -> str:
    if not content:
        raise ValueError("it is empty")
    if content.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it begins with a byte order mark; save it as UTF-8 without one")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
