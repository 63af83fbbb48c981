"""Every key of a spec, found by walking its dataclasses, and the wrong values that each of them is given."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import math
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from service import SpecError, StudySpec
from service.ledger.schema import schemas
from service.spec.doubts import doubts_about
from service.spec.plan import make_plan
from service.spec.starts import StartConfig
from trainers.bounds import UNIONS, UNPRINTABLE, settings_of
from trainers.config import Range
from trainers.errors import LONGEST_LINE

Path = tuple[str | int, ...]
LIMIT_S = 5.0  # seconds until a message: 2 where nobody else works
OWN = "tests.trainers.regularisers:brightness"
BOX = {"low": 0.1, "high": 0.5}
STARTING = {**BOX, "start": {"normal": [0.2, 0.1]}}
VALID: dict[str, Any] = {
    "name": "any",
    "arms": ["initial", "online", "rerun", "grid"],
    "models": [{}],
    "hyperparameters": {
        "log10_l2": BOX, "input_noise_std": STARTING, "hidden_noise_std": BOX, "label_smoothing": BOX,
        "custom": {OWN: STARTING},
    },
    "grid": {"points": {"log10_l2": 2}},
}  # fmt: skip


def nested(depth: int, value: object = 1) -> object:
    """Lists in lists."""
    for _ in range(depth):
        value = [value]
    return value


WRONG: dict[str, object] = {
    "none": None, "true": True, "no text": "", "a word": "word", "long": "long" * 10_000, "null": "a\0b",
    "escape": "\x1b[31mred", "surrogate": "\ud800", "reference": "..m:f", "no module": "no_such_module:f",
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-0.0": -0.0, "zero": 0, "one": 1, "minus one": -1,
    "half": 0.5, "subnormal": 5e-324, "1e308": 1e308, "-1e308": -1e308, "10**9": 10**9, "10**17": 10**17,
    "2**63": 2**63, "10**30": 10**30, "-10**30": -(10**30), "5,000 digits": 10**5000, "empty list": [],
    "list of nan": [math.nan], "list of 10**30": [10**30], "list of 10**6": [10**6, 10**6], "list of words": ["word"],
    "long list": [1] * 100_000, "list of none": [None], "nested": nested(100), "very nested": nested(100_000),
    "empty table": {}, "table": {"a": 1}, "long key": {"long" * 10_000: 1}, "escape in a key": {"\x1b[31m": 1},
    "number for a key": {3: 1}, "tuple for a key": {(1, 2): 1}, "a box": {"m:run_id": BOX}, "date": datetime.date.min,
    "bytes": b"x", "object": object(), "set": {1},
}  # fmt: skip


def keys(table: Any = StudySpec, path: Path = ()) -> Iterator[Path]:
    """The path to every key of a table and of the tables in it; starts stand in the boxes."""
    if table is Range:
        yield (*path, "start")
        yield from keys(StartConfig, (*path, "start"))
    for setting in settings_of(table):
        here = (*path, setting.name)
        if here == ("starts",):
            continue
        yield here
        for kind in get_args(setting.kind) if get_origin(setting.kind) in UNIONS else (setting.kind,):
            parts = get_args(kind)
            if dataclasses.is_dataclass(kind):
                yield from keys(kind, here)
            elif parts and dataclasses.is_dataclass(parts[0]):
                yield from keys(parts[0], (*here, 0))
            elif parts and dataclasses.is_dataclass(parts[-1]):
                yield from keys(parts[-1], (*here, OWN))


def with_value(values: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    """A copy of a spec's mapping with ``value`` at ``path``, where a table is."""
    changed = copy.deepcopy(values)
    place: Any = changed
    for part in path[:-1]:
        if isinstance(place, dict):
            place = place.setdefault(part, {})
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            place = place[part]
        else:  # an earlier change has put something else there
            return changed
    if isinstance(place, dict):
        place[path[-1]] = value
    return changed


def ends_well(values: dict[str, Any], where: str = "spec") -> str | None:
    """Read the spec and begin its plan: None where both work, the message where the spec is refused.

    Whatever else is raised is raised here.
    """
    try:
        spec = StudySpec.from_dict(values, where)
        begin(spec)
    except SpecError as error:
        message = str(error)
        assert all(not UNPRINTABLE.search(line) and len(line) < 3 * LONGEST_LINE for line in message.split("\n")), (
            message
        )
        assert message.count("\n") < 30
        return message
    return None


def begin(spec: StudySpec) -> None:
    """Make what a driver makes of a spec before it trains anything; raises SpecError."""
    assert StudySpec.from_dict(spec.to_dict()) == spec
    assert not any(map(UNPRINTABLE.search, doubts_about(spec)))
    plan = make_plan(spec)
    pack = next(plan.packs())
    run = plan.run(pack.arm, pack.model, pack.slots[0])
    assert all(math.isfinite(value) for value in run.initial.values())
    assert sum(plan.planned().values()) == spec.planned_runs
    for schema in schemas(plan.names).values():
        assert len({name.lower() for name in schema.names}) == len(schema.names)
