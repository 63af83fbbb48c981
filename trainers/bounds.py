"""How a setting is declared: its type, its limits and its meaning in one annotation, and the check of all of them.

    steps: Annotated[int, between(1, 10**9), "how many steps the training takes"] = 2000

A table of settings is a frozen dataclass that calls :func:`check` in its ``__post_init__``. So the same limits hold for
settings made in Python and for those read from a file. Every number has an upper limit, far beyond what makes sense and
well below what overflows, never ends or fills every memory: a slip is refused at the door.
"""

from __future__ import annotations

import dataclasses
import re
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


def between(least: float, most: float, note: str = "") -> Limit:
    """Two limits that are allowed themselves; ``note`` says what the lower one means."""
    words = f"at least {_shown(least)}" + (f" ({note})" if note else "") + f" and at most {_shown(most)}"
    return Limit(words, lambda value: least <= value <= most)


def _shown(limit: float) -> str:
    """A limit in a message: a large whole number with its thousands apart."""
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


MOST_ENTRIES = 1000  # of a list or table: layers, models, axes, patterns
LONGEST_TEXT = 1000  # characters of a name or a path
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # also what no file name and no JSON can hold
MOST_STEPS = 10**9  # of a training, and whatever is counted in its steps: 14 hours where a step takes 50 µs
MOST_SEED = 2**63 - 1  # TOML promises no larger integer
RATE = between(1e-12, 1e6)  # an inner learning rate: neither without effect nor beyond float32 after some steps
STABILISER = between(1e-30, 1e6)  # what Adam adds to a root: float32 holds it
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
        _check_sizes(place, value, error)
        for limit in setting.limits:
            for part, shown, number in _numbers(place, value):
                require(limit.holds(number), part, shown, limit.words, error)


def _check_sizes(place: str, value: object, error: type[ValueError]) -> None:
    """Raise ``error`` for a list, a table or a string that is too long, and for a string that cannot be printed."""
    if isinstance(value, str):
        allowed = f"at most {LONGEST_TEXT:,} characters, without control characters"
        require(len(value) <= LONGEST_TEXT and not UNPRINTABLE.search(value), place, value, allowed, error)
    elif isinstance(value, dict | tuple | list):
        require(len(value) <= MOST_ENTRIES, place, value, f"of at most {MOST_ENTRIES:,} entries", error)
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                _check_sizes(place, key, error)
            _check_sizes(f"{place}.{shortened(str(key))}", part, error)


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
