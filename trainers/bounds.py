"""How a setting is declared: its type, its limits and its meaning in one annotation, and the check of all of them.

    steps: Annotated[int, at_least(1), "how many steps the training takes"] = 2000

A table of settings is a frozen dataclass that calls :func:`check` in its ``__post_init__``. So the same limits hold for
settings made in Python and for those read from a file.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainers.errors import ConfigError, quoted, shortened

UNIONS = (UnionType, Union)  # of classes, and of anything else


@dataclass(frozen=True)
class Limit:
    """What a number must be, or every number in a tuple or a mapping. ``words`` end the sentence "must be …"."""

    words: str
    holds: Callable[[float], bool]


def at_least(least: float, note: str = "") -> Limit:
    """A lower limit that is allowed itself; ``note`` says what it means."""
    return Limit(f"at least {least:g}" + (f" ({note})" if note else ""), lambda value: value >= least)


POSITIVE = Limit("above 0", lambda value: value > 0)
FRACTION = Limit("in [0, 1]", lambda value: 0 <= value <= 1)
FRACTION_BELOW_1 = Limit("in [0, 1)", lambda value: 0 <= value < 1)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is declared of one setting, but for its default."""

    name: str
    kind: Any  # the type, for example int or tuple[int, ...]
    limits: tuple[Limit, ...]
    meaning: str  # one line; empty for a table of other settings


@cache
def settings_of(table: type) -> tuple[Setting, ...]:
    """The settings of a dataclass in their order."""
    hints = get_type_hints(table, include_extras=True)
    settings = []
    for field in dataclasses.fields(table):
        hint = hints[field.name]
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        limits = tuple(note for note in notes if isinstance(note, Limit))
        meaning = "".join(note for note in notes if isinstance(note, str))
        settings.append(Setting(name=field.name, kind=kind, limits=limits, meaning=meaning))
    return tuple(settings)


def check(table: Any, where: str, error: type[ValueError] = ConfigError) -> None:
    """Raise ``error`` for the first setting whose value is not of its type or not within its limits.

    ``where`` is the name of the table in a spec, empty for the outermost one.
    """
    for setting in settings_of(table.__class__):
        place = f"{where}.{setting.name}" if where else setting.name
        value = getattr(table, setting.name)
        require(_fits(value, setting.kind), place, value, _words(setting.kind), error)
        for limit in setting.limits:
            for part, shown, number in _numbers(place, value):
                require(limit.holds(number), part, shown, limit.words, error)


def require(condition: bool, where: str, value: object, allowed: str, error: type[ValueError] = ConfigError) -> None:
    """Raise ``error`` unless ``condition`` holds; the message says where, the value, and what is allowed."""
    if not condition:
        raise error(f"{where} = {quoted(value)}: must be {allowed}")


def _numbers(place: str, value: object) -> Iterator[tuple[str, object, float]]:
    """Every number of a value, with its place and what a message quotes. A word, such as 'auto', is no number."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(f"{place}.{shortened(key)}", part)
    elif isinstance(value, tuple | list):
        for number in value:
            yield place, value, number
    elif isinstance(value, int | float):
        yield place, value, value


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type. A whole number may stand for a finite one; true and false are no numbers."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin in UNIONS:
        return any(_fits(value, part) for part in parts)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        kinds = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if kind is float:  # the comparison is false for NaN and infinity, and whole numbers may be larger than any float
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "truth values"),
    str: ("a string", "strings"),
    NoneType: ("None", "None"),
}


def _words(kind: Any, many: bool = False) -> str:
    """A type in words; ``many``: in the plural."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        names = ", ".join(map(repr, parts))
        return names if len(parts) == 1 else f"{'among' if many else 'one of'} {names}"
    if origin in UNIONS:
        return " or ".join(_words(part, many) for part in parts)
    if origin in (tuple, dict):
        one = "list" if origin is tuple else "table"
        return f"{f'{one}s' if many else f'a {one}'} of {_words(parts[0] if origin is tuple else parts[1], many=True)}"
    return NAMES.get(kind, (f"a {kind.__name__}", f"{kind.__name__} objects"))[many]
