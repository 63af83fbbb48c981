"""Declarations of settings: what is read from an annotation, what is refused, and with which words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from trainers.bounds import FRACTION, FRACTION_BELOW_1, MOST_ENTRIES, between, check, settings_of
from trainers.errors import ConfigError


@dataclass(frozen=True)
class Oven:
    """A table of settings of every type."""

    shelves: Annotated[int, between(1, 2000), "how many shelves it has"] = 2
    heat: Annotated[float, between(1e-9, 500), "degrees"] = 180.0
    open: Annotated[float | None, FRACTION, "how far its door stands open"] = None
    damp: Annotated[tuple[float, ...], FRACTION_BELOW_1, "humidity by shelf"] = (0.1, 0.2)
    timers: Annotated[dict[str, int], between(0, 60, "0: none"), "minutes by name"] = field(default_factory=dict)
    fan: Annotated[int | Literal["auto"], between(1, 9), "its speed"] = "auto"
    mode: Annotated[Literal["bake", "grill"], "what it does"] = "bake"
    spare: str = "a lamp"

    def __post_init__(self) -> None:
        check(self, "oven")


def test_a_declaration_is_readable() -> None:
    shelves, *_, timers, fan, mode, spare = settings_of(Oven)
    assert (shelves.name, shelves.kind, shelves.meaning) == ("shelves", int, "how many shelves it has")
    assert [limit.words for limit in shelves.limits] == ["at least 1 and at most 2,000"]
    assert [limit.words for limit in timers.limits] == ["at least 0 (0: none) and at most 60"]
    assert fan.kind == int | Literal["auto"]
    assert (mode.limits, spare.limits, spare.meaning) == ((), (), "")


@pytest.mark.parametrize(
    "settings",
    [
        {"shelves": 1, "heat": 1e-9, "open": 0, "damp": (), "timers": {"egg": 0}, "fan": 1, "mode": "grill"},
        {"heat": 7, "open": 1.0, "damp": [0, 0.999]},  # a whole number stands for another, a list for a tuple
    ],
)
def test_what_is_allowed_is_kept(settings: dict[str, Any]) -> None:
    oven = Oven(**settings)
    assert {name: getattr(oven, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shelves": 0}, "oven.shelves = 0: must be at least 1 and at most 2,000"),
        ({"shelves": True}, "oven.shelves = True: must be a whole number"),
        ({"shelves": 2.0}, "oven.shelves = 2.0: must be a whole number"),
        ({"heat": 0.0}, "oven.heat = 0.0: must be at least 1e-09 and at most 500"),
        ({"heat": math.nan}, "oven.heat = nan: must be a finite number"),
        ({"open": 1.5}, "oven.open = 1.5: must be in [0, 1]"),
        ({"open": "wide"}, "oven.open = 'wide': must be a finite number or None"),
        ({"damp": (0.1, 1.0)}, "oven.damp = (0.1, 1.0): must be in [0, 1)"),
        ({"damp": 0.1}, "oven.damp = 0.1: must be a list of finite numbers"),
        ({"timers": {"egg": 3, "tea": -1}}, "oven.timers.tea = -1: must be at least 0 (0: none) and at most 60"),
        ({"timers": {"egg": 2.5}}, "oven.timers = {'egg': 2.5}: must be a table of whole numbers"),
        ({"fan": 0}, "oven.fan = 0: must be at least 1 and at most 9"),
        ({"fan": "fast"}, "oven.fan = 'fast': must be a whole number or 'auto'"),
        ({"mode": "fry"}, "oven.mode = 'fry': must be one of 'bake', 'grill'"),
        ({"spare": None}, "oven.spare = None: must be a string"),
        (
            {"spare": "a\0lamp"},
            "oven.spare = 'a\\x00lamp': must be at most 1,000 characters, without control characters",
        ),
        (
            {"timers": {"e\x1bgg": 3}},
            "oven.timers = 'e\\x1bgg': must be at most 1,000 characters, without control characters",
        ),
        ({"shelves": 10**5000}, "oven.shelves = a number of some 5,000 digits: must be at least 1 and at most 2,000"),
    ],
)
def test_what_is_refused_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Oven(**settings)
    assert str(caught.value) == message


def test_another_error_may_be_raised_and_the_outermost_table_has_no_name() -> None:
    class Burnt(ValueError):
        pass

    oven = Oven()
    object.__setattr__(oven, "shelves", -1)
    with pytest.raises(Burnt, match=r"^shelves = -1: must be at least 1 and at most 2,000$"):
        check(oven, "", Burnt)


def test_what_is_too_long_is_refused_and_quoted_in_part() -> None:
    for settings in ({"damp": (0.1,) * (MOST_ENTRIES + 1)}, {"spare": "long" * 1000}, {"timers": {"x" * 1001: 1}}):
        with pytest.raises(ConfigError, match=r"must be (of )?at most 1,000") as caught:
            Oven(**settings)
        assert len(str(caught.value)) < 200
