"""What is wrong with a spec, in one line for each key: where, the value, and what is allowed."""

from __future__ import annotations

import dataclasses
import json
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainers.errors import shortened


def explain(error: ValidationError, spec: type) -> list[str]:
    """The lines of the error that pydantic raised for a mapping that is no ``spec``, a dataclass."""
    lines: dict[str, str] = {}
    for detail in error.errors():
        path = _path(detail)
        where = ".".join(shortened(part) for part in path)
        wish = detail["msg"].removeprefix("Input should be ")
        if detail["type"] == "json_invalid":  # what JSON cannot hold, such as half of a surrogate pair in a string
            lines[where] = f"holds what is no text or number ({detail['ctx']['error']})"
        elif detail["type"] == "unexpected_keyword_argument":
            lines[where] = f"{where}: unknown key; allowed: {', '.join(_keys(spec, path[:-1]))}"
        elif detail["type"] == "missing":
            lines[where] = f"{where}: missing"
        elif detail["type"] == "value_error":
            lines[where] = _placed(str(detail["ctx"]["error"]), path)
        elif where in lines:
            lines[where] += f" or {wish}"
        else:
            lines[where] = f"{where} = {shortened(json.dumps(detail['input'], default=str))}: must be {wish}"
    return list(lines.values())


def _path(detail: ErrorDetails) -> list[str]:
    """The keys that lead to what is wrong.

    In a union such as "int | 'auto'" every branch reports by itself, and names its type at the end of the path.
    """
    path = [str(part) for part in detail["loc"]]
    if path and (path[-1] in ("int", "float") or path[-1].startswith("literal[")):
        path.pop()
    return path


def _placed(message: str, path: list[str]) -> str:
    """A message of a table's own check, which names the outermost table alone, with the path to the table."""
    tables = [shortened(part) for part in path if not part.isdigit()]
    return ".".join(tables) + message.removeprefix(tables[0]) if tables else message


def _keys(kind: Any, path: list[str]) -> list[str]:
    """The keys that the table at ``path`` below ``kind`` may have."""
    for part in path:
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind)[part]
        else:  # an element of a list, or a value of a mapping
            kind = [argument for argument in get_args(kind) if argument is not ...][-1]
        if get_origin(kind) is UnionType:  # "Range | None"
            kind = get_args(kind)[0]
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
