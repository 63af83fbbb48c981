"""What is wrong with a spec, in one line for each key: where, the value, and what is allowed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.errors import SpecError
from trainers.bounds import MOST_ENTRIES, UNPRINTABLE
from trainers.config import LOOK_UP, Range
from trainers.errors import quoted, shortened

DEEPEST = 64  # tables and lists in each other; a spec has five
LARGEST_INTEGER = 10**40  # what is beyond it needs no check of its own limits, and might not even be printable
MOST_LINES = 20
START = "start"  # the key of a hyperparameter's table that is a field of its own in a spec, ``starts``


def check_values(values: object, path: tuple[str, ...] = ()) -> None:
    """Raise :class:`SpecError` for what JSON cannot hold, or what is nested without end, with the key that holds it."""
    where = ".".join(path[:6])
    if len(path) > DEEPEST:
        raise SpecError(f"{where}: nested more than {DEEPEST} deep")
    if isinstance(values, Mapping | list | tuple) and len(values) > MOST_ENTRIES:
        raise SpecError(f"{f'{where}: ' if path else ''}has {len(values):,} entries: must be at most {MOST_ENTRIES:,}")
    if isinstance(values, Mapping):
        for key, value in values.items():
            if not isinstance(key, str):
                raise SpecError(f"{f'{where}: ' if path else ''}key {quoted(key)}: must be a string")
            check_values(key, (*path, _shown(key)))
            check_values(value, (*path, _shown(key)))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            check_values(value, (*path, str(number)))
    elif isinstance(values, int) and abs(values) > LARGEST_INTEGER:
        raise SpecError(f"{where} = {quoted(values)}: must be far smaller")
    elif isinstance(values, str) and not values.isascii() and any("\ud800" <= letter <= "\udfff" for letter in values):
        raise SpecError(f"{where} = {quoted(values)}: must be text (half of a surrogate pair is none)")


def explain(error: ValidationError, spec: type) -> list[str]:
    """The lines of the error that pydantic raised for a mapping that is no ``spec``, a dataclass."""
    lines: dict[str, str] = {}
    for detail in error.errors():
        fields = _path(detail)
        path = _in_file(fields)
        where = place(path)
        wish = detail["msg"].removeprefix("Input should be ")
        if detail["type"] == "unexpected_keyword_argument":
            lines[where] = f"{where}: unknown key; allowed: {', '.join(_keys(spec, fields[:-1]))}"
        elif detail["type"] == "missing":
            lines[where] = f"{where}: missing"
        elif detail["type"] == "too_long":
            value, most = shortened(json.dumps(detail["input"], default=str)), detail["ctx"]["max_length"]
            lines[where] = f"{where} = {value}: must have {most} entries"
        elif detail["type"] == "value_error":
            lines[where] = _placed(str(detail["ctx"]["error"]), path)
        elif where in lines:
            lines[where] += f" or {wish}"
        else:
            lines[where] = f"{where} = {shortened(json.dumps(detail['input'], default=str))}: must be {wish}"
    found = list(lines.values())
    return found if len(found) <= MOST_LINES else [*found[:MOST_LINES], f"and {len(found) - MOST_LINES:,} errors more"]


def place(path: Sequence[str]) -> str:
    """Keys that lead to a value of a spec's file, as messages write them."""
    return ".".join(map(_shown, path))


def start_path(name: str) -> list[str]:
    """The keys that lead to the start of a hyperparameter, built-in or ``module:attribute``, in a spec's file."""
    return ["hyperparameters", *(["custom"] if LOOK_UP in name else []), name, START]


def _shown(key: str) -> str:
    """A key in a message: in one piece, and without what would move a terminal's cursor."""
    return shortened(UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], key))


def _path(detail: ErrorDetails) -> list[str]:
    """The keys that lead to what is wrong.

    In a union such as "int | 'auto'" every branch reports by itself, and names its type at the end of the path.
    """
    path = [str(part) for part in detail["loc"]]
    if path and (path[-1] in ("int", "float") or path[-1].startswith("literal[")):
        path.pop()
    return path


def _in_file(fields: list[str]) -> list[str]:
    """The keys of a spec's file in the place of those of its fields: the two differ for starts."""
    return [*start_path(fields[1]), *fields[2:]] if fields[:1] == ["starts"] and len(fields) > 1 else fields


def _placed(message: str, path: list[str]) -> str:
    """A message of a table's own check, which names one table alone, with the path to the table."""
    tables = [_shown(part) for part in path if not part.isdigit()]
    named = tables[-1] if tables[-1:] == [START] else tables[0] if tables else ""
    return ".".join(tables) + message.removeprefix(named)


def _keys(kind: Any, path: list[str]) -> list[str]:
    """The keys that the table at ``path`` below ``kind`` may have."""
    for part in path:
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind)[part]
        else:  # an element of a list, or a value of a mapping
            kind = [argument for argument in get_args(kind) if argument is not ...][-1]
        if get_origin(kind) is UnionType:  # "Range | None"
            kind = get_args(kind)[0]
    names = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    return [name for name in names if name != "starts"] + [START] * (kind is Range)
