"""``study.json``, verified: its last key ``sha256`` holds a checksum of the others.

The service writes it, in ``service/storage/checked_json.py``; the two must agree, and a test sees that they do.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any


def verified(content: bytes) -> dict[str, Any]:
    """The values of the JSON object ``content``, without the checksum; an object of an earlier version has none.

    Raises ValueError, which says what is wrong, for what is no JSON object or does not fit its checksum.
    """
    try:
        values = json.loads(content.decode("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("a JSON object is expected")
        if "sha256" in values:
            checksum = values.pop("sha256")
            if checksum != hashlib.sha256(_compact(values).encode()).hexdigest():
                raise ValueError("its content does not fit its checksum")
        elif values and re.fullmatch("[0-9a-f]{64}", str(list(values.values())[-1])):
            raise ValueError("the name of its last key should be sha256")
        _compact(values)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values


def _compact(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)
